"""Norms that stand behind residual additions, wherever they come from, and norms whose epsilon drowns the signal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.functions import ADDITIONS, name_of, tensors_in
from graddoctor.remedies.plain.branch_norms import leave_sum, lower_norm_epsilon, norms_before_branches
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.slots import normalizes, within
from graddoctor.remedies.survey import Reader, read_forward
from graddoctor.terms import Cause
from graddoctor.train import build_model, loss_of

LOUD_EPSILON = 1e-2
"""Epsilon of a norm from which on it stands beside the variance of an ordinary signal."""

ORDINARY_EPSILON = 1e-5


def norm_epsilon(facts: Facts) -> Remedy | None:
    """Lower an epsilon of normalizations above 0.01 to 1e-5, torch's own."""
    names = loud_norms(facts.model)
    return ordinary_norms(names) if names else None


def loud_norms(model: nn.Module) -> tuple[str, ...]:
    """Names of the normalizations whose epsilon is above 0.01."""
    return tuple(
        name
        for name, module in model.named_modules()
        if name and normalizes(module) and _epsilon(module) > LOUD_EPSILON
    )


def ordinary_norms(names: Iterable[str]) -> Remedy:
    """An epsilon of 1e-5 for the named normalizations: more than their input's variance swallows what they divide.

    Source: Ba et al. 2016.
    """
    where = tuple(names)
    edit = Edit("model", lower_norm_epsilon, {"names": where, "eps": ORDINARY_EPSILON})
    return Remedy.written(
        "normalization epsilon 1e-5", (Cause.NORMALIZATION,), [edit], source="Ba et al. 2016", modules=where
    )


def _epsilon(module: nn.Module) -> float:
    value = getattr(module, "variance_epsilon", None) or getattr(module, "eps", 0.0)
    return float(value) if isinstance(value, (int, float)) else 0.0


def pre_norms(facts: Facts) -> Remedy | None:
    """Normalise what residual branches are given instead of the sums behind them, in networks of any hand.

    A norm is moved where it is given the sum of a tensor and of what modules make of that very tensor, as in BERT.
    ``None`` where there are fewer than two of that kind, or where the treated network does not run. What is built of
    ``nn.TransformerEncoderLayer`` has `graddoctor.remedies.normalization.pre_layernorm`.

    Source: Xiong et al. 2020.
    """
    found = _post_norms(facts.recipe, facts.model, facts.batch)
    if len(found) < 2:  # noqa: PLR2004 - one norm behind a sum is no stack of them
        return None
    last = list(found)[-1]
    edit = Edit("model", norms_before_branches, {"branches": found, "last": last})
    remedy = Remedy.written(
        "norms before the branches",
        (Cause.NORMALIZATION,),
        [edit],
        source="Xiong et al. 2020",
        modules=tuple(found),
        cost="a normalization at the end of the stack, a second pass of each norm",
    )
    return remedy if _runs(facts, remedy) else None


def _runs(facts: Facts, remedy: Remedy) -> bool:
    treated = remedy(facts.recipe)
    net = build_model(treated)
    with torch.no_grad():
        return bool(torch.isfinite(loss_of(treated, net, facts.batch)))


def _post_norms(recipe: Recipe, model: nn.Module, batch: Any) -> dict[str, tuple[str, ...]]:
    """LayerNorms that are given a sum, each with the modules that its branch begins with."""
    reader = _Sums(model)
    handles = [module.register_forward_pre_hook(reader.entered, with_kwargs=True) for module in model.modules()]
    handles += [module.register_forward_hook(reader.left, always_call=True) for module in model.modules()]
    try:
        read_forward(recipe, model, reader, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: starts
        for name, starts in reader.found.items()
        if starts and name not in reader.again and not _settled(model, name)
    }


def _settled(model: nn.Module, name: str) -> bool:
    """Whether a norm was moved before, or stands in a layer of torch that can move it itself."""
    hooks = model.get_submodule(name)._forward_hooks.values()  # noqa: SLF001 - no public way to ask
    owner = model.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)) or any(
        getattr(hook, "__name__", "") == leave_sum.__name__ for hook in hooks
    )


class _Sums(Reader):
    """Remembers what was added to what, and which modules were given which tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.modules = {id(module): name for name, module in model.named_modules()}
        self.sums: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.given: dict[int, list[str]] = {}
        self.found: dict[str, tuple[str, ...]] = {}
        self.again: set[str] = set()
        self.running: list[str] = []
        self.over: set[str] = set()
        self.weighty = {name for name, module in model.named_modules() if any(p.ndim > 1 for p in module.parameters())}

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if name_of(func) in ADDITIONS and isinstance(result, torch.Tensor):
            parts = [t for t in tensors_in([args, kwargs or {}]) if t.shape == result.shape]
            if len(parts) == 2:  # noqa: PLR2004 - one and the other
                self.sums[id(result)] = (parts[0], parts[1])
        return result

    def entered(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module is about to run."""
        name = self.modules[id(module)]
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        first = tensors[0] if tensors else None
        if first is not None:
            self.given.setdefault(id(first), []).append(name)
            self.kept.append(first)
        if isinstance(module, nn.LayerNorm) and first is not None and id(first) in self.sums:
            (self.again.add if name in self.found else lambda _: None)(name)
            self.found[name] = self._starts(name, self.sums[id(first)])
        self.running.append(name)

    def left(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module has run."""
        del module, args, output
        self.over.add(self.running.pop())

    def _starts(self, norm: str, parts: tuple[torch.Tensor, torch.Tensor]) -> tuple[str, ...]:
        """Modules with weights, run to their ends by now, that were given the part of the sum that was there first."""
        known = [part for part in parts if id(part) in self.given and part.requires_grad]
        if not known:
            return ()
        order = list(self.given)
        skip = min(known, key=lambda part: order.index(id(part)))
        starts = [name for name in self.given[id(skip)] if name in self.over and name != norm and name in self.weighty]
        return tuple(dict.fromkeys(name for name in starts if not any(within(name, o) for o in starts if o != name)))
