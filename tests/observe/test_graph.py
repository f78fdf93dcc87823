import torch
from torch import nn

from graddoctor.observe.graph import first_weight, in_forward_order, walk


def read(loss, module, data=()):
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    return walk(loss, lambda _number, _kind: "", data, names)


def test_nodes_come_inputs_first_with_kinds_and_shapes():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    graph = read(net(torch.randn(4, 3)).mean(), net)
    place = {node: i for i, node in enumerate(graph.nodes)}
    assert all(place[edge.source] < place[node] for node in graph.nodes for edge in node.inputs)
    forward = [(node.kind, node.shapes[0]) for node in in_forward_order(graph.nodes) if node.kind != "t"]
    assert forward == [("linear", (4, 5)), ("tanh", (4, 5)), ("linear", (4, 1)), ("mean", ())]


def test_edges_are_listed_at_both_ends():
    x = torch.randn(3, requires_grad=True)
    h = x * 2
    graph = read((h + h.sin()).sum(), nn.Linear(1, 1))
    product = next(node for node in graph.nodes if node.kind == "mul")
    assert sorted(edge.user.kind for edge in product.users) == ["add", "sin"]
    assert all(edge.source is product and edge in edge.user.inputs for edge in product.users)


def test_data_and_trainable_spread_towards_the_loss():
    net = nn.Linear(3, 3)
    start = net(torch.randn(2, 3))
    frozen = torch.randn(2, 3, requires_grad=True) * 2
    graph = read((start.tanh() + frozen).sum(), net, data={start.grad_fn._sequence_nr()})
    flags = {node.kind: (node.data, node.trainable) for node in graph.nodes}
    assert flags["tanh"] == (True, True)
    assert flags["mul"] == (False, False)
    assert flags["add"] == (True, True)


def test_parameters_reach_a_weight_through_what_is_made_of_them():
    net = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    out = net(torch.randn(2, 3))
    graph = read(out.sum(), net, data={out.grad_fn._sequence_nr()})
    linear = next(node for node in graph.nodes if node.kind == "linear")
    assert set(linear.parameters) == {name for name, _ in net.named_parameters()}
    assert linear.weighs


def test_attention_between_two_streams_weighs_nothing():
    net = nn.Linear(3, 3)
    q = net(torch.randn(2, 3))
    graph = read((q @ q.T).sum(), net, data={q.grad_fn._sequence_nr()})
    product = [node for node in graph.nodes if node.kind == "linear" and node.raw is not q.grad_fn]
    assert [node.weighs for node in product] == [False]


def test_first_weight_stands_in_for_unseen_data():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    graph = read(net(torch.randn(2, 3)).sum(), net)
    (number,) = first_weight(graph)
    linears = [node.number for node in graph.nodes if node.kind == "linear"]
    assert number == min(linears)


def test_no_graph_without_gradient():
    assert read(torch.ones(()), nn.Linear(1, 1)) is None
