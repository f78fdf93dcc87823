"""Dense layers: a sum over fan_in products with weights that know nothing of what they are multiplied with."""

from __future__ import annotations

from torch import Tensor

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law, flat, reshaped
from graddoctor.theory.rules.attention import of_streams
from graddoctor.theory.rules.step import Pull, Scene, Step, second


def dense(call: Call, scene: Scene) -> Step | None:
    """Follow ``mm``, ``addmm``, ``bmm`` and their kin: q' = fan_in E[W²] q + E[b²], g' = fan_out E[W²] g."""
    tensors = [value for value in call.arguments if isinstance(value, (Tensor, Ref))]
    bias, (left, right) = (tensors[0] if len(tensors) > 2 else None), tensors[-2:]  # noqa: PLR2004 - bias, input, weight
    if isinstance(left, Ref) and isinstance(right, Ref):
        return of_streams(call, scene, left, right, bias)
    ref, weight = (left, right) if isinstance(left, Ref) else (right, left)
    if not (isinstance(ref, Ref) and isinstance(weight, Tensor)):
        return None
    fan_in = left.shape[-1]
    fan_out = call.out.numel * fan_in // ref.numel
    alpha, beta = (float(call.options.get(name, 1.0)) ** 2 for name in ("alpha", "beta"))
    scale = alpha * second(weight, call)
    shift = beta * second(bias, call) if isinstance(bias, Tensor) and beta else 0.0
    law = weighed(scene(ref), fan_in * scale, call.out, shift)
    axes, shape = len(ref.shape), ref.shape

    def back(gradient: Gradient) -> Gradient:
        whole = reshaped(gradient.square, (*gradient.square.shape[:-1], 1)) if axes else gradient.square
        return Gradient(whole, gradient.along).scaled(fan_out * scale).shaped(shape)

    pulls = [Pull(ref, back)]
    if isinstance(bias, Ref):
        added = scene(bias).scaled(beta, root=beta**0.5)
        law = Law(law.square + added.average, added.mean, law.between + added.between, law.along)
        pulls.append(Pull(bias, lambda gradient: gradient.scaled(beta).shaped(bias.shape)))
    return Step((law,), tuple(pulls))


def weighed(law: Law, gain: float, out: Ref, bias: float) -> Law:
    """The law behind a layer of weights with this gain of the squared length."""
    if out.shape[:-1] == (*law.square.shape[:-1],) or law.square.numel() == 1:
        return law.scaled(gain, shift=bias).shaped(out.shape, channels=False)
    rows = law.square.reshape(*law.square.shape[:-1], -1).mean(-1, keepdim=True)
    fits = rows.dim() == len(out.shape)
    square = rows if fits else flat(law.average, len(out.shape))
    return Law(square * gain + bias, 0.0, law.between * gain + bias, law.along * gain + bias)
