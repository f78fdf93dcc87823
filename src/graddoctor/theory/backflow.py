"""The expected gradient: what `graddoctor.observe.budget.settle` reads of a real one, from laws alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from graddoctor.observe._flow import Flow
from graddoctor.observe._rows import Cut
from graddoctor.observe.graph import Edge, Graph, Node
from graddoctor.observe.ledger import Reading
from graddoctor.observe.tape import Call, Ref, Tape
from graddoctor.theory.laws import Gradient, energy, flat
from graddoctor.theory.propagation import Propagation

_SEED = 0
_START = 1e100  # squared, of the gradient at the late end: room for two hundred decades down and a hundred up


class ExpectedFlow(Flow):
    """Norms of expected gradients at nodes and along edges, from one at the late end of the network."""

    def __init__(self, graph: Graph, tape: Tape, laws: Propagation, late: Cut) -> None:
        super().__init__(graph)
        self._laws = laws
        self._made = {ref.index: call.number for call in tape.calls for ref in call.results if ref is not None}
        self._made |= {ref.index: number for number, ref in tape.begun.items()}
        self._raw = {node.number: node for node in graph.nodes}
        self._gradients: dict[int, Gradient] = {}
        self._carried: dict[tuple[int, int], float] = {}  # squared norm from the node to the one before it
        self._outs: dict[int, list[Ref]] = {number: [ref] for number, ref in tape.begun.items()}
        for call in tape.calls:
            if call.number >= 0 and call.number not in self._outs:
                self._outs[call.number] = [ref for ref in call.results if ref is not None]
        self._adopt(graph, tape)
        self._start(late)
        self._energy: dict[int, float] = {}
        for call in reversed(tape.calls):
            self._pass(call)

    def _adopt(self, graph: Graph, tape: Tape) -> None:
        """Find what functions of the user's own and re-entrant checkpoints made: within them no graph is kept."""
        numbers = {id(node.raw): node.number for node in graph.nodes}
        for call in tape.calls:
            for ref, tensor in zip(call.results, call.tensors, strict=True):
                number = numbers.get(id(tensor.grad_fn)) if tensor is not None and call.number < 0 else None
                if ref is not None and number is not None:
                    self._outs.setdefault(number, [ref])
                    self._made.setdefault(ref.index, number)

    # -- what a flow is asked for

    def at(self, node: Node) -> float:
        """Norm of the gradient that arrives at a node's outputs."""
        refs = self._outs.get(node.number, [])
        found = [self._squared(ref) for ref in refs[: len(node.shapes)]]
        return math.sqrt(sum(found)) if found else math.nan

    def by(self, edge: Edge) -> float:
        """Norm of what an edge brings."""
        squared = self._carried.get((edge.user.number, edge.source.number))
        if squared is None:
            return self.at(edge.source) if len(edge.source.users) == 1 else math.nan
        twins = sum(other.source is edge.source for other in edge.user.inputs)
        return math.sqrt(squared / max(twins, 1))

    def part(self, edge: Edge) -> float:
        """Inner product with the whole gradient: independent parts meet themselves alone."""
        return self.by(edge) ** 2

    def over(self, edges: Iterable[Edge]) -> float:
        """Norm over a set of edges."""
        return math.hypot(*(self.by(edge) for edge in edges))

    # -- backward

    def _squared(self, ref: Ref) -> float:
        inner = self._energy.get(ref.index, 0.0)
        gradient = self._gradients.get(ref.index)
        return inner + (energy(gradient, ref.numel) if gradient is not None else 0.0)

    def _start(self, late: Cut) -> None:
        for node in late.whole:
            for ref in self._outs.get(node.number, [])[:1]:
                self._add(ref, Gradient(flat(_START, len(ref.shape))))
        for edge in late.edges:
            for ref in self._outs.get(edge.source.number, [])[:1]:
                self._add(ref, Gradient(flat(_START, len(ref.shape))))
                self._carry(edge.user.number, ref, _START * ref.numel)

    def _add(self, ref: Ref, gradient: Gradient) -> None:
        before = self._gradients.get(ref.index)
        self._gradients[ref.index] = gradient if before is None else before + gradient

    def _carry(self, user: int, ref: Ref, squared: float) -> None:
        made = self._made.get(ref.index)
        if made is not None and user >= 0:
            key = (user, made)
            self._carried[key] = self._carried.get(key, 0.0) + squared

    def _pass(self, call: Call) -> None:
        for place, ref in enumerate(call.results):
            gradient = self._gradients.get(ref.index) if ref is not None else None
            if ref is None or gradient is None:
                continue
            if ref.index in self._laws.composites:
                self._through(ref, gradient)
            else:
                self._back(call, place, ref, gradient)

    def _back(self, call: Call, place: int, ref: Ref, gradient: Gradient) -> None:
        step = self._laws.steps.get(ref.index)
        pulls = [] if step is None else [pull for pull in step.pulls if pull.result == place]
        if not pulls and call in self._laws.unknown:
            self._measured(call, ref, gradient)
        for pull in pulls:
            if pull.ref.index in call.barred:
                continue
            part = pull.back(gradient)
            self._add(pull.ref, part)
            self._carry(call.number, pull.ref, energy(part, pull.ref.numel))

    def _through(self, ref: Ref, gradient: Gradient) -> None:
        """Go from the result of a composite straight to its root, and note what passes between."""
        composite, slopes = self._laws.composites[ref.index], self._laws.slopes(ref.index)
        root = composite.root
        square: Tensor | float = slopes.square
        if gradient.largest > 1:
            square = slopes.look.at_largest(gradient.largest)
        part = gradient.shaped(root.shape).scaled(square, along=slopes.along)
        self._add(root, part)
        whole = energy(gradient, ref.numel)
        for call in reversed(composite.calls):
            above = whole * slopes.inner.get(call.out.index, 0.0)
            if call.out.index != ref.index:
                self._energy[call.out.index] = self._energy.get(call.out.index, 0.0) + above
            for source in dict.fromkeys(ref for ref in call.refs() if ref.index not in call.barred):
                inner = whole * slopes.inner.get(source.index, 0.0)
                at = energy(part, root.numel) if source.index == root.index else inner
                self._carry(call.number, source, at if above > 0 else 0.0)

    def _measured(self, call: Call, ref: Ref, gradient: Gradient) -> None:
        """Continue without theory: hand a random gradient through the node itself."""
        node = self._raw.get(call.number)
        gains = measured_gains(node) if node is not None else {}
        numbers = {made: ref for ref in call.refs() if (made := self._made.get(ref.index)) is not None}
        for number, gain in gains.items():
            source = numbers.get(number)
            if source is None or source.index in call.barred:
                continue
            squared = energy(gradient, ref.numel) * gain
            self._add(source, Gradient(flat(squared / max(source.numel, 1), len(source.shape))))
            self._carry(call.number, source, squared)


def measured_gains(node: Node) -> dict[int, float]:
    """Gains of the squared norm of a random gradient through one node, by the number of the node before it."""
    generator = torch.Generator().manual_seed(_SEED)
    given = [torch.randn(shape, generator=generator) if shape else torch.ones(()) for shape in node.shapes]
    metadata = node.raw._input_metadata  # noqa: SLF001 - shapes, types and devices; FX reads it too
    given = [g.to(dtype=m.dtype, device=m.device) for g, m in zip(given, metadata, strict=True)]
    given = [given[0], *(torch.zeros_like(g) for g in given[1:])]
    try:
        with torch.no_grad():
            found = node.raw(*given)
    except (RuntimeError, TypeError):
        return {}
    results: Sequence[Tensor | None] = found if isinstance(found, tuple) else (found,)
    size = float(given[0].double().square().sum())
    gains: dict[int, float] = {}
    for edge in node.inputs:
        result = results[edge.place] if edge.place < len(results) else None
        if isinstance(result, Tensor) and size > 0:
            number = edge.source.number
            gains[number] = gains.get(number, 0.0) + float(result.double().square().sum()) / size
    return gains


class ExpectedSpreads:
    """Spread between samples and root mean square of what each node made, from laws."""

    def __init__(self, tape: Tape, laws: Propagation) -> None:
        self._laws = laws
        self._outs: dict[int, Ref] = dict(tape.begun)
        for call in tape.calls:
            if call.number >= 0:
                self._outs.setdefault(call.number, call.out)

    def __call__(self, node: Node) -> Reading | None:
        """Read one node."""
        ref = self._outs.get(node.number)
        if ref is None or self._laws.samples < 2:  # noqa: PLR2004 - one sample differs from no other
            return None
        law = self._laws.law(ref.index)
        apart = max(law.average - law.between, 0.0) * (1 - 1 / self._laws.samples)
        return math.sqrt(apart), math.sqrt(max(law.average, 0.0))
