"""Which modules of a network carry a state from one time step to the next, and over how many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.remedies.loops import Loop
from graddoctor.remedies.reading import Reading, read
from graddoctor.remedies.steps import CELLS, LAYERS

VANILLA = (nn.RNN, nn.RNNCell)
GATED = (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)


@dataclass(frozen=True)
class Carrier:
    """A module that carries a state.

    Attributes
    ----------
    name
        Of the module; of a cell that is written by hand, the module with the weight that is applied to the state.
    kind
        Its class, of torch's recurrent layers and cells; ``None`` where it is written by hand.
    steps
        Time steps of the first batch, the longest sequence of it; 0 where it was not called.
    packed
        Whether it is given packed sequences.
    loop
        Of a cell that is written by hand: what its weight does.
    """

    name: str
    kind: type[nn.Module] | None
    steps: int
    packed: bool = False
    loop: Loop | None = None

    @property
    def gated(self) -> bool:
        """Whether it is an LSTM or a GRU."""
        return self.kind in GATED

    @property
    def vanilla(self) -> bool:
        """Whether it is one of torch's without gates."""
        return self.kind in VANILLA


def carriers(recipe: Recipe, model: nn.Module, batch: Any, reading: Reading | None = None) -> tuple[Carrier, ...]:
    """Find the modules that carry a state, torch's own first, leaving model and random state as they were.

    Modules that are trained count, and of torch's classes themselves: what a subclass does with its weights is its own.

    Parameters
    ----------
    reading
        Of the same model and batch, if there is one.
    """
    reading = reading or read(recipe, model, batch)
    own = {name: m for name, m in model.named_modules() if type(m) in LAYERS + CELLS and trained(m)}
    found = (Carrier(name, type(module), *reading.steps.get(name, (0, False))) for name, module in own.items())
    unrolled = (one for one in by_hand(model, reading) if one.name.rpartition(".")[0] not in own)
    return (*found, *unrolled)  # without the steps of torch's own layers, where a remedy made a loop of them


def by_hand(model: nn.Module, reading: Reading) -> tuple[Carrier, ...]:
    """Cells whose loop over time stands in somebody's forward."""
    parameters = dict(model.named_parameters())
    return tuple(
        Carrier(name.rpartition(".")[0] if _is_linear(model, name) else name, None, loop.steps, loop=loop)
        for name, loop in reading.loops.items()
        if name in parameters and parameters[name].requires_grad
    )


def trained(module: nn.Module) -> bool:
    """Whether any parameter of a module is trained."""
    return any(parameter.requires_grad for parameter in module.parameters())


def _is_linear(model: nn.Module, weight: str) -> bool:
    """Whether a weight is all that its module has, but for a bias; a raw parameter goes by its own name."""
    path, _, short = weight.rpartition(".")
    return bool(path) and short == "weight" and isinstance(model.get_submodule(path), nn.Linear)
