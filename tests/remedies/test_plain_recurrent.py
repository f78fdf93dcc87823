"""Gates start as they are told, gated cells are called as those without gates, and what is kept by hand is kept."""

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_networks import Joined, Raw, Spelled, recall
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from graddoctor.remedies.plain.recurrent import centre_states, gate_recurrence, open_gates
from graddoctor.remedies.plain.state_gates import gate_states

KINDS = [nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell]


def biases(module):
    """The sum of each pair of biases, its gates in rows."""
    firsts = [name for name, _ in module.named_parameters() if name.startswith("bias_ih")]
    sums = (getattr(module, name) + getattr(module, name.replace("ih", "hh")) for name in firsts)
    return [one.detach().view(-1, module.hidden_size) for one in sums]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{"bias": 3.0}, {"steps": 40}])
def test_gates_start_as_they_are_told_and_all_else_stays(kind, options):
    module = kind(3, 8)
    lstm = isinstance(module, nn.LSTM | nn.LSTMCell)
    before, state = copy.deepcopy(module), torch.get_rng_state()
    assert open_gates(module, [""], **options) is module
    assert torch.equal(torch.get_rng_state(), state)
    (now,), (then,) = biases(module), biases(before)
    memory, entrance = (now[1], now[0]) if lstm else (now[1], None)
    assert memory.tolist() == [3.0] * 8 if "bias" in options else bool((memory >= 0).all())
    if lstm:
        assert torch.equal(entrance, torch.zeros(8) if "bias" in options else -memory)
        assert not now[3].any()
    else:
        assert not now[0].any()
    assert torch.equal(now[2], then[2])
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before.parameters(), strict=True) if p.ndim > 1)


def test_every_layer_and_direction_is_opened():
    lstm = open_gates(nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2), [""], bias=2.0)
    assert [one[1].tolist() for one in biases(lstm)] == [[2.0] * 4] * 4


def test_memories_are_spread_evenly_up_to_the_length():
    torch.manual_seed(0)
    lasting = biases(open_gates(nn.LSTM(1, 1000), [""], steps=50))[0][1].double().exp()
    assert 1 <= lasting.min() < 1.5
    assert 48 < lasting.max() <= 49.01
    assert float(lasting.mean()) == pytest.approx(25, rel=0.08)  # log U(1, T - 1)


LAYERS = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 2),
        "bidirectional": st.booleans(),
        "batch_first": st.booleans(),
        "bias": st.booleans(),
        "nonlinearity": st.sampled_from(["tanh", "relu"]),
    }
)


def given_to(options, form):
    """Input and initial state for a layer, in some form."""
    shape = (3, 5, 2) if options["batch_first"] else (5, 3, 2)
    x, state = torch.randn(shape), torch.randn((2 if options["bidirectional"] else 1) * options["num_layers"], 3, 4)
    if form == "single":
        return (torch.randn(5, 2),)
    if form == "packed":
        return pack_padded_sequence(x, torch.tensor([2, 5, 3]), options["batch_first"], enforce_sorted=False), state
    return (x, state) if form == "state" else (x,)


@settings(max_examples=25, deadline=None)
@given(LAYERS, st.sampled_from([nn.LSTM, nn.GRU]), st.sampled_from(["plain", "state", "packed", "single"]))
def test_a_gated_layer_takes_and_gives_what_the_other_did(options, kind, form):
    rnn = nn.RNN(2, 4, **options).double()
    rnn.register_forward_hook(lambda *_: None)
    names = [name for name, _ in rnn.named_parameters()]
    gated = gate_recurrence(rnn, [""], kind, steps=9).float()
    assert isinstance(gated, kind)
    assert len(gated._forward_hooks) == 1
    assert set(names) <= {name for name, _ in gated.named_parameters()}
    inputs = given_to(options, form)
    for one, other in zip(gated(*inputs), rnn.float()(*inputs), strict=True):
        assert type(one) is type(other)
        data = (
            (one.data, other.data)
            if form == "packed" and one is not None and not isinstance(one, torch.Tensor)
            else (one, other)
        )
        assert data[0].shape == data[1].shape


def test_a_single_cell_becomes_a_gru_cell_and_random_state_stays():
    model, state = nn.ModuleDict({"a": nn.RNNCell(2, 4), "b": nn.Linear(2, 2)}), torch.get_rng_state()
    model["again"] = model["a"]
    gate_recurrence(model.double().eval(), ["a"], nn.GRU, bias=2.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(model["a"], nn.GRUCell)
    assert model["again"] is model["a"]
    assert not model["a"].training
    assert model["a"].weight_hh.dtype is torch.float64
    assert all(torch.allclose(w @ w.T, torch.eye(4).double(), atol=1e-5) for w in model["a"].weight_hh.chunk(3))


def through_time(lstm, x, hand_on):
    state, outputs = None, []
    for x_t in x.split(1):
        output, state = lstm(x_t, None if state is None else hand_on(state))
        outputs.append(output)
    return torch.cat(outputs)


@pytest.mark.parametrize(
    "hand_on", [lambda h: h, torch.Tensor.detach, lambda h: h.clone()], ids=["same", "cut", "copy"]
)
def test_memory_goes_along_with_the_state_that_was_given(hand_on):
    lstm, x = gate_recurrence(nn.RNN(2, 4, 2), [""], nn.LSTM, steps=9), torch.randn(7, 3, 2)
    whole, _ = lstm(x)
    expected, _ = nn.LSTM.forward(lstm, x)
    assert torch.equal(whole, expected)
    assert torch.allclose(through_time(lstm, x, hand_on), whole, atol=1e-6)


def test_the_gradient_goes_along_with_the_memory_and_ends_where_the_state_is_cut():
    lstm = gate_recurrence(nn.RNN(2, 4), [""], nn.LSTM, steps=9)
    for hand_on, reached in ((lambda h: h, True), (torch.Tensor.detach, False)):
        x = torch.randn(7, 3, 2, requires_grad=True)
        through_time(lstm, x, hand_on)[-1].sum().backward()
        assert bool(x.grad[0].any()) is reached


def test_another_state_is_a_memory_too():
    lstm, x, state = gate_recurrence(nn.RNN(2, 4), [""], nn.LSTM, steps=9), torch.randn(7, 3, 2), torch.randn(1, 3, 4)
    lstm(x)
    expected, _ = nn.LSTM.forward(lstm, x, (state, state))
    assert torch.equal(lstm(x, state)[0], expected)


def test_a_network_that_has_run_is_copied_and_pickled():
    lstm, x = gate_recurrence(nn.RNN(2, 4), [""], nn.LSTM, steps=9), torch.randn(7, 3, 2)
    expected, _ = lstm(x)
    for twin in (copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))):  # noqa: S301 - made here
        assert torch.equal(twin(x)[0], expected)


def kept_by_hand(model, x):
    """What the gated `Spelled` should compute, spelled out."""
    state, gate = x.new_zeros(len(x), model.size), model.h2h.state_gate
    for x_t in x.unbind(1):
        total = model.x2h(x_t) + model.h2h(state)
        z = torch.sigmoid(gate(total.clone()))
        state = z * state + (1 - z) * model.activation(total)
    return model.head(state)


@pytest.mark.parametrize(
    "activation",
    [torch.sigmoid, torch.tanh, lambda x: x.relu_(), nn.Sigmoid()],
    ids=["sigmoid", "tanh", "relu_", "module"],
)
def test_a_state_is_kept_as_the_line_says(activation):
    torch.manual_seed(0)
    x = recall(6, 8)[0].double()
    model = Spelled(activation).double()
    names = set(model.state_dict())
    kind = {"sigmoid": "sigmoid", "tanh": "tanh"}.get(getattr(activation, "__name__", "sigmoid"), "relu")
    kind = "sigmoid" if isinstance(activation, nn.Module) else kind
    gate_states(model, {"h2h.weight": kind}, steps=6)
    assert set(model.state_dict()) - names == {"h2h.state_gate.weight", "h2h.state_gate.bias"}
    outputs = (model(x), kept_by_hand(model, x))
    gradients = [torch.autograd.grad(output.square().sum(), list(model.parameters())) for output in outputs]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize(("build", "weight"), [(Joined, "i2h.weight"), (Raw, "w")])
def test_joined_vectors_and_bare_parameters_are_followed(build, weight):
    model, x = build(), recall(6, 8)[0]
    before = model(x)
    gate_states(model, {weight: "tanh"}, bias=50.0)
    assert not torch.allclose(model(x), before)
    assert torch.allclose(model(x), model.head(torch.zeros(8, 16)), atol=1e-5)  # the gate is wide open: nothing new


def test_a_centred_sigmoid_is_a_tanh():
    torch.manual_seed(0)
    model, x = Spelled().double(), recall(9, 8)[0].double()
    with torch.no_grad():
        nn.init.orthogonal_(model.h2h.weight, 4.0)
        for bias in (model.x2h.bias, model.h2h.bias):
            bias.zero_()
    centre_states(model, {"x2h.bias": "h2h.weight"}, 0.5)
    u, w = model.x2h.weight, model.h2h.weight
    sigmoid, tanh = torch.zeros(8, 16).double(), -torch.ones(8, 16).double()
    for x_t in itertools.islice(x.unbind(1), 9):
        sigmoid = model.activation(model.x2h(x_t) + model.h2h(sigmoid))
        tanh = torch.tanh(x_t @ u.T / 2 + tanh @ w.T / 4)
    assert torch.allclose(sigmoid, (1 + tanh) / 2)
