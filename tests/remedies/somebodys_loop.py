"""The loop of somebody who has never heard of graddoctor: model, loss, batches, optimizer, scheduler, clip, epochs."""

import inspect

import torch


def plain_loop(recipe, seed=0):
    """Train, and return the losses and the network."""
    torch.manual_seed(seed)
    batches = recipe.batches() if callable(recipe.batches) else recipe.batches
    takes_seed = "seed" in inspect.signature(recipe.model).parameters
    model = recipe.model(seed=seed) if takes_seed else recipe.model()
    optimizer = recipe.optimizer(model)
    scheduler = recipe.scheduler(optimizer) if recipe.scheduler else None
    losses = []
    for _ in range(recipe.epochs):
        for batch in batches:
            optimizer.zero_grad()
            loss = recipe.loss(model, batch)
            loss.backward()
            if recipe.clip:
                recipe.clip([p for p in model.parameters() if p.grad is not None])
            optimizer.step()
            if scheduler:
                scheduler.step()
            losses.append(float(loss.detach()))
    return losses, model
