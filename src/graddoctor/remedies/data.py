"""Standardise what goes in and what is compared with; shuffle what comes in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from graddoctor.nested import Path, leaves, mapped, mapped_with_path
from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import wrap_forward
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, loss_of, network_of

_BATCHES = 32
_FEWEST, _CLEARLY = 4, 5.0
_REACH = 10.0
"""No standardised value lies further out than so many standard deviations: a feature that hardly varies stays small."""

Moments = tuple[torch.Tensor, torch.Tensor]
"""Mean and standard deviation."""


def standardised_inputs() -> Remedy:
    """Shift and scale each input feature to mean 0 and standard deviation 1, inside the network.

    Features are the last axis of vectors and sequences, the channels of images. Statistics come from the recipe's own
    first batches.

    Source: LeCun, Bottou, Orr and Müller 1998, section 4.3.
    """

    def change(recipe: Recipe) -> Recipe:
        build = recipe.model
        moments = _input_moments(recipe)

        def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            args = tuple(_scaled(value, moments.get(k)) for k, value in enumerate(args))
            return forward(*args, **{k: _scaled(value, moments.get(k)) for k, value in kwargs.items()})

        def model(seed: int = recipe.seed) -> nn.Module:
            return wrap_forward(network_of(build, seed), wrapper)

        return recipe.with_(model=model)

    return Remedy("inputs standardised", (Cause.INPUT_SCALE,), change, "LeCun et al. 1998")


def standardised_targets() -> Remedy:
    """Train against targets of mean 0 and standard deviation 1; in eval mode the network answers in the old units.

    Targets are the floating tensors of a batch that do not reach the network; each is shifted and scaled as a whole.

    Source: LeCun, Bottou, Orr and Müller 1998, section 4.
    """

    def change(recipe: Recipe) -> Recipe:
        build, loss = recipe.model, recipe.loss
        moments = {path: (m.mean(), s.mean()) for path, (m, s) in target_moments(recipe).items()}
        mean, std = next(iter(moments.values()), (torch.tensor(0.0), torch.tensor(1.0)))

        def model(seed: int = recipe.seed) -> nn.Module:
            net = network_of(build, seed)

            def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
                output = forward(*args, **kwargs)
                return output if net.training or not isinstance(output, torch.Tensor) else output * std + mean

            return wrap_forward(net, wrapper)

        def scaled(net: nn.Module, batch: Any) -> torch.Tensor:
            return loss(net, _standardised(batch, moments))

        return recipe.with_(model=model, loss=scaled)

    return Remedy("targets standardised", (Cause.TARGET_SCALE,), change, "LeCun et al. 1998")


def shuffled(seed_shift: int = 104_729) -> Remedy:
    """Draw every batch at random from all samples, in batches of the same size as the first.

    Source: Bottou 2012, section 4.
    """

    def change(recipe: Recipe) -> Recipe:
        class Shuffled:
            def __init__(self) -> None:
                batches = list(BatchSource(recipe).epoch(0))
                self.whole = _cat(batches)
                self.size = _samples(batches[0])
                self.generator = torch.Generator().manual_seed(recipe.seed + seed_shift)

            def __len__(self) -> int:
                return math.ceil(_samples(self.whole) / self.size)

            def __iter__(self) -> Iterator[Any]:
                order = torch.randperm(_samples(self.whole), generator=self.generator)
                for part in torch.split(order, self.size):
                    yield _take(self.whole, part)

        return recipe.with_(batches=Shuffled)

    return Remedy("batches shuffled", (Cause.BATCHING,), change, "Bottou 2012")


def come_ordered(batches: Sequence[Any]) -> bool:
    """Whether the targets differ between batches by far more than drawing at random would make them.

    Drawn at random, means over n samples have 1/n of the variance of a sample; in order, nearly all of it.
    """
    targets = [tensors[-1][1] for batch in batches if (tensors := leaves(batch))]
    targets = [t.float().reshape(len(t), -1)[:, 0] for t in targets if t.ndim and len(t) > 1]
    if len(targets) < _FEWEST:
        return False
    size = sum(map(len, targets)) / len(targets)
    within = float(torch.cat(targets).var())
    between = float(torch.stack([t.mean() for t in targets]).var())
    return within > 0 and between > _CLEARLY * within / size and between > within / _CLEARLY


def target_moments(recipe: Recipe) -> dict[Path, Moments]:
    """Mean and standard deviation, over all entries, of the floating tensors of a batch that the network is not given.

    Returns
    -------
    By the way to the tensor in a batch, as `graddoctor.nested.leaves` has it. A tensor that reaches the network after
    some computation (a cast, a reshape, noise) counts as given.
    """
    batches = BatchSource(recipe).first(_BATCHES)
    given = _given(recipe, batches[0])
    paths = [p for p, t in leaves(batches[0]) if t.is_floating_point() and p not in given]
    found = {}
    for path in paths:
        values = torch.cat([dict(leaves(b))[path].flatten() for b in batches if path in dict(leaves(b))])
        found[path] = (values.mean(), values.std().clamp_min(1e-12))
    return found


def _given(recipe: Recipe, batch: Any) -> set[Path]:
    """Which floating tensors of a batch reach the network: by the gradient that would flow back to them."""
    handed: list[torch.Tensor] = []

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        handed.extend(_tensors((args, kwargs)))
        return forward(*args, **kwargs)

    def traced(path: Path, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        roots[path] = tensor.detach().requires_grad_()
        twins[path] = roots[path].clone()  # no leaf: it may be written to
        return twins[path]

    roots: dict[Path, torch.Tensor] = {}
    twins: dict[Path, torch.Tensor] = {}
    model = wrap_forward(build_model(recipe), wrapper)
    with seeded(recipe.seed), torch.enable_grad():
        loss_of(recipe, model, mapped_with_path(traced, batch))
        memory = {tensor.untyped_storage().data_ptr() for tensor in handed if tensor.layout is torch.strided}
        shared = {path for path, twin in twins.items() if twin.untyped_storage().data_ptr() in memory}
        ends = [tensor.float().sum() for tensor in handed if tensor.requires_grad]
        if not ends or not roots:
            return shared
        slopes = torch.autograd.grad(torch.stack(ends).sum(), list(roots.values()), allow_unused=True)
    followed = {path for path, slope in zip(roots, slopes, strict=True) if slope is not None}
    return followed | shared


def _input_moments(recipe: Recipe) -> dict[Any, Moments]:
    seen: dict[Any, list[torch.Tensor]] = {}

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        for k, value in (*enumerate(args), *kwargs.items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                seen.setdefault(k, []).append(value.detach())
        return forward(*args, **kwargs)

    model = wrap_forward(build_model(recipe), wrapper)
    with seeded(recipe.seed), torch.enable_grad():  # losses may want gradients of their own
        for batch in BatchSource(recipe).first(_BATCHES):
            loss_of(recipe, model, batch)
    return {k: _moments(values) for k, values in seen.items()}


def _moments(values: list[torch.Tensor]) -> Moments:
    axes = values[0].ndim
    image = axes >= 4  # noqa: PLR2004 - batch, channel, height, width
    rows = [v.movedim(1, -1) if image else v for v in values]
    flat = torch.cat([r.reshape(-1, r.shape[-1]) if r.ndim > 1 else r.reshape(-1, 1) for r in rows])
    mean = flat.mean(0)
    std = torch.maximum(flat.std(0), (flat - mean).abs().amax(0) / _REACH)
    std = torch.where(std > 0, std, torch.ones_like(std))
    shape = (-1, *[1] * (axes - 2)) if image else (-1,)
    return (mean.view(shape), std.view(shape)) if axes > 1 else (mean, std)


def _scaled(value: Any, moments: Moments | None) -> Any:
    if moments is None or not isinstance(value, torch.Tensor):
        return value
    return (value - moments[0]) / moments[1]


def _tensors(thing: Any) -> list[torch.Tensor]:
    return [tensor for _, tensor in leaves(thing)]


def _standardised(thing: Any, moments: dict[Path, Moments]) -> Any:
    def scaled(path: Path, tensor: torch.Tensor) -> torch.Tensor:
        return (tensor - moments[path][0]) / moments[path][1] if path in moments else tensor

    return mapped_with_path(scaled, thing)


def _samples(thing: Any) -> int:
    return len(_tensors(thing)[0])


def _cat(batches: list[Any]) -> Any:
    """Join batches along their first axis.

    Raises
    ------
    TypeError
        They hold no tensor that could be shuffled.
    """
    if not leaves(batches[0]):
        msg = f"cannot shuffle batches of type {type(batches[0]).__name__}: they hold no tensor"
        raise TypeError(msg)
    parts = [dict(leaves(batch)) for batch in batches]
    return mapped_with_path(lambda path, _: torch.cat([part[path] for part in parts]), batches[0])


def _take(thing: Any, rows: torch.Tensor) -> Any:
    return mapped(lambda tensor: tensor[rows], thing)
