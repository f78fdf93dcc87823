"""Which modules of a network carry a state from one time step to the next, and over how many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils.rnn import PackedSequence

from graddoctor.randomness import kept_random_state
from graddoctor.recipe import Recipe
from graddoctor.remedies.loops import Loop
from graddoctor.remedies.reading import Reading, read
from graddoctor.train import loss_of

VANILLA = (nn.RNN, nn.RNNCell)
GATED = (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)
LAYERS = (nn.RNN, nn.LSTM, nn.GRU)
CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)


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
    own = {name: m for name, m in model.named_modules() if type(m) in LAYERS + CELLS and trained(m)}
    steps = _steps(recipe, model, batch) if own else {}
    found = (Carrier(name, type(module), *steps.get(name, (0, False))) for name, module in own.items())
    return (*found, *by_hand(model, reading or read(recipe, model, batch)))


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


def _steps(recipe: Recipe, model: nn.Module, batch: Any) -> dict[str, tuple[int, bool]]:
    """Time steps that each of torch's recurrent modules is run over in one pass, and whether they come packed."""
    found: dict[str, tuple[int, bool]] = {}
    handles = [
        module.register_forward_pre_hook(_counting(name, found), with_kwargs=True)
        for name, module in model.named_modules()
        if type(module) in LAYERS + CELLS
    ]
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    try:
        with kept_random_state():
            loss_of(recipe, model, batch)
    except Exception:  # noqa: BLE001 - what cannot be run has shown no length
        found.clear()
    finally:
        for handle in handles:
            handle.remove()
        for name, value in model.named_buffers():
            value.data.copy_(buffers[name])
    return found


def _counting(name: str, found: dict[str, tuple[int, bool]]) -> Callable[..., None]:
    """Make a hook that adds up the steps: a layer that is called again and again is stepped by hand."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = args[0] if args else kwargs.get("input")
        before, _ = found.get(name, (0, False))
        found[name] = (before + _length(module, given), isinstance(given, PackedSequence))

    return hook


def _length(module: nn.Module, given: Any) -> int:
    if isinstance(module, CELLS):
        return 1
    if isinstance(given, PackedSequence):
        return len(given.batch_sizes)
    return int(given.shape[1 if given.ndim > 2 and module.batch_first else 0])  # noqa: PLR2004 - a batch of sequences
