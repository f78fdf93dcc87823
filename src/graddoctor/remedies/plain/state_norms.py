"""A penalty on recurrent weights that let the gradient fade or grow on its way through time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

RecordedCall = tuple[Any, torch.Tensor, Any, torch.Tensor, torch.Tensor]


def keep_state_gradients(
    model: nn.Module,
    batch: Any,
    original: Callable[..., Any],
    *,
    names: Iterable[str],
    strength: float,
) -> Any:
    """Add the gradient of a penalty on how the named `nn.RNN` layers change the gradient's norm.

    The penalty is `strength` times the sum over time of (‖δ J‖ / ‖δ‖ - 1)², where δ is the loss's
    gradient at a state and J the state's derivative by the one before it (Pascanu et al. 2013,
    equation 9). As there, states and δ are held fixed, so that it acts on the recurrent weights
    alone. The value of the loss stays that of your own.
    """
    if not (model.training and torch.is_grad_enabled()):
        return original(model, batch)
    with recorded_calls(model, names) as calls:
        loss = original(model, batch)
    penalty = strength * change_of_norms(loss, calls)
    return loss + (penalty - penalty.detach())


@contextmanager
def recorded_calls(model: nn.Module, names: Iterable[str]) -> Iterator[list[RecordedCall]]:
    """Keep what the named layers are given and give, while the block runs."""
    calls: list[RecordedCall] = []

    def keep(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
        calls.append((module, given["input"], given.get("hx"), *result))

    handles = [
        model.get_submodule(name).register_forward_hook(keep, prepend=True, with_kwargs=True)
        for name in names
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def change_of_norms(loss: torch.Tensor, calls: list[RecordedCall]) -> torch.Tensor:
    """Sum (‖δ J‖ / ‖δ‖ - 1)² over steps and layers; of a batch, the mean over its samples."""
    total = torch.zeros((), device=loss.device)
    outcomes = [tensor for call in calls for tensor in call[3:] if tensor.requires_grad]
    if not outcomes or not loss.requires_grad:
        return total
    slopes = torch.autograd.grad(loss, outcomes, retain_graph=True, allow_unused=True)
    found = {
        id(one): slope for one, slope in zip(outcomes, slopes, strict=True) if slope is not None
    }
    for module, given, hx, output, last in calls:
        direct = found.get(id(output), torch.zeros_like(output))
        at_end = found.get(id(last), torch.zeros_like(last))
        states = [*lower_states(module, time_first(module, given), hx), time_first(module, output)]
        total = total + change_in_layers(module, states, time_first(module, direct), at_end)
    return total


def change_in_layers(
    module: Any, states: list[torch.Tensor], direct: torch.Tensor, at_end: torch.Tensor
) -> torch.Tensor:
    """Sum over the layers of one call, from the last to the first."""
    total = torch.zeros((), device=direct.device)
    for layer in reversed(range(module.num_layers)):
        state = states[layer].detach()
        slopes = (state > 0).to(state) if module.nonlinearity == "relu" else 1 - state**2
        weight = getattr(module, f"weight_hh_l{layer}")
        end = at_end[layer].view_as(direct[-1]).to(direct)
        with torch.no_grad():
            deltas = state_gradients(weight, slopes, direct, end)
            direct = (deltas * slopes) @ getattr(module, f"weight_ih_l{layer}")
        total = total + departure(weight, deltas[1:], slopes[1:])
    return total


def departure(weight: torch.Tensor, deltas: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    """Sum of (‖δ J‖ / ‖δ‖ - 1)² over steps; a δ of zero has no norm to keep."""
    norms = deltas.norm(dim=-1, keepdim=True)
    alive = norms > torch.finfo(norms.dtype).tiny
    units = torch.where(alive, deltas / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)
    ratios = (units * slopes @ weight).norm(dim=-1, keepdim=True)
    return torch.where(alive, (ratios - 1) ** 2, 0.0).mean(1).sum()


def state_gradients(
    weight: torch.Tensor, slopes: torch.Tensor, direct: torch.Tensor, end: torch.Tensor
) -> torch.Tensor:
    """Carry the loss's gradient back through time, from where it enters each state directly."""
    deltas = [direct[-1] + end]
    for slope, entering in zip(slopes[1:].flip(0), direct[:-1].flip(0), strict=True):
        deltas.append(entering + (deltas[-1] * slope) @ weight)
    return torch.stack(deltas[::-1])


@torch.no_grad()
def lower_states(module: Any, x: torch.Tensor, hx: Any) -> list[torch.Tensor]:
    """Compute the states of all layers but the last, which a layer does not give."""
    activate, found = torch.relu if module.nonlinearity == "relu" else torch.tanh, []
    for layer in range(module.num_layers - 1):
        state = x.new_zeros(x.shape[1], module.hidden_size) if hx is None else hx[layer].to(x)
        weights = [getattr(module, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh")]
        shift = sum(
            getattr(module, f"bias_{kind}_l{layer}") for kind in ("ih", "hh") if module.bias
        )
        states = []
        for entering in x @ weights[0].T + shift:
            state = activate(entering + state @ weights[1].T)
            states.append(state)
        x = torch.stack(states)
        found.append(x)
    return found


def time_first(module: Any, sequence: torch.Tensor) -> torch.Tensor:
    """Order a sequence as (steps, batch, features), in the precision of the weights."""
    sequence = sequence.to(module.weight_hh_l0.dtype)
    if sequence.ndim < 3:
        return sequence.unsqueeze(1)
    return sequence.transpose(0, 1) if module.batch_first else sequence
