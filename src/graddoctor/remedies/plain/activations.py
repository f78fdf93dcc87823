"""Exchange nonlinearities, whether they are modules or calls in a forward."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ACTIVATION_MODULES = "torch.nn.modules.activation"
NONLINEARITIES = frozenset(
    "relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish softplus "  # noqa: SIM905
    "softsign sigmoid logsigmoid tanh hardtanh hardsigmoid hardswish exp expm1 square softmax "
    "log_softmax softmin sin cos erf threshold".split()
)


def swap_modules(
    model: nn.Module, names: Iterable[str], replacement: Callable[..., nn.Module], **options: Any
) -> nn.Module:
    """Put a new ``replacement(**options)`` in the place of each named module.

    Each name gets an object of its own. It stands on the same device, in the same mode, and keeps
    the hooks of the module that was there.
    """
    for name in names:
        parent, _, attribute = name.rpartition(".")
        owner = model.get_submodule(parent)
        old, new = owner.get_submodule(attribute), replacement(**options)
        like = next(
            (p for m in (old, owner, model) for p in m.parameters() if p.is_floating_point()), None
        )
        if like is not None:
            new.to(like.device, like.dtype)
        new.train(old.training)
        vars(new).update({key: value for key, value in vars(old).items() if "hook" in key})
        setattr(owner, attribute, new)
    return model


def swap_calls(
    model: nn.Module,
    calls: Mapping[str, tuple[int | str, ...]],
    activation: str | None,
    **options: Any,
) -> nn.Module:
    """Call ``torch.nn.functional.<activation>`` in place of nonlinearities that forwards call.

    ``calls`` has the names of the modules whose forward is rewritten by `torch.fx`, and which of
    the nonlinearities it calls are meant: by number, counted from 0, or all of a name. Without
    an ``activation`` the call is left out. The new forward is this one object's: class, names and
    hooks stay.
    """
    for owner, chosen in calls.items():
        module = model.get_submodule(owner)
        graph = trace_forward(module)
        named = ((nonlinearity_of(module, node), node) for node in graph.nodes)
        for number, (name, node) in enumerate([pair for pair in named if pair[0]]):
            if number in chosen or name in chosen:
                exchange_node(module, node, activation, options)
        code = graph.python_code("self")
        names = {name: thing for name, thing in code.globals.items() if not inspect.ismodule(thing)}
        module.forward = RewrittenForward(module, code.src, names)
    return model


def trace_forward(module: nn.Module) -> fx.Graph:
    """Trace the forward of a module's class, or the one that was rewritten for this object."""
    kind, own = type(module), vars(module).get("forward")
    if own is None:
        return OneLevelTracer().trace(module)
    if not isinstance(own, RewrittenForward):
        raise TypeError(f"expected the forward of {kind.__name__} itself, got {own}: fx reads that")
    module.__class__ = type(kind.__name__, (kind,), {"forward": own.function})
    try:
        return OneLevelTracer().trace(module)
    finally:
        module.__class__ = kind


class OneLevelTracer(fx.Tracer):
    """Traces one forward; the modules that it calls stay calls."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Look into none."""
        return True


def nonlinearity_of(module: nn.Module, node: fx.Node) -> str:
    """Name of the nonlinearity that a node calls, itself or through its module; ``""`` if none."""
    name = str(getattr(node.target, "__name__", node.target)).strip("_")
    if node.op == "call_module":
        called = type(module.get_submodule(str(node.target)))
        name = called.__name__.lower() if called.__module__ == ACTIVATION_MODULES else ""
        return next((known for known in NONLINEARITIES if known.replace("_", "") == name), "")
    return name if node.op in {"call_function", "call_method"} and name in NONLINEARITIES else ""


def exchange_node(
    module: nn.Module, node: fx.Node, activation: str | None, options: dict[str, Any]
) -> None:
    """Put another function in the place of a call, in place where it was; ``None``: nothing."""
    given: Any = node.args[0] if node.args else node.kwargs["input"]
    if node.op == "call_module":
        in_place = getattr(module.get_submodule(str(node.target)), "inplace", False)
    else:
        in_place = str(getattr(node.target, "__name__", node.target)).endswith("_")
        in_place = in_place or bool(node.kwargs.get("inplace"))
        in_place = in_place or any(arg is True for arg in node.args)
    with node.graph.inserting_before(node):
        new = given
        if activation is not None:
            source = node.graph.call_method("clone", (given,)) if in_place else given
            new = node.graph.call_function(getattr(functional, activation), (source,), options)
            new = node.graph.call_method("copy_", (given, new)) if in_place else new
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


class RewrittenForward:
    """A forward from source code, for one module; copied and pickled with it."""

    def __init__(self, module: nn.Module, source: str, names: dict[str, Any]) -> None:
        self.module, self.source, self.names = module, source, names
        scope: dict[str, Any] = {"torch": torch, **names}
        exec(source, scope)  # noqa: S102 - written by torch.fx from the module's own forward
        self.function = scope["forward"]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it on the module."""
        return self.function(self.module, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return RewrittenForward, (self.module, self.source, self.names)


def swap_calls_at_run(
    model: nn.Module,
    calls: Mapping[str, tuple[int | str, ...]],
    activation: str | None,
    **options: Any,
) -> nn.Module:
    """Exchange calls as `swap_calls` does, while a forward that cannot be rewritten runs.

    Better change these calls in the forward itself, where you can.
    """
    for owner, chosen in calls.items():
        module = model.get_submodule(owner)
        module.forward = WatchedForward(module, chosen, activation, options)
    return model


class WatchedForward:
    """A module's forward, with some of the nonlinearities that it calls exchanged."""

    def __init__(
        self,
        module: nn.Module,
        chosen: tuple[int | str, ...],
        activation: str | None,
        options: dict[str, Any],
    ) -> None:
        self.module, self.forward = module, module.forward
        self.chosen, self.activation, self.options = chosen, activation, options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward."""
        with CallExchange(self):
            return self.forward(*args, **kwargs)

    def instead(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what is put in the place of a call."""
        if self.activation is None:
            return x
        changed: torch.Tensor = getattr(functional, self.activation)(x, **self.options)
        return changed


class CallExchange(TorchFunctionMode):
    """Exchanges calls while it is entered."""

    def __init__(self, watched: WatchedForward) -> None:
        super().__init__()
        self.watched, self.count = watched, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs, watched = kwargs or {}, self.watched
        name = getattr(func, "__name__", "")
        kind, x = name.strip("_"), args[0] if args else kwargs.get("input")
        counts = kind in NONLINEARITIES and isinstance(x, torch.Tensor) and x.is_floating_point()
        if not counts or calling_module() is not watched.module:
            return func(*args, **kwargs)
        number, self.count = self.count, self.count + 1
        if number not in watched.chosen and kind not in watched.chosen:
            return func(*args, **kwargs)
        in_place = name.endswith("_") or kwargs.get("inplace") or any(arg is True for arg in args)
        if in_place and watched.activation is not None:
            return x.copy_(watched.instead(x.clone()))
        return watched.instead(x)


def calling_module() -> nn.Module | None:
    """Find the module whose forward is running; those that only hold an activation do not count."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and code.co_argcount:
            module = frame.f_locals.get(code.co_varnames[0])
            if isinstance(module, nn.Module) and type(module).__module__ != ACTIVATION_MODULES:
                return module
        frame = frame.f_back
    return None
