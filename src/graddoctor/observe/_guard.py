"""Leave everything as it was found: random states, buffers, gradients, modes, attributes, batches."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_INNER = ("_parameters", "_buffers", "_modules")  # dicts of a module whose entries a forward pass may rebind


class Guard:
    """Copies on the first write whatever lives longer than the look: parameters, plain tensors, batches."""

    def __init__(self) -> None:
        self._watched: dict[int, Tensor] = {}
        self._saved: list[tuple[Tensor, Tensor]] = []

    def protect(self, tensors: Iterable[Tensor]) -> None:
        """Watch these; their storage is copied if an operation is about to write to it."""
        for tensor in tensors:
            address = _address(tensor)
            if address:
                self._watched.setdefault(address, tensor)

    def before_write(self, tensor: Tensor) -> None:
        """Tell that ``tensor`` is about to be written to."""
        owner = self._watched.pop(_address(tensor), None)
        if owner is not None:
            self._saved.append((owner, owner.detach().clone()))

    def restore(self) -> None:
        """Write the copies back."""
        with torch.no_grad():
            for owner, copy in self._saved:
                owner.detach().copy_(copy)
        self._saved.clear()


def _address(tensor: Tensor) -> int:
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return 0
    return tensor.untyped_storage().data_ptr()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[Guard]:
    """Run a block after which ``model`` and all random states are as they were, also when it raises."""
    guard = Guard()
    generators = _random_states()
    modules = [_ModuleState(module) for module in model.modules() if not _unfinished(module)]
    buffers = [
        (b, b.detach().clone()) for b in model.buffers() if b.layout is torch.strided and b.device.type != "meta"
    ]
    parameters = list(model.parameters())
    gradients = [(p, p.grad, p.requires_grad) for p in parameters if not nn.parameter.is_lazy(p)]
    guard.protect(p for p in parameters if not nn.parameter.is_lazy(p))
    for state in modules:
        guard.protect(state.tensors())
    try:
        yield guard
    finally:
        torch.clear_autocast_cache()  # weights cast without gradient must not serve the step that comes
        guard.restore()
        for state in modules:
            state.restore()
        with torch.no_grad():
            for buffer, copy in buffers:
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)
        for parameter, gradient, trainable in gradients:
            if parameter.requires_grad is not trainable:
                parameter.requires_grad_(trainable)
            parameter.grad = gradient
        _set_random_states(generators)


class _ModuleState:
    """The attributes of one module, one level deep: modes, counters, remembered tensors, lists."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._attributes = dict(module.__dict__)
        self._inner = {
            key: value.copy()
            for key, value in self._attributes.items()
            if key in _INNER or (type(value) in {list, dict, set} and not key.endswith("_hooks"))
        }
        self._generators = [(v, v.get_state()) for v in self._attributes.values() if isinstance(v, torch.Generator)]

    def tensors(self) -> Iterator[Tensor]:
        """Tensors that the module keeps without registering them."""
        return (v for v in self._attributes.values() if isinstance(v, Tensor))

    def restore(self) -> None:
        present = self._module.__dict__
        if not _same(present, self._attributes):
            present.clear()
            present.update(self._attributes)
        for key, value in self._inner.items():
            self._refill(present[key], value)
        for generator, state in self._generators:
            generator.set_state(state)

    @staticmethod
    def _refill(container: Any, before: Any) -> None:
        if isinstance(container, dict):
            if not _same(container, before):
                container.clear()
                container.update(before)
        elif isinstance(container, list):
            container[:] = before
        else:
            container.clear()
            container.update(before)


def _unfinished(module: nn.Module) -> bool:
    """Whether a lazy module gets its parameters in the next forward pass, which cannot be taken back."""
    return any(nn.parameter.is_lazy(parameter) for parameter in module.parameters(recurse=False))


def _same(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return len(now) == len(before) and all(key in now and now[key] is value for key, value in before.items())


def _random_states() -> tuple[Any, ...]:
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch leaves it untyped
    cuda = torch.cuda.get_rng_state_all() if used else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda  # noqa: NPY002 - the user's generator


def _set_random_states(states: tuple[Any, ...]) -> None:
    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002 - the user's generator
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
