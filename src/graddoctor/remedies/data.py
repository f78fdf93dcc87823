"""Standardise what goes in and what is compared with; shuffle what comes in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from graddoctor.nested import Path, leaves, mapped_with_path
from graddoctor.randomness import kept_random_state, seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit, edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.moments import InputScale, input_scales, rounded, target_moments
from graddoctor.remedies.plain.loaders import shuffle_batches
from graddoctor.remedies.plain.scaling import answer_in_units, standardise_input, standardised_loss
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, loss_of

_FEWEST, _CLEARLY = 4, 5.0
_ORDER_BATCHES = 256
_SPREAD, _OFFSET = (0.1, 10.0), 3.0
_SAME = 1e-3


def standardised_inputs() -> Remedy:
    """Shift and scale each input feature to mean 0 and standard deviation 1, inside the network.

    Features are the last axis of vectors and sequences, the channels of images. Statistics come from the recipe's own
    first batches.

    Source: LeCun, Bottou, Orr and Müller 1998, section 4.3.
    """

    def change(recipe: Recipe) -> Recipe:
        return edited(recipe, _input_edits(recipe, input_scales(recipe)))

    return Remedy("inputs standardised", (Cause.INPUT_SCALE,), change, "LeCun et al. 1998")


def standardised_input(facts: Facts) -> Remedy | None:
    """Shift and scale the inputs that are out of scale; ``None`` where all are ordinary, or whole numbers."""
    odd = [scale for scale in input_scales(facts.recipe) if not scale.ordinary]
    if not odd:
        return None
    edits = _input_edits(facts.recipe, odd)
    return Remedy.written("inputs standardised", (Cause.INPUT_SCALE,), edits, source="LeCun et al. 1998")


def _input_edits(recipe: Recipe, scales: Sequence[InputScale]) -> list[Edit]:
    model = build_model(recipe)
    return [_input_edit(model, scale, alone=len(scales) == 1) for scale in scales]


def _input_edit(model: nn.Module, scale: InputScale, *, alone: bool) -> Edit:
    mean, std = scale.literals()
    prefix = "input" if alone else f"input_{scale.position if scale.keyword is None else scale.keyword}"
    while hasattr(model, f"{prefix}_mean") or hasattr(model, f"{prefix}_std"):
        prefix = f"standard_{prefix}"
    arguments = {"mean": mean, "std": std, "position": scale.position, "keyword": scale.keyword, "prefix": prefix}
    if isinstance(std, list):
        arguments["trailing_axes"] = scale.seen.trailing
    note = "Mean and deviation of the inputs, from the first batches."
    if scale.missing is not None:
        arguments["missing"] = scale.missing
        note += f" {scale.missing:g} stands for a missing value and becomes the mean."
    if scale.nan_is_missing:
        arguments["nan_is_missing"] = True
        note += " NaN becomes the mean."
    return Edit("model", standardise_input, arguments, note)


def standardised_targets() -> Remedy:
    """Train against targets of mean 0 and standard deviation 1; the network answers in the old units.

    Targets are the floating tensors of a batch that do not reach the network. The one that the output is compared with
    is shifted and scaled as a whole.

    Source: LeCun, Bottou, Orr and Müller 1998, section 4.
    """

    def change(recipe: Recipe) -> Recipe:
        return edited(recipe, _target_edits(recipe))

    return Remedy("targets standardised", (Cause.TARGET_SCALE,), change, "LeCun et al. 1998")


def standardised_target(facts: Facts) -> Remedy | None:
    """Train against a target of mean 0 and deviation 1; ``None`` where that is not the same loss in other units.

    The loss must not change when output and target are shifted alike. Squared, absolute and Huber errors do not, cross
    entropies, relative errors and likelihoods with a predicted spread do.
    """
    edits = _target_edits(facts.recipe)
    if not edits:
        return None
    mean, std = edits[0].arguments["mean"], edits[0].arguments["std"]
    low, high = _SPREAD
    ordinary = low <= std <= high and abs(mean) <= _OFFSET * std
    if ordinary or not _sees_differences_only(facts.recipe, edits[1].arguments["target"], std):
        return None
    return Remedy.written("targets standardised", (Cause.TARGET_SCALE,), edits, source="LeCun et al. 1998")


def _target_edits(recipe: Recipe) -> list[Edit]:
    """The two edits that standardise the target; none where there is no single one or no place for its moments."""
    found = target_moments(recipe)
    path = _compared_with_output(recipe, list(found))
    if path is None:
        return []
    mean, std = rounded(*(float(moment) for moment in found[path]))
    note = "The network answers in the units of the target, except inside the loss."
    return [
        Edit("model", answer_in_units, {"mean": mean, "std": std}, note),
        Edit("loss", standardised_loss, {"target": path}),
    ]


def _compared_with_output(recipe: Recipe, paths: list[Path]) -> Path | None:
    """Which floating tensor of a batch has as many entries as the network's output; ``None``: none, or several."""
    outputs: list[Any] = []
    model = build_model(recipe)
    if hasattr(model, "target_mean") or hasattr(model, "target_std"):
        return None
    model.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    batch = BatchSource(recipe).first(1)[0]
    with seeded(recipe.seed), torch.enable_grad():
        loss_of(recipe, model, batch)
    if not outputs or not all(isinstance(output, torch.Tensor) for output in outputs):
        return None
    sizes = {output.numel() for output in outputs}
    fitting = [path for path, tensor in leaves(batch) if path in paths and tensor.numel() in sizes]
    return fitting[0] if len(fitting) == 1 else None


def _sees_differences_only(recipe: Recipe, path: Path, shift: float) -> bool:
    """Whether a loss stays the same when the outputs and the target are shifted by the same number."""
    plain, *others = (_shifted_loss(recipe, path, by) for by in (0.0, shift, -2.0 * shift))
    return all(math.isfinite(value) and abs(value - plain) <= _SAME * abs(plain) for value in others)


def _shifted_loss(recipe: Recipe, path: Path, by: float) -> float:
    batch = BatchSource(recipe).first(1)[0]
    model = build_model(recipe)
    model.register_forward_hook(lambda _m, _i, output: output + by)
    shifted = mapped_with_path(lambda p, tensor: tensor + by if p == path else tensor, batch)
    with seeded(recipe.seed), torch.enable_grad():
        return float(loss_of(recipe, model, shifted).detach())


@overload
def shuffled(facts: None = None) -> Remedy: ...
@overload
def shuffled(facts: Facts) -> Remedy | None: ...
def shuffled(facts: Facts | None = None) -> Remedy | None:
    """Draw every batch at random from all samples; ``None`` where they come in no order.

    Source: Bottou 2012, section 4.

    Parameters
    ----------
    facts
        Without them the remedy is made whatever the order, for an experiment.

    Raises
    ------
    TypeError
        The batches hold something that cannot be dealt anew, such as one string each.
    """
    if facts is not None:
        batches = facts.recipe.batches
        with kept_random_state():
            source = batches() if callable(batches) else batches
        random = isinstance(source, DataLoader) and isinstance(source.sampler, RandomSampler)
        if random or not come_ordered(BatchSource(facts.recipe).first(_ORDER_BATCHES)):
            return None
        BatchSource(_SHUFFLED(facts.recipe)).first(1)
    return _SHUFFLED


_SHUFFLED = Remedy.written(
    "batches shuffled", (Cause.BATCHING,), [Edit("batches", shuffle_batches)], source="Bottou 2012"
)


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
