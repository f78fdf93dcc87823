"""What to call the operations of a graph, and what the forward pass left to say about them."""

from __future__ import annotations

import math

from torch import Tensor, nn

from graddoctor.observe._flow import Flow
from graddoctor.observe._recorder import Pass
from graddoctor.observe._rows import within
from graddoctor.observe.graph import Graph, Node, in_forward_order
from graddoctor.observe.ledger import Reading
from graddoctor.observe.readings import OperationReading


class Owner:
    """The module that an operation is told under: the one whose weight it uses.

    That is the module which runs, but for modules that use another's weight without calling it (attention and its
    ``out_proj``), and for functional code, where the parameter's own name says most.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self._matrices: set[str] = set()
        self._lists: set[str] = set()
        by_id: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            by_id.setdefault(id(parameter), []).append(name)
            if _is_matrix(parameter):
                self._matrices.add(name)
        for names in by_id.values():
            self._names[names[0]] = tuple(names)
        for name, module in model.named_modules():
            if isinstance(module, (nn.ParameterList, nn.ParameterDict)):
                self._lists.add(name)

    def __call__(self, node: Node) -> str:
        """Name the module, or the parameter where none stands for it."""
        parameters = [name for name in node.parameters if name in self._matrices] or list(node.parameters)
        names = [alias for name in parameters for alias in self._names.get(name, ())]
        owners = [self._owner(name) for name in names]
        if not owners or node.module in owners:
            return node.module or (owners[0] if owners else node.kind)
        return next((owner for owner in owners if within(owner, node.module)), node.module)

    def _owner(self, parameter: str) -> str:
        module, _, parametrized = parameter.partition(".parametrizations.")
        if not parametrized:
            module = parameter.rpartition(".")[0]
        return parameter if not module or module in self._lists else module


def _is_matrix(parameter: Tensor) -> bool:
    return not nn.parameter.is_lazy(parameter) and parameter.dim() > 1


class Spreads:
    """Spread between samples and root mean square of what each node made; views have those of what they view."""

    def __init__(self, run: Pass) -> None:
        self._seen = run.seen

    def __call__(self, node: Node) -> Reading | None:
        """Read one node."""
        at: Node | None = node
        while at is not None:
            seen = self._seen.get(at.number)
            if seen is not None and seen.spread is not None and seen.rms is not None:
                return float(seen.spread), float(seen.rms)
            at = at.flow[0].source if at.sort == "view" and len(at.flow) == 1 else None
        return None


def operation_readings(graph: Graph, flow: Flow) -> tuple[OperationReading, ...]:
    """Every node in forward order, with the gradient that arrives and leaves."""
    counts: dict[str, int] = {}
    found = []
    for order, node in enumerate(in_forward_order(graph.nodes)):
        name = _unique(f"{node.module}:{node.kind}" if node.module else node.kind, counts)
        arriving, leaving = flow.at(node), _leaving(node, flow)
        sound = all(math.isfinite(norm) and norm > 0 for norm in (arriving, leaving))
        gain = math.log10(leaving) - math.log10(arriving) if sound else math.nan
        shape = node.shapes[0] if node.shapes else ()
        found.append(OperationReading(name, node.kind, node.module, shape, gain, arriving, leaving, order))
    return tuple(found)


def _leaving(node: Node, flow: Flow) -> float:
    edges = node.flow or node.inputs
    return flow.by(edges[0]) if edges else math.nan


def _unique(name: str, counts: dict[str, int]) -> str:
    count = counts[name] = counts.get(name, 0) + 1
    return name if count == 1 else f"{name}#{count}"
