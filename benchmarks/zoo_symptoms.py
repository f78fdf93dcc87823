"""The symptoms of a training, by fixed rules, measured without any diagnosis tool.

Read on 256 samples at the start, after an eighth of the steps and at the end.

- ``SATURATION``: half of the values after some squashing function lie where its slope is under a tenth of its top.
- ``DEAD_UNITS``: half of the units after some rectifier are zero for every sample.
- ``VANISHING``: the gradient at the first layer's output is under 1/1000 of the last hidden one's (RMS).
- ``EXPLODING``: it is over a thousand times that, or the forward signal grows a thousandfold, or the gradient norm is
  over a thousand times the twin's largest, or the loss overflows. A nan alone is ``NON_FINITE`` only.
- ``POOR_INITIALIZATION``, at the start: identical units, 30 % of the weight gradients exactly zero, a thousandfold
  change
  of the signal, or a loss over 25 (and over 25 times the constant's).
- ``DISCONNECTED``: a parameter whose gradient is missing or zero at all three, or that no optimizer holds.
- ``UNSCALED_INPUT``: what the first layer reads is over 20, under 0.01 (RMS), off its centre by ten spreads, or has
  columns whose spreads differ a hundredfold.
- ``PLATEAU``: the epoch loss falls by less than 5 % over the run, or over its last third while the twin is 0.2 of the
  progress ahead.
- ``OSCILLATION``: the step losses of the last third spread by 30 % of their mean and 1.5 times the twin's, or the epoch
  loss rises, by 2 % at least, in 30 % of the late epochs and not so for the twin.
- ``UNDERFLOW``: in low precision, half of the updates change nothing or 30 % of gradients are zero, twice the twin's.
- ``RECURRENT_VANISHING``, ``RECURRENT_EXPLODING``: in a recurrent network the gradient at the first step is under
  1/1000 of that at the last, or over 1000 times (``zoo_time``). Of a layer that is called at every step, the rules
  above see the last call; a unit is dead if it is zero at every step.
- ``DEGRADATION``, where the twin has shortcuts or fewer layers: at finite loss, the metric on the training batches is
  0.10 behind the twin's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from graddoctor.recipe import Recipe
from graddoctor.terms import Condition
from zoo_loop import Run, autocast, batches
from zoo_time import first_against_last

aten = torch.ops.aten
_LAYERS = {functional.linear, torch.conv2d, functional.conv2d, functional.embedding}
_LOW = {torch.float16, torch.bfloat16}


def _at_ends(y: torch.Tensor) -> torch.Tensor:
    return (y <= y.min()) | (y >= y.max())


_FLAT: Mapping[Any, Callable[[torch.Tensor], torch.Tensor]] = {
    aten.sigmoid.default: lambda y: y * (1 - y) < 0.025,
    aten.tanh.default: lambda y: 1 - y * y < 0.1,
    aten.sigmoid_.default: lambda y: y * (1 - y) < 0.025,
    aten.tanh_.default: lambda y: 1 - y * y < 0.1,
    aten._softmax.default: lambda y: y * (1 - y) < 0.025,  # noqa: SLF001 - the operator's own name
    aten.hardtanh.default: _at_ends,
    aten.hardsigmoid.default: lambda y: (y <= 0) | (y >= 1),
}
_RECTIFIERS = {aten.relu.default, aten.threshold.default, aten.hardtanh.default}


@dataclass
class Symptoms:
    """What one look at a network showed; extremes over layers."""

    flat: float = 0.0
    dead: float = 0.0
    ratio: float | None = None
    growth: float = 1.0
    change: float = 1.0
    zero_gradients: float = 0.0
    untouched: frozenset[str] = frozenset()
    twins: bool = False
    loss: float = 0.0
    low: bool = False
    input_odd: bool = False
    lag: float | None = None


class _Layers(TorchFunctionMode):
    """Keeps the outputs of the layers, with their gradients, and the input of the first one; the last call of each."""

    def __init__(self, *, last_call: bool = False) -> None:
        super().__init__()
        self.last_call = last_call
        self.calls: dict[int, torch.Tensor] = {}
        self.input: torch.Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _LAYERS:
            if not self.calls and args[0].is_floating_point():
                self.input = args[0].detach()
            if result.requires_grad:
                result.retain_grad()
            key = id(args[1]) if self.last_call else len(self.calls)
            self.calls.pop(key, None)
            self.calls[key] = result
        return result

    @property
    def outputs(self) -> list[torch.Tensor]:
        """What the layers gave, in the order of their (last) calls."""
        return list(self.calls.values())


class _Units(TorchDispatchMode):
    """Reads the outputs of squashing functions and rectifiers as they are made."""

    def __init__(self, *, over_time: bool = False) -> None:
        super().__init__()
        self.over_time = over_time
        self.flat: list[tuple[Any, torch.Size, float]] = []
        self.silent: dict[Any, torch.Tensor] = {}
        self.low = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.low |= result.dtype in _LOW
        if func in _FLAT:
            self.flat.append((func, result.shape, float(_FLAT[func](result).float().mean())))
        if func in _RECTIFIERS and (func is not aten.hardtanh.default or args[1] >= 0):
            units = result.movedim(1, -1) if result.dim() == 4 else result
            silent = (units == 0).flatten(0, -2).all(0)
            key = units.shape if self.over_time else len(self.silent)
            self.silent[key] = self.silent.get(key, silent) & silent
        return result

    @property
    def dead(self) -> float:
        """The largest share of units, after one rectifier, that were zero for all samples (and steps)."""
        return max((float(silent.float().mean()) for silent in self.silent.values()), default=0.0)


def probe_batch(recipe: Recipe, seed: int, rows: int = 256) -> tuple[torch.Tensor, ...]:
    """Join batches until there are enough rows; sorted loaders are read with a stride."""
    parts = list(batches(recipe, seed))
    stride = max(1, len(parts) * len(parts[0][0]) // rows)
    chosen = parts[::stride] if stride < len(parts) else parts
    return tuple(torch.cat([part[i] for part in chosen])[:rows] for i in range(len(parts[0])))


def _rms(x: torch.Tensor) -> float:
    """Root mean square of what is a number; infinite if anything is."""
    values = x.detach().double()
    if bool(torch.isinf(values).any()):
        return math.inf
    numbers = values[torch.isfinite(values)]
    return float(numbers.square().mean().sqrt()) if len(numbers) else 0.0


def _odd(x: torch.Tensor) -> bool:
    rows = x.double().flatten(1)
    spreads = rows.std(0)
    spreads = spreads[spreads > 1e-12 * spreads.max()]
    spread = float(rows.std())
    uneven = len(spreads) > 1 and float(spreads.quantile(0.95) / spreads.quantile(0.05)) > 100
    lone = len(spreads) > 1 and float(spreads.max() / spreads.median()) > 100
    off = abs(float(rows.mean())) > 10 * spread
    return float(rows.abs().max()) > 20 or _rms(rows) < 0.01 or uneven or lone or off


def _identical_units(model: nn.Module) -> bool:
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    rows = [m.weight.detach().flatten(1) for m in layers[:-1] if len(m.weight) > 1]
    return any(bool((w == w[0]).all()) for w in rows)


def look(recipe: Recipe, model: nn.Module, seed: int, *, recurrent: bool = False) -> Symptoms:
    """Send 256 samples through the network and back, and put everything back.

    A recurrent network runs without fused kernels, so that its gates are seen.
    """
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    batch = probe_batch(recipe, seed)
    model.zero_grad(set_to_none=True)
    layers, units = _Layers(last_call=recurrent), _Units(over_time=recurrent)
    with torch.backends.mkldnn.flags(enabled=not recurrent):
        with autocast(recipe), layers, units:
            loss = recipe.loss(model, batch)
        with units:
            loss.backward()
    seen = Symptoms(loss=float(loss.detach()), low=units.low, twins=_identical_units(model))
    found = units.flat[:-1] if units.flat and _is_output(units.flat[-1], layers) else units.flat
    seen.flat = max((share for _, _, share in found), default=0.0)
    seen.dead = units.dead
    _signals(seen, layers.outputs)
    read = _steps(batch[0]) if recurrent else layers.input
    seen.input_odd = read is not None and _odd(read)
    _gradients(seen, model)
    seen.lag = first_against_last(recipe, model, batch) if recurrent else None
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
    torch.set_rng_state(random)
    return seen


def _steps(sequences: torch.Tensor) -> torch.Tensor | None:
    """Return what a recurrent network reads, one row a step; nothing for tokens."""
    return sequences.flatten(0, 1) if sequences.is_floating_point() else None


def _is_output(last: tuple[Any, torch.Size, float], layers: _Layers) -> bool:
    softmax = last[0] is aten._softmax.default  # noqa: SLF001 - the operator's own name
    return softmax and bool(layers.outputs) and last[1] == layers.outputs[-1].shape


def _signals(seen: Symptoms, outputs: list[torch.Tensor]) -> None:
    hidden = [x for x in outputs[:-1] if x.grad is not None]
    if len(hidden) > 1 and hidden[-1].grad is not None and _rms(hidden[-1].grad) > 0:
        seen.ratio = _rms(hidden[0].grad) / _rms(hidden[-1].grad)  # type: ignore[arg-type]
    sizes = [_rms(x) for x in outputs]
    spreads = [_rms(x.detach().double() - x.detach().double().mean(0)) for x in outputs]
    if math.inf in sizes:
        seen.growth = seen.change = math.inf
    elif sizes and sizes[0] > 0:
        seen.growth = max(sizes) / sizes[0]
        smallest = min(s / b if b > 0 else 1.0 for s, b in ((x, sizes[0]) for x in sizes))
        if spreads[0] > 0:
            smallest = min(smallest, *(s / spreads[0] for s in spreads))
        seen.change = max(seen.growth, 1 / smallest if smallest > 0 else math.inf)


def _gradients(seen: Symptoms, model: nn.Module) -> None:
    zero = total = 0
    untouched = set()
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is None or not bool((gradient != 0).any()):
            untouched.add(name)
        if parameter.dim() > 1 and parameter.requires_grad and "tokens" not in name:
            total += parameter.numel()
            zero += parameter.numel() if gradient is None else int((gradient == 0).sum())
    seen.untouched = frozenset(untouched)
    seen.zero_gradients = zero / total if total else 0.0


@dataclass
class Case:
    """A run with what was seen along the way."""

    run: Run
    seen: list[Symptoms] = field(default_factory=list)
    unstepped: bool = False
    training_score: float = 0.0


def conditions(case: Case, twin: Case, base: float, behind: float, *, deep: bool = False) -> set[Condition]:
    """Apply the rules of this module's docstring; experiments elsewhere find the rates.

    ``behind`` is in progress; ``deep`` says that the twin has shortcuts or fewer layers.
    """
    seen, run = case.seen, case.run
    start = seen[0]
    rules = {
        Condition.SATURATION: any(s.flat >= 0.5 for s in seen),
        Condition.DEAD_UNITS: any(s.dead >= 0.5 for s in seen),
        Condition.VANISHING: any(s.ratio is not None and s.ratio < 1e-3 for s in seen),
        Condition.EXPLODING: _explodes(case, twin),
        Condition.POOR_INITIALIZATION: start.twins
        or start.zero_gradients > 0.3
        or start.change > 1000
        or start.loss > 25 * max(1.0, base),
        Condition.DISCONNECTED: case.unstepped or bool(frozenset.intersection(*(s.untouched for s in seen))),
        Condition.UNSCALED_INPUT: start.input_odd,
        Condition.NON_FINITE: not run.finite,
        Condition.PLATEAU: run.finite and _levels_off(run.epoch_losses, behind=behind),
        Condition.OSCILLATION: run.finite and twin.run.finite and _oscillates(run, twin.run),
        Condition.UNDERFLOW: _underflows(case, twin),
        Condition.RECURRENT_VANISHING: any(s.lag is not None and s.lag < 1e-3 for s in seen),
        Condition.RECURRENT_EXPLODING: any(s.lag is not None and s.lag > 1e3 for s in seen),
        Condition.DEGRADATION: deep and run.finite and twin.training_score - case.training_score >= 0.10,
    }
    return {condition for condition, holds in rules.items() if holds}


def _explodes(case: Case, twin: Case) -> bool:
    largest = max((g for g in twin.run.gradients if math.isfinite(g)), default=0.0)
    jumps = any(g > 1000 * largest for g in case.run.gradients if not math.isnan(g))
    ratio = any(s.ratio is not None and s.ratio > 1000 for s in case.seen)
    return jumps or ratio or case.seen[0].growth > 1000 or any(math.isinf(loss) for loss in case.run.losses[1:])


def _levels_off(losses: list[float], *, behind: float) -> bool:
    late = losses[-(len(losses) // 3) - 1]
    return losses[0] - losses[-1] < 0.05 * abs(losses[0]) or (behind >= 0.2 and late - losses[-1] < 0.05 * abs(late))


def _spread(losses: list[float]) -> float:
    last = torch.tensor(losses[-(len(losses) // 3) :], dtype=torch.float64)
    return float(last.std() / last.mean().abs().clamp_min(1e-300)) if len(last) > 2 else 0.0


def _rises(losses: list[float]) -> float:
    late = losses[len(losses) // 2 :]
    return sum(b > a + 0.02 * abs(a) for a, b in pairwise(late)) / max(1, len(late) - 1)


def _oscillates(run: Run, twin: Run) -> bool:
    swings = _spread(run.losses) > 0.3 and _spread(run.losses) > 1.5 * _spread(twin.losses)
    climbs = _rises(run.epoch_losses) >= 0.3 and _rises(twin.epoch_losses) < 0.3 and len(run.epoch_losses) >= 6
    return swings or climbs


def _underflows(case: Case, twin: Case) -> bool:
    if not any(s.low for s in case.seen):
        return False
    zeros = max(s.zero_gradients for s in case.seen)
    return case.run.lost_updates > 0.5 or (zeros > 0.3 and max(s.zero_gradients for s in twin.seen) < zeros / 2)
