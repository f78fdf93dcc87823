"""Which nonlinearity a module is, and which modules are worth a tap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from graddoctor.observe._nonlinear import SOFTSIGN, Nonlinearity, nonlinearity

Arguments = tuple[Any, ...]  # of the operator, from the second on

_KINDS: dict[type[nn.Module], tuple[str, Callable[[Any], Arguments]]] = {
    nn.ReLU: ("relu", lambda _: ()),
    nn.ReLU6: ("hardtanh", lambda _: (0, 6)),
    nn.LeakyReLU: ("leaky_relu", lambda m: (m.negative_slope,)),
    nn.ELU: ("elu", lambda m: (m.alpha,)),
    nn.CELU: ("celu", lambda m: (m.alpha,)),
    nn.SELU: ("elu", lambda _: (1.6732632423543772, 1.0507009873554805)),
    nn.GELU: ("gelu", lambda _: ()),
    nn.SiLU: ("silu", lambda _: ()),
    nn.Mish: ("mish", lambda _: ()),
    nn.Softplus: ("softplus", lambda m: (m.beta, m.threshold)),
    nn.Sigmoid: ("sigmoid", lambda _: ()),
    nn.Tanh: ("tanh", lambda _: ()),
    nn.Hardtanh: ("hardtanh", lambda m: (m.min_val, m.max_val)),
    nn.Hardsigmoid: ("hardsigmoid", lambda _: ()),
    nn.Hardswish: ("hardswish", lambda _: ()),
    nn.LogSigmoid: ("logsigmoid", lambda _: ()),
    nn.Softmax: ("softmax", lambda _: ()),
    nn.LogSoftmax: ("log_softmax", lambda _: ()),
}
_TRANSPARENT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten)
_WORDS = {"Conv1d": "convolution", "Conv2d": "convolution", "Conv3d": "convolution"}


def nonlinearity_of(module: nn.Module) -> tuple[Nonlinearity, Arguments] | None:
    """Return the nonlinearity that a module is, with its arguments, or ``None``."""
    for kind, (word, arguments) in _KINDS.items():
        if isinstance(module, kind):
            more = arguments(module)
            found = nonlinearity(word, (None, *more), {})
            return None if found is None else (found, more)
    if isinstance(module, nn.Softsign):
        return SOFTSIGN, ()
    name = type(module).__name__.lower()
    for word in ("gelu", "silu", "mish"):  # transformers has classes of its own, such as NewGELUActivation
        if name.startswith((word, f"new{word}", f"fast{word}", f"quick{word}", f"pytorch{word}")):
            known = nonlinearity(word, (), {})
            return None if known is None else (known, ())
    return None


def kind_of_module(module: nn.Module) -> str:
    """Return a short word for what a module computes."""
    found = nonlinearity_of(module)
    name = type(module).__name__
    return found[0].kind if found is not None else _WORDS.get(name, name.lower())


def tappable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield names and modules whose output says something: leaves, and whatever holds parameters of its own."""
    for name, module in model.named_modules():
        children = [child for child, _ in module.named_children() if child != "parametrizations"]
        owns = any(True for _ in module.parameters(recurse=False))
        inside = "parametrizations." in f"{name}."
        if not inside and (owns or not children) and not isinstance(module, _TRANSPARENT):
            yield name, module
