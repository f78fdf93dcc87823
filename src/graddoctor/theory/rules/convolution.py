"""Convolutions: the map of lengths is convolved with the second moments of the kernel's taps (Xiao et al. 2018).

Zero padding, stride and dilation need no theory of their own then: near a border fewer taps meet anything, and a kernel
whose centre alone is not zero (delta-orthogonal) passes every place on by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law
from graddoctor.theory.rules.step import Pull, Scene, Step, second


def convolution(call: Call, scene: Scene) -> Step | None:
    """Follow a convolution, transposed or grouped or not."""
    ref, weight, bias, *form = call.arguments[:9]
    if not (isinstance(ref, Ref) and isinstance(weight, Tensor)):
        return None
    second(weight, call)
    taps = weight.detach().double().square().sum((0, 1))[None, None]
    sides = (call.out.shape[1], ref.shape[1])
    law = scene(ref)
    spread = _spread(taps / sides[0], form)
    places = (law.square.shape[0], 1, *ref.shape[2:])
    start = law.square.mean(1, keepdim=True).expand(places)
    shift = second(bias, call) if isinstance(bias, Tensor) else 0.0
    square = spread(start)
    gain = float(square.mean()) / max(law.average, 1e-300)
    after = Law(
        square=square + shift,
        between=law.between * gain + shift,
        along=law.along * gain * _overlap(ref.shape[2:], taps, form) + shift,
        channels=True,
    )
    gather = _spread(taps / sides[1], form)

    def back(gradient: Gradient) -> Gradient:
        whole = gradient.square.mean(1, keepdim=True).expand(gradient.square.shape[0], 1, *call.out.shape[2:])
        square = _adjoint(gather, whole, ref.shape[2:])
        rate = float(square.mean()) / max(float(whole.mean()), 1e-300)
        return Gradient(square, gradient.along * rate)

    return Step((after,), (Pull(ref, back),))


def _overlap(places: tuple[int, ...], taps: Tensor, form: list[object]) -> float:
    """How much less two places have in common than one with itself, because different taps meet the padding."""
    with torch.enable_grad():
        kernel = taps.clone().requires_grad_()
        ones = torch.ones(1, 1, *places, dtype=torch.float64)
        (meets,) = torch.autograd.grad(_spread(kernel, form)(ones).mean(), kernel)
    whole = float((taps * meets).sum())
    return float((taps * meets.square()).sum()) / whole if whole > 0 else 1.0


def _spread(taps: Tensor, form: list[object]) -> Callable[[Tensor], Tensor]:
    stride, padding, dilation, transposed, extra = form[:5]

    def spread(square: Tensor) -> Tensor:
        result: Tensor = torch.ops.aten.convolution(square, taps, None, stride, padding, dilation, transposed, extra, 1)
        return result

    return spread


def _adjoint(forward: Callable[[Tensor], Tensor], after: Tensor, places: tuple[int, ...]) -> Tensor:
    """What a linear map does on the way back."""
    with torch.enable_grad():
        start = torch.zeros(after.shape[0], 1, *places, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(forward(start), start, after)
    return found
