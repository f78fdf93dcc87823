import math

import networkx as nx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_networks import NETWORKS
from torch import nn

from graddoctor.observe import probe
from graddoctor.observe.dominators import backbone, chain
from graddoctor.observe.graph import walk


class Drawn(nn.Module):
    """A network drawn at random: every operation reads one or two of those before it, the last ones are summed."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self.first = nn.Linear(5, 6)
        self.weights = nn.ModuleList(nn.Linear(6, 6) for _ in plan)

    def forward(self, x):
        made, used = [self.first(x)], set()
        for weight, (what, one, two) in zip(self.weights, self.plan, strict=True):
            a, b = one % len(made), two % len(made)
            used |= {a, b} if what == "add" else {a}
            h = made[a] + made[b] if what == "add" else weight(made[a]) if what == "linear" else torch.tanh(made[a])
            made.append(h)
        return sum(h for i, h in enumerate(made) if i not in used)


PLANS = st.lists(
    st.tuples(st.sampled_from(["add", "linear", "tanh"]), st.integers(0, 99), st.integers(0, 99)),
    min_size=1,
    max_size=14,
)


def graph_of(model, x):
    out = model(x)
    names = {id(p): name for name, p in model.named_parameters()}
    first = min(node.number for node in walk(out.sum(), lambda *_: "", (), names).nodes if node.kind == "linear")
    return walk(out.sum(), lambda *_: "", {first}, names)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS)
def test_the_chain_is_every_tensor_whose_removal_separates_loss_and_early_end(plan):
    torch.manual_seed(0)
    graph = graph_of(Drawn(plan), torch.randn(3, 5))
    found = chain(graph, graph.root.number)
    net = nx.DiGraph()
    net.add_edges_from((node, edge.source) for node in graph.nodes for edge in node.flow)
    source = next(node for node in graph.nodes if node.data and node.trainable and not node.flow)
    must = set()
    for node in set(net.nodes) - {graph.root, source}:
        rest = net.copy()
        rest.remove_node(node)
        if not nx.has_path(rest, graph.root, source):
            must.add(node)
    ends = {region.late for region in found.regions} | {region.early for region in found.regions} | {found.first}
    assert ends - {None, source, graph.root} == must


@settings(max_examples=40, deadline=None)
@given(plan=PLANS, seed=st.integers(0, 99))
def test_budgets_of_random_networks_add_up(plan, seed):
    torch.manual_seed(seed)
    budget = probe(Drawn(plan), lambda m, x: m(x).square().mean(), [torch.randn(4, 5)]).budget
    assert abs(math.fsum(row.decades for row in budget.rows) - budget.total) < 1e-9
    assert len({row.name for row in budget.rows}) == len(budget.rows)
    for row in budget.rows:
        shares = [part.share for part in row.parts if part.kind in {"skip", "branch", "path"}]
        assert not shares or abs(math.fsum(shares) - 1) < 1e-9
        if not shares:
            assert abs(math.fsum(part.decades for part in row.parts) - row.decades) < 1e-9


def test_every_operation_lies_in_one_region():
    torch.manual_seed(0)
    model, loss, batch = NETWORKS["unet"]()
    names = {id(p): name for name, p in model.named_parameters()}
    first = model.enc1(batch[0]).grad_fn._sequence_nr() + 1
    graph = walk(loss(model, batch), lambda *_: "", {first}, names)
    found = chain(graph, None)
    inside = [node for region in found.regions for node in (*region.nodes, region.late) if node is not None]
    assert len(inside) == len(set(inside))


def test_a_backbone_leaves_out_what_gradient_can_avoid():
    layer = nn.Linear(3, 3)
    x = layer(torch.randn(2, 3))
    a = torch.tanh(x)
    b = torch.relu(a) + torch.sigmoid(a)
    y = x + torch.exp(b)
    graph = walk(y.sum(), lambda *_: "", {x.grad_fn._sequence_nr()}, {id(p): "w" for p in layer.parameters()})
    by_kind = {(node.kind, node.raw is y.grad_fn): node for node in graph.nodes}
    late = by_kind["add", True]
    path = [
        node for node in graph.nodes if node.kind in {"tanh", "relu", "sigmoid", "exp"} or node is by_kind["add", False]
    ]
    entering = [edge for edge in by_kind["linear", False].users if edge.user is not late]
    assert [node.kind for node in backbone(path, late, entering)] == ["tanh", "add", "exp"]
