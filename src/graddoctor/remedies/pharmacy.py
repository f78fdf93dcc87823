"""The pharmacy: which remedies address which cause, the customary ones first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from graddoctor.remedies import (
    activation,
    attention,
    clipping,
    data,
    decay,
    depth,
    gating,
    graph,
    initialization,
    logits,
    norm_places,
    normalised_cells,
    normalization,
    optimizer,
    penalty,
    precision,
    recurrent_start,
    residual,
    schedule,
    state_norms,
    transformer_start,
    truncation,
)
from graddoctor.remedies.edit import Part
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

Prescriber = Callable[[Facts], Remedy | Iterable[Remedy] | None]

PHARMACY: Mapping[Cause, tuple[Prescriber, ...]] = {
    Cause.INITIALIZATION: (
        initialization.critical,
        *recurrent_start.RECURRENT_STARTS,
        attention.quiet_logits,
        transformer_start.unit_embeddings,
        *initialization.INITIALIZATIONS[1:4],
        transformer_start.depth_scaled,
        *initialization.INITIALIZATIONS[4:],
    ),
    Cause.ACTIVATION: (activation.activation_swaps,),
    Cause.OUTPUT_ACTIVATION: (
        activation.without_output_activation,
        logits.on_logits,
        activation.sigmoid_at_output,
    ),
    Cause.INPUT_SCALE: (data.standardised_input,),
    Cause.TARGET_SCALE: (data.standardised_target,),
    Cause.LOSS: (logits.on_logits, penalty.unpenalised),
    Cause.LEARNING_RATE: (optimizer.one_rate, schedule.warmed_up),
    Cause.MOMENTUM: (optimizer.momentum,),
    Cause.SCHEDULE: (schedule.constant, schedule.cosine, schedule.warmed_up),
    Cause.OPTIMIZER: (optimizer.epsilon, optimizer.momentum, optimizer.optimizers),
    Cause.CLIPPING: (clipping.clip_lifted, clipping.clip_raised, graph.hooks_off, clipping.clipping),
    Cause.WEIGHT_DECAY: (
        decay.decay_lifted,
        decay.decay_lowered,
        penalty.unpenalised,
        decay.decay_off_biases,
        decay.decay_added,
    ),
    Cause.BATCHING: (data.shuffled,),
    Cause.PRECISION: (
        precision.float32_throughout,
        precision.loss_scaled,
        precision.master_weights,
        precision.bfloat16_autocast,
    ),
    Cause.NORMALIZATION: (
        norm_places.norm_epsilon,
        normalization.normalised,
        normalization.pre_layernorm,
        norm_places.pre_norms,
        attention.qk_normalised,
        normalised_cells.normalised_cell,
    ),
    Cause.DEPTH: (residual.residuals, depth.fewer_layers),
    Cause.RECURRENCE: (gating.gated_cells, truncation.truncated, state_norms.state_gradients_kept),
    Cause.GATES: (gating.gates_opened, gating.forget_bias),
    Cause.GRAPH: (graph.nothing_detached, optimizer.held, graph.everything_trained),
}
"""Causes without an entry have no remedy yet."""

OWN_RATE = frozenset(
    {
        Cause.INITIALIZATION,
        Cause.ACTIVATION,
        Cause.OUTPUT_ACTIVATION,
        Cause.INPUT_SCALE,
        Cause.TARGET_SCALE,
        Cause.LOSS,
        Cause.PRECISION,
        Cause.NORMALIZATION,
        Cause.DEPTH,
        Cause.OPTIMIZER,
        Cause.RECURRENCE,
        Cause.GATES,
    }
)
"""Changes of these change the scale of the step, and with it the rate that suits."""

_KEPT: Mapping[str, frozenset[Cause]] = {
    "architecture": frozenset(
        {Cause.ACTIVATION, Cause.OUTPUT_ACTIVATION, Cause.NORMALIZATION, Cause.DEPTH, Cause.WIDTH, Cause.RECURRENCE}
    ),
    "weights": frozenset({Cause.INITIALIZATION, Cause.GATES}),
    "optimizer": frozenset(
        {Cause.LEARNING_RATE, Cause.MOMENTUM, Cause.SCHEDULE, Cause.OPTIMIZER, Cause.CLIPPING, Cause.WEIGHT_DECAY}
    ),
    "loss": frozenset({Cause.LOSS, Cause.TARGET_SCALE}),
    "data": frozenset({Cause.INPUT_SCALE, Cause.TARGET_SCALE, Cause.BATCHING}),
}
_KEPT_PARTS: Mapping[str, frozenset[Part]] = {
    "optimizer": frozenset({"optimizer", "scheduler", "clip", "epochs"}),
    "loss": frozenset({"loss"}),
    "data": frozenset({"batches"}),
}
KEEPABLE = tuple(_KEPT)
"""What a user may ask to be left alone."""


def prescribe(cause: Cause, facts: Facts, failed: list[tuple[str, str]]) -> list[Remedy]:
    """Collect the remedies for one cause that make sense for this network.

    Parameters
    ----------
    failed
        A prescriber that raises is named here with what it raised: it is lost, and nothing else.
    """
    found: list[Remedy] = []
    for prescriber in PHARMACY.get(cause, ()):
        try:
            answer = prescriber(facts)
            found += [answer] if isinstance(answer, Remedy) else list(answer or ())
        except Exception as error:  # noqa: BLE001 - a network that one remedy does not understand can have another
            failed.append((prescriber.__name__, f"{type(error).__name__}: {error}"))
    return list({remedy.name: remedy for remedy in found}.values())


def respects(remedy: Remedy, keep: Collection[str]) -> bool:
    """Whether a remedy leaves alone what is to be kept: by what it is against, and by what it edits.

    A loss that is computed in another precision is the same loss.
    """
    return all(_respects(one, part) for one in remedy.each for part in keep)


def _respects(remedy: Remedy, part: str) -> bool:
    edited = {edit.part for edit in remedy.edits}
    if Cause.PRECISION in remedy.causes:
        edited.discard("loss")
    return _KEPT[part].isdisjoint(remedy.causes) and _KEPT_PARTS.get(part, frozenset()).isdisjoint(edited)
