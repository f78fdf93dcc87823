"""The yardstick: the share of what a constant predictor leaves open that a training has removed.

Progress is p = (B - L) / B, with L the smoothed training loss and B the loss of the best constant predictor. B is
computed, never taken from the first losses: a network that starts exploded would inflate them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn

from graddoctor.randomness import kept_random_state, seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import tensors_in, wrap_forward
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.survey import OutputActivation, Survey
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, loss_of

_BATCHES = 24
_ROUNDS = 40
_STANDARD_STARTS = (0.0, 0.5)
_FAR, _STEEP = 1e3, 0.1
_NOT_FINITE = 1e30  # what the search is told where the loss is not finite


@dataclass(frozen=True)
class Yardstick:
    """Loss of the best constant predictor, and how it was found. All in units of the loss.

    Attributes
    ----------
    baseline
        The smallest mean loss over batches that one output, the same for every sample, can have.
    computed
        Whether it was fitted. If not (the loss has no lower bound, or no place for an output was found), it is the mean
        loss of the network as built.
    floor, bare_floor
        Losses that the outputs of one batch could reach as free variables, with and without the output activation;
        ``nan`` without one, or where it could not be told.
    penalised
        Whether the loss looks at the parameters themselves, with the outputs held fixed. The baseline is free of that.
    """

    baseline: float
    computed: bool
    floor: float = math.nan
    bare_floor: float = math.nan
    penalised: bool = False

    def progress(self, loss: float) -> float:
        """Share of the constant predictor's loss that was removed; 0 where the loss is not finite or above."""
        if not math.isfinite(loss):
            return 0.0
        return max(0.0, (self.baseline - loss) / max(abs(self.baseline), 1e-12))

    @property
    def output_gap(self) -> float:
        """What the output activation costs at best, as a share of the baseline."""
        if not (math.isfinite(self.floor) and math.isfinite(self.bare_floor)):
            return 0.0
        return (self.floor - self.bare_floor) / max(abs(self.baseline), 1e-12)


def smoothed(losses: NDArray[np.float64], window: int) -> float:
    """Mean of the last `window` losses; infinite where one of them is not finite."""
    tail = losses[-max(1, window) :]
    return float(tail.mean()) if len(tail) and np.isfinite(tail).all() else math.inf


def window_of(steps_per_epoch: int, total: int) -> int:
    """So many steps are averaged: an epoch, but no more than a tenth of the run and no fewer than eight."""
    return max(min(8, total), min(steps_per_epoch, max(total // 10, 1)))


def measure(recipe: Recipe, seen: Survey | None = None) -> Yardstick:
    """Compute the loss of the best constant predictor on the recipe's own batches.

    The network's output is replaced by one free vector, the same for every sample, and that vector is fitted by
    L-BFGS. Where the network does not return a tensor, the output of its last layer is replaced. Outputs of shape
    (batch, features) or (batch, places, features) have one number a feature, images (batch, channels, …) one a channel.

    Parameters
    ----------
    recipe
        Up to 24 batches of it are read. Random state stays as it was.
    seen
        The survey of its network, for the constant behind an output activation and the two floors.
    """
    batches = BatchSource(recipe).first(_BATCHES)
    activation = seen.output if seen else None
    losses = []
    with seeded(recipe.seed):
        stub = _Stub(recipe, batches[0])
        if stub.found:
            for through in (None, activation) if activation else (None,):
                losses += [_fit(_Constant(stub, batches, through), start) for start in _STANDARD_STARTS]
        losses = [loss for loss in losses if math.isfinite(loss)]
        if not losses:
            return Yardstick(_first_loss(recipe, batches), computed=False)
        baseline = min(losses)
        if activation is None:
            return Yardstick(baseline, computed=True, penalised=stub.penalised)
        floor, bare = (_floor(stub, batches[0], activation, bare=bare) for bare in (False, True))
        return Yardstick(baseline, computed=True, floor=floor, bare_floor=bare, penalised=stub.penalised)


def yardstick_of(treated: Recipe, remedy: Remedy, given: Yardstick) -> Yardstick:
    """Return what the treated recipe's progress is measured by.

    The given recipe's yardstick, unless the remedy changes what a loss of so much means: rescaled targets, or another
    loss. Then it is computed anew, on the treated recipe.
    """
    other_loss = Cause.LOSS in remedy.causes and any(edit.part == "loss" for edit in remedy.edits)
    return measure(treated) if Cause.TARGET_SCALE in remedy.causes or other_loss else given


class _Stub:
    """A network whose output is put in from outside."""

    def __init__(self, recipe: Recipe, batch: Any) -> None:
        self.recipe = recipe
        self.model = build_model(recipe)
        self.value: Callable[[torch.Size], torch.Tensor] | None = None
        self.shape: torch.Size | None = None
        self.shapes: dict[tuple[torch.Size, ...], torch.Size] = {}  # of outputs, by those of what is given
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.penalised = False
        self.found = self._install(batch)

    def _install(self, batch: Any) -> bool:
        """Find where the output is: the network itself, or the last module that returns a two-dimensional tensor."""
        outputs: list[Any] = []
        last: list[tuple[nn.Module, torch.Tensor]] = []
        handles = [
            m.register_forward_hook(lambda m, _, out: last.append((m, out)) if isinstance(out, torch.Tensor) else None)
            for m in self.model.modules()
            if any(True for _ in m.parameters(recurse=False))
        ]
        handles.append(self.model.register_forward_hook(lambda _m, _i, out: outputs.append(out)))
        try:
            with torch.enable_grad():  # losses may want gradients of their own
                loss_of(self.recipe, self.model, batch)
        except Exception:  # noqa: BLE001 - a loss that cannot be computed leaves no yardstick, and that is said
            return False
        finally:
            for handle in handles:
                handle.remove()
        if outputs and isinstance(outputs[0], torch.Tensor):
            self.shape = outputs[0].shape
            wrap_forward(self.model, self._forward)
            self.penalised = self._looks_at_parameters(batch, outputs[0])
            for parameter in self.model.parameters():  # nothing but a penalty sees them any more
                parameter.data.zero_()
            return True
        if last:
            module, out = last[-1]
            self.shape = out.shape
            module.register_forward_hook(lambda _m, _i, out: self._replace(out))
            return True
        return False

    def _looks_at_parameters(self, batch: Any, output: torch.Tensor) -> bool:
        """Whether the loss still depends on parameters when the output is held fixed."""
        fixed = output.detach()
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        try:
            return self.loss(batch, lambda _: fixed).requires_grad
        except Exception:  # noqa: BLE001 - a loss that differentiates the network is no penalty on parameters alone
            return False
        finally:
            for parameter in self.model.parameters():
                parameter.requires_grad_(False)

    def _replace(self, out: torch.Tensor) -> torch.Tensor:
        return out if self.value is None else self.value(out.shape)

    def _forward(self, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.value is None:
            return forward(*args, **kwargs)
        key = tuple(tensor.shape for tensor in tensors_in((args, kwargs)))
        if key not in self.shapes:
            self.shapes[key] = self._output_shape(forward, args, kwargs)
        return self.value(self.shapes[key])

    def _output_shape(self, forward: Callable[..., Any], args: Any, kwargs: Any) -> torch.Size:
        try:
            with kept_random_state(), torch.no_grad():
                output = forward(*args, **kwargs)
        except Exception:  # noqa: BLE001 - such as batch normalization of a single sample
            output = None
        if isinstance(output, torch.Tensor):
            return output.shape
        assert self.shape is not None  # noqa: S101 - installed only where an output was seen
        sizes = [t.shape[0] for t in tensors_in((args, kwargs)) if t.ndim]
        return torch.Size((sizes[0], *self.shape[1:])) if sizes and len(self.shape) else self.shape

    def loss(self, batch: Any, value: Callable[[torch.Size], torch.Tensor]) -> torch.Tensor:
        self.value = value
        try:
            with torch.enable_grad():
                return loss_of(self.recipe, self.model, batch)
        finally:
            self.value = None


class _Constant:
    """The mean loss over batches as a function of one vector."""

    def __init__(self, stub: _Stub, batches: Sequence[Any], through: OutputActivation | None) -> None:
        self.stub, self.batches, self.through = stub, batches, through
        shape = torch.Size(through.shape) if through else stub.shape
        assert shape is not None  # noqa: S101 - only built where an output was found
        self.shape = shape[1:] if len(shape) <= 2 else shape[-1:]  # noqa: PLR2004 - (batch, features)
        if len(shape) > 3:  # noqa: PLR2004 - images: one value a channel
            self.shape = torch.Size((shape[1], *[1] * (len(shape) - 2)))
        self.size = max(1, math.prod(self.shape))

    def __call__(self, vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        free = torch.tensor(vector, dtype=torch.float32, requires_grad=True)

        def value(shape: torch.Size) -> torch.Tensor:
            if self.through is None:
                return free.reshape(self.shape).expand(shape)
            return self.through.apply(free.reshape(self.shape).expand(shape[0], *self.through.shape[1:]))

        total = torch.stack([self.stub.loss(batch, value) for batch in self.batches]).mean()
        return _value_and_gradient(total, free)


def _value_and_gradient(total: torch.Tensor, free: torch.Tensor) -> tuple[float, NDArray[np.float64]]:
    (gradient,) = torch.autograd.grad(total, free, allow_unused=True)
    slope = np.zeros(free.numel()) if gradient is None else np.nan_to_num(gradient.double().flatten().numpy())
    value = float(total.detach())
    return (value, slope) if math.isfinite(value) else (_NOT_FINITE, slope)


def _fit(function: _Constant, start: float) -> float:
    """Smallest value that L-BFGS finds from a start; infinite where the loss refuses such outputs."""
    return _minimum(function, np.full(function.size, start), _ROUNDS)


def _minimum(
    function: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    rounds: int,
) -> float:
    try:
        begin, slope = function(start)
        scale = abs(begin) or 1.0  # losses may be of any size, L-BFGS-B stops by absolute ones
        if scale >= _NOT_FINITE:
            return math.inf

        def scaled(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, slope = function(vector)
            return value / scale, slope / scale

        found = minimize(scaled, start, jac=True, method="L-BFGS-B", options={"maxiter": rounds})
    except Exception:  # noqa: BLE001 - binary_cross_entropy raises outside [0, 1]: this start tells nothing
        return math.inf
    value = float(found.fun) * scale
    if value < 0 and np.abs(found.x).max() > _FAR and np.abs(found.jac * scale).max() > _STEEP * np.abs(slope).max():
        return (
            math.inf
        )  # far out and as steep as ever: it has no lower bound, as log-likelihoods of free numbers have none
    return value if abs(value) < _NOT_FINITE else math.inf


def _floor(stub: _Stub, batch: Any, activation: OutputActivation, *, bare: bool) -> float:
    """The loss that outputs reach as free variables, one for every sample, through the activation or without it."""
    shape = torch.Size(activation.shape)
    run = activation.raw if bare else activation.apply
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(shape, generator=generator).double().flatten().numpy()

    def function(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        free = torch.tensor(vector, dtype=torch.float32, requires_grad=True)
        return _value_and_gradient(stub.loss(batch, lambda _: run(free.reshape(shape))), free)

    value = _minimum(function, start, 3 * _ROUNDS)
    return value if math.isfinite(value) else math.nan


def _first_loss(recipe: Recipe, batches: Sequence[Any]) -> float:
    """Stand-in where no constant could be fitted: the loss at the start."""
    model = build_model(recipe)
    with torch.enable_grad():  # losses may want gradients of their own
        losses = [float(loss_of(recipe, model, batch).detach()) for batch in batches[:4]]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return float(np.mean(finite)) if finite else 1.0
