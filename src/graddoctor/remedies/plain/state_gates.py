"""A gate beside a state that a loop in somebody's forward carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

PRODUCTS_OF_STATES = frozenset({"linear", "matmul", "mm", "addmm", "__matmul__"})
VIEWS_OF_WEIGHTS = frozenset({"t", "T", "mT", "transpose", "permute"})
SUMS = frozenset({"add", "__add__", "__radd__", "__iadd__", "add_"})


def gate_states(
    model: nn.Module, loops: Mapping[str, str], *, bias: float | None = None, steps: int = 0
) -> nn.Module:
    """Let states that are written by hand be kept: ``h = z * h + (1 - z) * activation(...)``.

    ``loops`` has the names of the weights that are applied to a state, with that of the function
    which makes the new state of the sum that their product is part of. The gate z is a sigmoid of
    a linear map of that sum, the new submodule `state_gate`; its biases start as `open_gates` has
    it for a GRU. Better write the line into the forward itself, where you can.
    """
    with torch.random.fork_rng(devices=[]):  # what is drawn later is drawn as before
        for name in loops:
            owner, weight = owner_of_gate(name, model), model.get_parameter(name)
            size = min(weight.shape)
            gate = nn.Linear(size, size)
            nn.init.orthogonal_(gate.weight)
            spread = torch.log1p(torch.rand(size) * max(steps - 2, 1))
            gate.bias.data.copy_(spread if bias is None else torch.full((size,), bias))
            owner.add_module(
                "state_gate", gate.to(weight.device, weight.dtype).train(owner.training)
            )
    model.forward = GatedForward(model, dict(loops))
    return model


def owner_of_gate(weight: str, network: nn.Module) -> nn.Module:
    """Return the module that has a weight, and that its gate belongs to."""
    return network.get_submodule(weight.rpartition(".")[0])


class GatedForward:
    """A network's forward, in which states are kept by gates."""

    def __init__(self, model: nn.Module, loops: dict[str, str]) -> None:
        self.model, self.forward, self.loops = model, model.forward, loops

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward."""
        with StateGates(self.model, self.loops):
            return self.forward(*args, **kwargs)


class StateGates(TorchFunctionMode):
    """Follows each state into its product, the product into a sum, and gates what is made of it."""

    def __init__(self, model: nn.Module, loops: dict[str, str]) -> None:
        super().__init__()
        self.loops, self.model = loops, model
        self.weights = {id(model.get_parameter(name)): name for name in loops}
        self.views: dict[int, tuple[torch.Tensor, str]] = {}
        self.joined: dict[int, tuple[torch.Tensor, Any]] = {}
        self.sums: dict[int, tuple[torch.Tensor, str, torch.Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        name = (
            getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name
        )
        known = self.sums.get(id(args[0])) if args else None
        if known is not None and self.loops[known[1]] == name.strip("_"):
            return self.gated(*known, lambda: func(*args, **kwargs))
        result = func(*args, **kwargs)
        given = [*args, *kwargs.values()]
        if name in PRODUCTS_OF_STATES:
            self.multiplied(given, result)
        elif name in SUMS:
            for one in [self.sums[id(t)] for t in given if id(t) in self.sums]:
                self.sums[id(result)] = (result, *one[1:])
        elif name in VIEWS_OF_WEIGHTS and given and id(given[0]) in self.weights:
            self.views[id(result)] = (result, self.weights[id(given[0])])
        elif name in {"cat", "concat", "concatenate"}:
            self.joined[id(result)] = (result, args[0] if args else kwargs["tensors"])
        return result

    def multiplied(self, given: list[Any], result: torch.Tensor) -> None:
        """Remember the state that one of the weights is applied to."""
        for weight in (self.name_of(t) for t in given):
            tensors = [t for t in given if isinstance(t, torch.Tensor) and not self.name_of(t)]
            inputs = [one for t in tensors for one in self.joined.get(id(t), (t, (t,)))[1]]
            states = [t for t in inputs if t.shape == result.shape]
            if weight and len(states) == 1:
                self.sums[id(result)] = (result, weight, states[0])

    def name_of(self, thing: Any) -> str:
        """Name of the weight that a tensor is, or is a view of; ``""`` if none."""
        return self.weights.get(id(thing)) or self.views.get(id(thing), (None, ""))[1]

    def gated(self, total: torch.Tensor, weight: str, state: torch.Tensor, activate: Any) -> Any:
        """Compute the new state, and keep a part of the old one."""
        gate: Any = owner_of_gate(weight, self.model).state_gate
        kept = torch.sigmoid(gate(total.clone()))  # it may be overwritten by what is made of it
        self.sums = {key: one for key, one in self.sums.items() if one[1] != weight}
        self.joined.clear()
        return torch.lerp(activate(), state, kept)
