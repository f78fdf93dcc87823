"""Over how many time steps torch's recurrent modules are run in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.utils.rnn import PackedSequence

LAYERS = (nn.RNN, nn.LSTM, nn.GRU)
CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)

Steps = dict[str, tuple[int, bool]]
"""By name of the module: time steps, those of the longest sequence, and whether they came packed."""


@contextmanager
def counted_steps(model: nn.Module) -> Iterator[Steps]:
    """Count the steps of every recurrent layer and cell of torch while the block runs."""
    found: Steps = {}
    handles = [
        module.register_forward_pre_hook(_counting(name, found), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, LAYERS + CELLS)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _counting(name: str, found: Steps) -> Callable[..., None]:
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
