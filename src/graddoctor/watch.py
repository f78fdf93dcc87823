"""Watch: observe anybody's training loop without disturbing it."""

from __future__ import annotations

import atexit
import weakref
from os import PathLike
from types import TracebackType
from typing import Any, Self

from torch import nn
from torch.optim import Optimizer

from graddoctor.diagnose.stream import suspect_stream
from graddoctor.errors import RecipeError, RecordingError
from graddoctor.observe.latest import Readings, latest
from graddoctor.observe.stream import Stream
from graddoctor.recording import Recording, environment
from graddoctor.terms import Finding


class Watch:
    """What `watch` returns: a context manager around the training loop, or an object that is closed at its end.

    Attributes
    ----------
    recording
        Everything that was read so far; it can be asked while the training runs and afterwards.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        path: str | PathLike[str] | None = None,
        every: int = 1,
        overwrite: bool = False,
    ) -> None:
        _check(model, optimizer, every)
        self._recording = Recording() if path is None else Recording.create(path, overwrite=overwrite)
        self._recording.describe("environment", environment())
        self._recording.describe("modules", {name: type(module).__name__ for name, module in model.named_modules()})
        self._recording.describe("every", every)
        self._stream = Stream(model, optimizer, self._recording, every)
        self._closed = False
        self._at_exit = _at_exit(self)

    @property
    def recording(self) -> Recording:
        """Everything that was read until now."""
        if not self._closed:
            self._stream.guarded(self._stream.flush)()
        return self._recording

    @property
    def fault(self) -> Exception | None:
        """What made graddoctor stop watching, or ``None``."""
        return self._stream.fault

    def log(self, **scalars: Any) -> None:
        """Record numbers of the step that is going on, such as ``loss``: floats, or tensors, which are read later.

        Examples
        --------
        >>> watch.log(loss=loss)  # doctest: +SKIP
        """
        for name, value in scalars.items():
            self._stream.guarded(self._stream.log)(name, value)

    def readings(self) -> Readings:
        """Return how things stand at the newest recorded steps, as the rules want it."""
        return latest(self.recording)

    def findings(self) -> tuple[Finding, ...]:
        """Return what the rules suspect from the symptoms alone: no experiment has confirmed it."""
        losses, parameters, activations = self.readings()[1:4]
        return suspect_stream(losses.values.tolist(), parameters, activations)

    def close(self) -> None:
        """Take every hook off, and write what is buffered. What was recorded can still be read."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self._at_exit)
            self._stream.close()
            try:
                self._recording.close()
            except RecordingError as error:  # a full disk, say: the training must not end with it
                self._stream.fail(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def watch(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    path: str | PathLike[str] | None = None,
    every: int = 1,
    overwrite: bool = False,
) -> Watch:
    """Watch a training: every step, light, and without changing a bit of it.

    Gradients (exact norms), weights, updates, activations and their gradients are read by hooks, in your own loop,
    under accumulation, AMP, checkpointing, `torch.compile` and DDP. Nothing else is to be called. A fault of
    graddoctor's own never stops the training: it warns once and stops watching.

    Parameters
    ----------
    model
        What is trained, or the wrapper (DDP, compiled) that is called. Under `torch.compile` activations cannot be read
        (an event says so); parameters, updates and norms can.
    optimizer
        What trains it: one row is recorded for each of its steps.
    path
        A new file to record into, which others can read meanwhile. Without it the recording stays in memory.
    every
        Record each n-th step only.
    overwrite
        Replace a recording that is at ``path`` already.

    Returns
    -------
    Watch
        Use it in a ``with`` statement, or call its ``close``.

    Raises
    ------
    RecipeError
        If the optimizer trains no parameter of the model, or nothing in the model can be trained.
    RecordingError
        If ``path`` cannot be written, or is there already.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with watch(model, optimizer) as observed:
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         model(torch.ones(5, 4)).square().mean().backward()
    ...         optimizer.step()
    >>> observed.recording.steps.tolist()
    [0, 1, 2]
    """
    return Watch(model, optimizer, path=path, every=every, overwrite=overwrite)


def _check(model: nn.Module, optimizer: Optimizer, every: int) -> None:
    if not isinstance(model, nn.Module) or not isinstance(optimizer, Optimizer):
        kinds = f"{type(model).__name__} and {type(optimizer).__name__}"
        raise RecipeError(f"watch(model, optimizer) expected an nn.Module and a torch optimizer, got {kinds}")
    if every < 1:
        raise RecipeError(f"every: expected a number of steps from 1 on, got {every}")
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not trainable:
        raise RecipeError("no parameter of the model requires a gradient: there is nothing to watch")
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not trainable & trained:
        raise RecipeError("the optimizer trains no parameter of this model: build it from model.parameters()")


def _at_exit(observed: Watch) -> Any:
    """Close at the end of the process what nobody closed, without keeping it alive until then."""
    reference = weakref.ref(observed)

    def close() -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    return atexit.register(close)
