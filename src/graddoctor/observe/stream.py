"""Stream: every step of anybody's training loop, light, into a recording.

The only stateful part of observing. It owns every hook, knows in which phase of a step the training is, and decides
what is read when:

=====================================  ==============================================================================
root module is called                  a forward pass begins: taps open (only in training mode and with gradients on)
first gradient of a backward pass      a reading is queued for the end of this backward pass
end of a backward pass                 ``raw`` (``reduced`` under DDP and FSDP): the last one before the step counts
``optimizer.step`` begins              ``clipped``, weights before; with a closure ``clipped`` is read when it returns
``optimizer.step`` ends                weights after; the row is complete
every 16 rows, or after four seconds    statistics are worked out and recorded
=====================================  ==============================================================================
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from graddoctor.observe import engine
from graddoctor.observe.collector import Collector, watched
from graddoctor.observe.ring import Ring, Silence
from graddoctor.observe.taps import Hook, Taps
from graddoctor.recording import Recording, Stage

_CAPACITY = 16  # rows that wait on the device
_PATIENCE = 4.0  # seconds that they wait at most
_RESCAN_EVERY = 64  # steps between two looks for parameters that came, went or were unfrozen
_GOLDEN = 0.6180339887498949  # its multiples fill [0, 1) evenly: where to sample, without any random number
_OUTPUTS = 4  # of the root that are hooked
_NAMED = 20  # modules that one event names

Fingerprint = list[tuple[int, int] | None]


class Stream:
    """Watches one model and one optimizer. A fault of its own switches it off and never reaches the training.

    Parameters
    ----------
    model, optimizer
        What is trained; a wrapper (DDP, FSDP, a compiled module) may be given as well as what it wraps.
    recording
        Where readings go.
    every
        Read each n-th optimizer step only.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, recording: Recording, every: int = 1) -> None:
        self.recording = recording
        self.step = 0
        self.fault: Exception | None = None
        self.prefixes = _prefixes(model)
        self.gradient_stage = Stage.REDUCED if _is_reduced(model) else Stage.RAW
        self._model, self._optimizer, self._every = model, optimizer, every
        self._off = self._armed = self._touched = self._in_step = self._told = False
        self._raw: Fingerprint | None = None  # of the gradients that were read at the end of backward in this step
        self._forwards = 0  # what `Taps.forwards` was when the reading of this backward pass was queued
        self._read = 0  # steps that were read
        self._steps: list[int] = []
        self._ring: Ring | None = None
        self._ring_steps: list[int] = []
        self._silences: dict[str, Silence] = {}
        self._scalars: list[tuple[str, int, Any]] = []
        self._flushed = time.monotonic()
        self._handles: list[Any] = []
        self._parameter_handles: list[Any] = []
        self._last: Fingerprint = []
        self._hears = False  # whether hooks of parameters are called at all: under FSDP1 they may not be
        self.taps = Taps(self.guarded)
        self.collector = Collector([], _CAPACITY, self.gradient_stage)
        self.guarded(self._set_up)()

    # Faults

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what a hook does: nothing of it is traced or differentiated, and no fault of it gets out."""

        @functools.wraps(function)
        def run(*args: Any) -> Any:
            if torch.compiler.is_compiling() or self._off:
                return None
            try:
                return engine.without_gradients(function, *args)
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not stop the training
                self.fail(error)
                return None

        return run

    def fail(self, error: Exception) -> None:
        """Switch off after a fault: say so once, keep what was recorded. The optimizer's hooks idle until `close`."""
        if self.fault is not None:
            return
        self._off, self.fault = True, error
        reason = f"{type(error).__name__}: {error}"
        with suppress(Exception):
            self.taps.remove()
            self._unhook_parameters()
        with suppress(Exception):
            self.recording.event(self.step, "fault", reason)
            self.recording.flush()
        with suppress(Exception), torch.no_grad():
            self.flush()
        with suppress(Warning):  # where warnings are errors, this one still must not stop the training
            warnings.warn(
                f"graddoctor stopped watching at step {self.step} ({reason}); the training goes on undisturbed, "
                "what was recorded until then is kept",
                RuntimeWarning,
                stacklevel=2,
            )

    # Hooks

    def _set_up(self) -> None:
        self.taps.install(self._model, self.prefixes)
        self._collect()
        self._last = self.collector.fingerprint()
        self._handles = [
            self._model.register_forward_pre_hook(Hook(self._before_root)),
            self._model.register_forward_hook(Hook(self._after_root)),
            self._optimizer.register_step_pre_hook(Hook(self.guarded(self._before_step))),
            self._optimizer.register_step_post_hook(Hook(self.guarded(self._after_step))),
        ]
        self._begin_step()

    def _collect(self) -> None:
        """Look for parameters, and have the first gradient of any of them tell that a backward pass runs."""
        self.collector = Collector(watched(self._model, self.prefixes), _CAPACITY, self.gradient_stage)
        self._unhook_parameters()
        touched = Hook(self.guarded(self._gradient_arrived))
        for parameter in self.collector.parameters:
            handle = parameter.register_post_accumulate_grad_hook(touched)  # type: ignore[no-untyped-call]
            self._parameter_handles.append(handle)
        self.recording.declare(self.collector.tracks)

    def _unhook_parameters(self) -> None:
        for handle in self._parameter_handles:
            handle.remove()
        self._parameter_handles.clear()

    def close(self) -> None:
        """Take every hook off and record what is still waiting."""
        self.guarded(self.flush)()
        self._off = True
        self.taps.remove()
        self._unhook_parameters()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    # Forward and backward

    def _before_root(self, module: nn.Module, _args: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling() or self._off or module is not self._model or engine.in_backward():
            return
        self._armed = False
        self.taps.begin(inside=module.training and torch.is_grad_enabled())

    def _after_root(self, module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling() or self._off or module is not self._model or engine.in_backward():
            return
        self.taps.inside = None
        if self.taps.open:
            self.guarded(self._hook_outputs)(output)

    def _hook_outputs(self, output: Any) -> None:
        """Let the outputs tell, too, that a backward pass runs: sharded parameters may not be able to."""
        arm = Hook(self.guarded(self._arm))
        for tensor in _tensors(output)[:_OUTPUTS]:
            if tensor.requires_grad and not engine.is_transformed(tensor):
                tensor.register_hook(arm)  # type: ignore[no-untyped-call]  # torch has no types here

    def _gradient_arrived(self, _parameter: Tensor) -> None:
        self._touched = True
        self._arm()

    def _arm(self, _gradient: Tensor | None = None) -> None:
        stale = self._armed and self._forwards != self.taps.forwards  # a backward pass failed before its end
        if (stale or not self._armed) and self.taps.open and engine.in_backward():
            self._armed, self._forwards = True, self.taps.forwards
            engine.at_end_of_backward(self.guarded(self._backward_over))

    def _backward_over(self) -> None:
        now, touched = self.collector.fingerprint(), self._touched
        self._armed = self._touched = False
        self._hears |= touched
        if not touched and (self._hears or now == self._last):
            return  # autograd.grad: no gradient of a parameter has changed
        if self._raw is not None and not self._in_step and not _accumulated(self._raw, now):
            self._skip_step()
        self._raw = self._last = now
        if self.taps.open:
            self.collector.read_gradients(len(self._steps))

    def _skip_step(self) -> None:
        """Close the row of a step that never came: a loss scaler that found an overflow does not call the optimizer."""
        self.recording.event(self.step, "skipped step", "gradients were computed and dropped without a step")
        waiting = self.taps.take()  # what the hooks have written belongs to the new step
        self._end_step()
        self.taps.give(waiting)

    # The step

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._armed = False
        if optimizer is not self._optimizer or not self.taps.open:
            return None
        self._in_step = True
        row = len(self._steps)
        self.collector.read_weights(row, after=False)
        if _is_early(self._read):
            self.collector.read_identical()
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._read_clipped()
            return None
        wrapped = self._wrapped(closure)
        if len(args) > 1:
            return (args[0], wrapped, *args[2:]), kwargs
        return args, {**kwargs, "closure": wrapped}

    def _wrapped(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Read when the closure returns: with a closure the backward pass runs inside the step."""
        read = self.guarded(self._closure_returned)

        @functools.wraps(closure)
        def run() -> Any:
            loss = closure()
            read(loss)
            return loss

        return run

    def _closure_returned(self, loss: Any) -> None:
        if isinstance(loss, float) or (isinstance(loss, Tensor) and loss.numel() == 1):
            self.log("closure_loss", loss)
        self._read_clipped()

    def _read_clipped(self) -> None:
        changed = self._raw is None or self.collector.fingerprint() != self._raw
        scale = getattr(self._optimizer, "grad_scale", None)  # a fused optimizer unscales inside its kernel
        self.collector.read_clipped(len(self._steps), changed=changed, scale=scale)

    def _after_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if optimizer is not self._optimizer:
            return
        if self.taps.open:
            self.collector.read_weights(len(self._steps), after=True)
            self.log("lr", optimizer.param_groups[0]["lr"])
        self._end_step()

    def _end_step(self) -> None:
        self._in_step, self._raw = False, None
        if self.taps.open:
            self._keep_activations()
            self._steps.append(self.step)
            self._read += 1
            if len(self._steps) == _CAPACITY or time.monotonic() - self._flushed > _PATIENCE:
                self.flush()
        self.step += 1
        if self.step % _RESCAN_EVERY == 1 and not self.collector.is_current(self._model.parameters()):
            self.flush()
            self._collect()
        self._begin_step()

    def _begin_step(self) -> None:
        turn, reading = self._read * _GOLDEN % 1, self.step % self._every == 0
        self.taps.begin_step(self._read, turn, early=_is_early(self._read), reading=reading)

    def _keep_activations(self) -> None:
        taps = [tap for tap in self.taps.taps if tap.plan is not None]
        if not self._told:
            self._told = True
            self._tell_silent({tap.module for tap in taps})
        if self._ring is None or not self._ring.holds(taps):
            self._flush_activations()
            self._ring = Ring(taps, _CAPACITY)
            self.recording.declare(self._ring.tracks)
        self._ring.commit(len(self._ring_steps))
        self._ring_steps.append(self.step)

    def _tell_silent(self, heard: set[str]) -> None:
        """Say which modules could not be read: not called, compiled before, or with outputs that have no samples."""
        silent = [name for name in self.taps.names if name not in heard]
        if silent:
            few = ", ".join(silent[:_NAMED]) + (", …" if len(silent) > _NAMED else "")
            self.recording.event(self.step, "silent taps", f"{len(silent)} modules gave no activation to read: {few}")

    # Recording

    def log(self, name: str, value: Any) -> None:
        """Keep a number of this step; a tensor is read when the row is recorded, not now."""
        if isinstance(value, Tensor):
            value = value.detach().clone()
        self._scalars.append((name, self.step, value))

    def flush(self) -> None:
        """Work out and record what is waiting. Here the host waits for the device."""
        self._flushed = time.monotonic()
        self._flush_activations()
        if self._steps:
            steps, self._steps = self._steps, []
            table = self.collector.table(len(steps))
            self.recording.append(steps, table, self.recording.columns(self.collector.tracks))
            for name, values in self.collector.totals(table).items():
                for step, value in zip(steps, values.tolist(), strict=True):
                    self.recording.log(step, **{name: value})
            self.collector.move(steps[-1] * _GOLDEN % 1)
        scalars, self._scalars = self._scalars, []
        for name, step, value in scalars:
            self.recording.log(step, **{name: float(value)})
        self.recording.flush()

    def _flush_activations(self) -> None:
        if self._ring is not None and self._ring_steps:
            steps, self._ring_steps = self._ring_steps, []
            table = self._ring.table(len(steps), self._silences)
            self.recording.append(steps, table, self.recording.columns(self._ring.tracks))


def _is_early(read: int) -> bool:
    return read & (read - 1) == 0  # 0, 1, 2, 4, 8, …


def _accumulated(before: Fingerprint, now: Fingerprint) -> bool:
    """Whether any gradient was added to: the same memory, changed since."""
    pairs = zip(before, now, strict=True)
    return any(old and new and old[0] == new[0] and new[1] > old[1] for old, new in pairs)


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        return [tensor for part in output for tensor in _tensors(part)]
    return []


def _is_reduced(model: nn.Module) -> bool:
    """Whether gradients are summed over ranks inside the backward pass."""
    wrappers = {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    return bool(wrappers & kinds)


def _prefixes(model: nn.Module) -> tuple[str, ...]:
    """What wrappers put into names."""
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    prefixes = {
        "OptimizedModule": "_orig_mod.",
        "DistributedDataParallel": "module.",
        "FullyShardedDataParallel": "_fsdp_wrapped_module.",
        "CheckpointWrapper": "_checkpoint_wrapped_module.",
    }
    return tuple(prefix for kind, prefix in prefixes.items() if kind in kinds)
