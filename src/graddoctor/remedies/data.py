"""Standardise what goes in and what is compared with; shuffle what comes in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from graddoctor.randomness import kept_random_state
from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import wrap_forward
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, loss_of, takes

_BATCHES = 32
_FEWEST, _CLEARLY = 4, 5.0
_REACH = 10.0
"""No standardised value lies further out than so many standard deviations: a feature that hardly varies stays small."""

Path = tuple[Any, ...]


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
            return wrap_forward(build(seed=seed) if takes(build, "seed") else build(), wrapper)

        return recipe.with_(model=model)

    return Remedy("inputs standardised", (Cause.INPUT_SCALE,), change, "LeCun et al. 1998")


def standardised_targets() -> Remedy:
    """Train against targets of mean 0 and standard deviation 1; in eval mode the network answers in the old units."""

    def change(recipe: Recipe) -> Recipe:
        build, loss = recipe.model, recipe.loss
        moments = {path: (m.mean(), s.mean()) for path, (m, s) in target_moments(recipe).items()}
        mean, std = next(iter(moments.values()), (torch.tensor(0.0), torch.tensor(1.0)))

        def model(seed: int = recipe.seed) -> nn.Module:
            net = build(seed=seed) if takes(build, "seed") else build()

            def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
                output = forward(*args, **kwargs)
                return output if net.training or not isinstance(output, torch.Tensor) else output * std + mean

            return wrap_forward(net, wrapper)

        def scaled(net: nn.Module, batch: Any) -> torch.Tensor:
            return loss(net, _replace(batch, moments))

        return recipe.with_(model=model, loss=scaled)

    return Remedy("targets standardised", (Cause.TARGET_SCALE,), change, "LeCun et al. 1998")


def shuffled(seed_shift: int = 104_729) -> Remedy:
    """Draw every batch at random from all samples, in batches of the same size."""

    def change(recipe: Recipe) -> Recipe:
        class Shuffled:
            def __init__(self) -> None:
                batches = list(BatchSource(recipe).epoch(0))
                self.size = _samples(batches[0])
                self.whole = _cat(batches)
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


def leaves(thing: Any, path: Path = ()) -> list[tuple[Path, torch.Tensor]]:
    """Return the tensors of a batch with the way to each."""
    if isinstance(thing, torch.Tensor):
        return [(path, thing)]
    if isinstance(thing, dict):
        return [leaf for k, v in thing.items() for leaf in leaves(v, (*path, k))]
    if isinstance(thing, (tuple, list)):
        return [leaf for k, v in enumerate(thing) for leaf in leaves(v, (*path, k))]
    return []


def target_moments(recipe: Recipe) -> dict[Path, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and standard deviation of the floating tensors of a batch that the network is never given."""
    given: set[int] = set()

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        given.update(map(id, _tensors((args, kwargs))))
        return forward(*args, **kwargs)

    model = wrap_forward(build_model(recipe), wrapper)
    batches = BatchSource(recipe).first(_BATCHES)
    with kept_random_state(), torch.no_grad():
        loss_of(recipe, model, batches[0])
    paths = [p for p, t in leaves(batches[0]) if t.is_floating_point() and id(t) not in given]
    found = {}
    for path in paths:
        values = torch.cat([dict(leaves(b))[path].flatten() for b in batches if path in dict(leaves(b))])
        found[path] = (values.mean(), values.std().clamp_min(1e-12))
    return found


def _input_moments(recipe: Recipe) -> dict[Any, tuple[torch.Tensor, torch.Tensor]]:
    seen: dict[Any, list[torch.Tensor]] = {}

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        for k, value in (*enumerate(args), *kwargs.items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                seen.setdefault(k, []).append(value.detach())
        return forward(*args, **kwargs)

    model = wrap_forward(build_model(recipe), wrapper)
    with kept_random_state(), torch.no_grad():
        for batch in BatchSource(recipe).first(_BATCHES):
            loss_of(recipe, model, batch)
    return {k: _moments(values) for k, values in seen.items()}


def _moments(values: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    image = values[0].ndim == 4  # noqa: PLR2004 - batch, channel, height, width
    rows = [v.movedim(1, -1) if image else v for v in values]
    flat = torch.cat([r.reshape(-1, r.shape[-1]) if r.ndim > 1 else r.reshape(-1, 1) for r in rows])
    mean = flat.mean(0)
    std = torch.maximum(flat.std(0), (flat - mean).abs().amax(0) / _REACH)
    std = torch.where(std > 0, std, torch.ones_like(std))
    return (mean.view(-1, 1, 1), std.view(-1, 1, 1)) if image else (mean, std)


def _scaled(value: Any, moments: tuple[torch.Tensor, torch.Tensor] | None) -> Any:
    if moments is None or not isinstance(value, torch.Tensor):
        return value
    return (value - moments[0]) / moments[1]


def _tensors(thing: Any) -> list[torch.Tensor]:
    return [tensor for _, tensor in leaves(thing)]


def _replace(thing: Any, moments: dict[Path, tuple[torch.Tensor, torch.Tensor]], path: Path = ()) -> Any:
    if isinstance(thing, torch.Tensor):
        return (thing - moments[path][0]) / moments[path][1] if path in moments else thing
    if isinstance(thing, dict):
        return {k: _replace(v, moments, (*path, k)) for k, v in thing.items()}
    if isinstance(thing, (tuple, list)) and not hasattr(thing, "_fields"):
        return type(thing)(_replace(v, moments, (*path, k)) for k, v in enumerate(thing))
    return thing


def _samples(thing: Any) -> int:
    return len(_tensors(thing)[0])


def _cat(batches: list[Any]) -> Any:
    first = batches[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(batches)
    if isinstance(first, dict):
        return {k: _cat([b[k] for b in batches]) for k in first}
    if isinstance(first, (tuple, list)) and not hasattr(first, "_fields"):
        return type(first)(_cat([b[k] for b in batches]) for k in range(len(first)))
    msg = f"cannot shuffle batches of type {type(first).__name__}"
    raise TypeError(msg)


def _take(thing: Any, rows: torch.Tensor) -> Any:
    if isinstance(thing, torch.Tensor):
        return thing[rows]
    if isinstance(thing, dict):
        return {k: _take(v, rows) for k, v in thing.items()}
    return type(thing)(_take(v, rows) for v in thing)
