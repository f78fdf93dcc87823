"""Exchange nonlinearities, as modules and as functions alike; take one off the output.

`exchanged`, `bare_output` and `sigmoid_output` are experiments: modes around the forward, for the diagnosis. What is
prescribed is made of edits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody uses
from torch.overrides import TorchFunctionMode

from graddoctor.errors import GraddoctorError
from graddoctor.randomness import kept_random_state
from graddoctor.recipe import Recipe
from graddoctor.remedies.anatomy import frozen
from graddoctor.remedies.exchange import NOTHING, Replacement, exchange
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.functions import (
    ACTIVATIONS,
    HARSH,
    MATRIX,
    MIXERS,
    RECTIFIED,
    SMOOTH_SATURATING,
    carries,
    first_tensor,
    in_place,
    name_of,
    tensors_in,
    with_first,
    wrap_forward,
)
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.survey import Survey
from graddoctor.terms import Cause
from graddoctor.train import build_model, loss_of, network_of

LEAK = 0.1

_SIGMOID = Replacement("sigmoid", nn.Sigmoid, "sigmoid")
_REPLACEMENTS = {
    "leaky_relu": (
        Replacement("leaky_relu", nn.LeakyReLU, "leaky_relu", {"negative_slope": LEAK}),
        "leaky ReLU",
        "Maas et al. 2013",
        "",
    ),
    "relu": (Replacement("relu", nn.ReLU, "relu"), "ReLU", "Glorot et al. 2011", ""),
    "elu": (Replacement("elu", nn.ELU, "elu"), "ELU", "Clevert et al. 2016", "an exponential for each value"),
    "gelu": (Replacement("gelu", nn.GELU, "gelu"), "GELU", "Hendrycks and Gimpel 2016", "an erf for each value"),
    "silu": (Replacement("silu", nn.SiLU, "silu"), "SiLU", "Elfwing et al. 2018", "an exponential for each value"),
    "prelu": (Replacement("prelu", nn.PReLU, ""), "PReLU", "He et al. 2015", "one parameter for each activation"),
    "tanh": (Replacement("tanh", nn.Tanh, "tanh"), "tanh", "LeCun et al. 1998", ""),
    "selu": (Replacement("selu", nn.SELU, "selu"), "SELU", "Klambauer et al. 2017", "an exponential for each value"),
}
"""What is put in the place of an activation, the most general first: how, its name, its source, its cost."""


class _Exchange(TorchFunctionMode):
    """Runs `replacement` in place of the nonlinearities of some kinds; the one that makes the output stays."""

    def __init__(
        self, kinds: Collection[str], replacement: Callable[[torch.Tensor], torch.Tensor], output: int | None
    ) -> None:
        super().__init__()
        self.kinds, self.replacement, self.output, self.count = frozenset(kinds), replacement, output, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        first = first_tensor(args, kwargs)
        if name not in ACTIVATIONS or first is None or not first.is_floating_point():
            return func(*args, **kwargs)
        index, self.count = self.count, self.count + 1
        mixes = name in MIXERS and first.ndim > MATRIX
        if name in self.kinds and index != self.output and not mixes:
            if in_place(func, kwargs, args):  # whoever holds the tensor sees what was written
                return first.copy_(self.replacement(first.clone()))
            return self.replacement(first)
        return func(*args, **kwargs)


class _Bare(TorchFunctionMode):
    """Remembers the value before the last nonlinearity, through the reshapes and constants that follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: dict[int, tuple[Any, torch.Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name, first = name_of(func), first_tensor(args, kwargs)
        if first is not None and name in ACTIVATIONS:
            before = first.clone() if in_place(func, kwargs, args) else first
            result = func(*args, **kwargs)
            self.raw[id(result)] = (result, before)
            return result
        result = func(*args, **kwargs)
        carried = first is not None and id(first) in self.raw and carries(name, first, args, kwargs)
        if carried and first is not None and tensors_in(result):
            raw = self.raw[id(first)][1]
            new_args, new_kwargs = with_first(raw.clone() if in_place(func, kwargs, args) else raw, args, kwargs)
            self.raw[id(result)] = (result, func(*new_args, **new_kwargs))
        return result

    def before(self, output: Any, instead: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        return instead(self.raw[id(output)][1]) if id(output) in self.raw else output


def exchanged(
    kinds: Collection[str], seen: Survey, replacement: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Remedy:
    """Leaky ReLU (slope 0.1) in place of every hidden nonlinearity of the given kinds; attention stays.

    ``kinds`` are names as `Survey.activations` has them, ``seen`` tells which call makes the output and stays, and
    ``replacement`` is another elementwise function to put there. In-place calls are exchanged in place.

    Source: Maas, Hannun and Ng 2013; it neither saturates nor dies, so what it cures was one or the other.
    """
    swap = replacement or (lambda x: F.leaky_relu(x, LEAK))
    output = seen.output.index if seen.output else None

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        with _Exchange(kinds, swap, output):
            return forward(*args, **kwargs)

    name = f"leaky ReLU in place of {', '.join(sorted(kinds))}"
    return Remedy(name, (Cause.ACTIVATION,), _on_model(wrapper), "Maas et al. 2013")


def bare_output() -> Remedy:
    """Give the loss what the network computes before its last nonlinearity."""
    return _output("no activation on the output", lambda raw: raw)


def sigmoid_output() -> Remedy:
    """Put a sigmoid in place of the network's last nonlinearity, for losses that want probabilities."""
    return _output("sigmoid on the output", torch.sigmoid)


def _output(name: str, instead: Callable[[torch.Tensor], torch.Tensor]) -> Remedy:

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        mode = _Bare()
        with mode:
            output = forward(*args, **kwargs)
        return mode.before(output, instead)

    return Remedy(name, (Cause.OUTPUT_ACTIVATION,), _on_model(wrapper))


def activation_swaps(facts: Facts, kinds: Collection[str] | None = None) -> list[Remedy]:
    """Prescribe other hidden activations, the most general first; in a loop that is written by hand a tanh before all.

    Parameters
    ----------
    kinds
        Which to exchange, as `Survey.activations` names them. Left out, those that multiply or lose the signal at any
        scale of the weights; where there are none, those that saturate; where there are none, those that die.
    """
    in_a_loop = any(carrier.loop is not None for carrier in facts.carriers)  # what feeds itself must stay bounded
    names = (
        sorted(_REPLACEMENTS, key=lambda to: to != "tanh") if in_a_loop else [n for n in _REPLACEMENTS if n != "tanh"]
    )
    found = [unsaturated(facts, to, kinds) for to in names]
    return [remedy for remedy in found if remedy is not None]


def unsaturated(facts: Facts, to: str = "leaky_relu", kinds: Collection[str] | None = None) -> Remedy | None:
    """Put an activation that hardly saturates in the place of hidden ones that do, or that die.

    Gates, attention, what makes the output, what follows a frozen layer and what stands inside of ``nn.LSTM`` and the
    like stay. ``None`` where there is nothing to exchange, or where it cannot be done without touching what should
    stay.

    Parameters
    ----------
    to
        ``"relu"``, ``"leaky_relu"`` (slope 0.1), ``"prelu"``, ``"elu"``, ``"selu"``, ``"gelu"``, ``"silu"`` or
        ``"tanh"``.
    kinds
        As in `activation_swaps`.

    Raises
    ------
    GraddoctorError
        For another `to`.
    """
    if to not in _REPLACEMENTS:
        msg = f"to: expected one of {', '.join(map(repr, _REPLACEMENTS))}, got {to!r}"
        raise GraddoctorError(msg)
    if facts.anatomy is None:
        return None
    hidden = facts.anatomy.hidden
    present = {site.kind for site in hidden}
    kinds = _worst_of(present) if kinds is None else present & set(kinds)
    chosen = [site for site in hidden if site.kind in kinds and site.kind != to and not frozen(facts.model, site.point)]
    new, name, source, cost = _REPLACEMENTS[to]
    edits = exchange(facts, chosen, new)
    if not edits:
        return None
    title = f"{name} in place of {', '.join(sorted(kinds - {to}))}"
    places = tuple(dict.fromkeys(site.module or site.owner or "" for site in chosen))
    return Remedy.written(
        title, (Cause.ACTIVATION,), edits, source=source, modules=tuple(filter(None, places)), cost=cost
    )


def _worst_of(kinds: Collection[str]) -> frozenset[str]:
    families = (family & frozenset(kinds) for family in (HARSH, SMOOTH_SATURATING, RECTIFIED))
    return next((family for family in families if family), frozenset())


def without_output_activation(facts: Facts) -> Remedy | None:
    """Take the nonlinearity off the network's output: the loss is given what stands before it.

    ``None`` where there is none, where it is a log softmax, which gives losses what they ask for, and where the loss
    cannot be computed without it.

    Source: Goodfellow et al. 2016, section 6.2.2, on losses that saturate with their output units.
    """
    return _at_output(facts, NOTHING, "no activation on the output")


def sigmoid_at_output(facts: Facts) -> Remedy | None:
    """Put a sigmoid in the place of the network's last nonlinearity, for losses that want probabilities.

    ``None`` where there is none, where it is one already, and where the loss cannot be computed with it.
    """
    return _at_output(facts, _SIGMOID, "sigmoid on the output")


def _at_output(facts: Facts, new: Replacement, name: str) -> Remedy | None:
    if facts.anatomy is None:
        return None
    chosen = [site for site in facts.anatomy.sites if site.output and site.kind not in {new.kind, "log_softmax"}]
    edits = exchange(facts, chosen, new)
    if not edits:
        return None
    places = tuple(filter(None, (site.module or site.owner for site in chosen)))
    source = "Goodfellow et al. 2016, section 6.2.2"
    remedy = Remedy.written(name, (Cause.OUTPUT_ACTIVATION,), edits, source=source, modules=places)
    return remedy if _has_a_loss(facts, remedy) else None


def _has_a_loss(facts: Facts, remedy: Remedy) -> bool:
    """Whether the loss can still be computed, and is finite unless it was not before."""
    treated = remedy(facts.recipe)
    try:
        with kept_random_state():
            before = loss_of(facts.recipe, build_model(facts.recipe), facts.batch)
            after = loss_of(treated, build_model(treated), facts.batch)
    except Exception:  # noqa: BLE001 - such as BCELoss, which wants no values above one
        return False
    return bool(torch.isfinite(after)) or not bool(torch.isfinite(before))


def _on_model(wrapper: Callable[[Callable[..., Any], Any, Any], Any]) -> Callable[[Recipe], Recipe]:
    def change(recipe: Recipe) -> Recipe:
        build = recipe.model

        def model(seed: int = recipe.seed) -> nn.Module:
            return wrap_forward(network_of(build, seed), wrapper)

        return recipe.with_(model=model)

    return change
