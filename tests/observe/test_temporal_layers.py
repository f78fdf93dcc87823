"""The gradient through the layers of torch against a float64 twin, on every way to call them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from temporal_twin import Twin
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence
from torch.utils.checkpoint import checkpoint

from graddoctor.observe._cells import CELLS
from graddoctor.observe.temporal import through_time

CLOSE = pytest.approx
SIZES = {"input_size": 5, "hidden_size": 7}
WAYS = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "tanh stacked": (nn.RNN, {"num_layers": 3}),
    "lstm stacked": (nn.LSTM, {"num_layers": 2}),
    "gru stacked": (nn.GRU, {"num_layers": 2}),
    "tanh bidirectional": (nn.RNN, {"bidirectional": True}),
    "lstm bidirectional, stacked": (nn.LSTM, {"bidirectional": True, "num_layers": 2}),
    "gru bidirectional, stacked": (nn.GRU, {"bidirectional": True, "num_layers": 2}),
    "lstm projected": (nn.LSTM, {"proj_size": 3}),
    "lstm projected, both": (nn.LSTM, {"proj_size": 3, "bidirectional": True, "num_layers": 2}),
    "tanh without bias": (nn.RNN, {"bias": False}),
    "lstm projected, without bias": (nn.LSTM, {"bias": False, "proj_size": 2}),
    "gru without bias": (nn.GRU, {"bias": False}),
}
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


def built(name, **more):
    kind, options = WAYS[name]
    torch.manual_seed(len(name))
    return kind(**SIZES, **options, **more)


def weighed(data):
    """A loss with another weight for every number: gradient enters at every step."""
    flat = data.flatten()
    return (flat * torch.linspace(-1, 2, flat.numel(), dtype=flat.dtype)).sum()


def compare(look, twin, module):
    """Profiles of the look against those of the twin, whose loss has been taken back."""
    expected = [(layer, side) for layer in range(module.num_layers) for side in range(1 + module.bidirectional)]
    assert [(one.layer, int(one.reverse)) for one in look] == expected
    losses = [twin.of_loss(*place) for place in expected]  # first: whatever goes back later adds to what they read
    for one, place, loss in zip(look, expected, losses, strict=True):
        hidden, cell = twin.lags(*place)
        assert one.lag_gradient == CLOSE(hidden, rel=1e-4)
        assert one.cell_lag_gradient == CLOSE(cell, rel=1e-4)
        assert one.loss_gradient == CLOSE(loss, rel=1e-4)
        assert one.verified < 1e-5
        assert one.steps == len(hidden)
        assert one.notes == ()


@pytest.mark.parametrize("name", WAYS)
def test_profiles_are_those_of_the_twin(name):
    module = built(name)
    x = torch.randn(12, 3, 5)
    look = through_time(module, lambda net, x: weighed(net(x)[0].transpose(0, 1)), x)
    twin = Twin(module, x.unbind(1))
    weighed(torch.stack(twin.outputs)).backward(retain_graph=True)
    compare(look, twin, module)


@pytest.mark.parametrize("name", ["tanh stacked", "lstm bidirectional, stacked", "gru", "lstm projected, both"])
def test_batch_first_and_no_batch_at_all(name):
    module = built(name, batch_first=True)
    x = torch.randn(3, 9, 5)
    twin = Twin(module, x)
    weighed(torch.stack(twin.outputs)).backward(retain_graph=True)
    compare(through_time(module, lambda net, x: weighed(net(x)[0]), x), twin, module)
    alone = Twin(module, x[:1])
    weighed(alone.outputs[0]).backward(retain_graph=True)
    compare(through_time(module, lambda net, x: weighed(net(x)[0]), x[0]), alone, module)


@pytest.mark.parametrize("name", WAYS)
def test_ragged_batches_are_aligned_at_each_samples_own_end(name):
    module = built(name)
    sequences = [torch.randn(length, 5) for length in (4, 9, 1, 6, 9)]

    def loss(net, batch):
        packed, _ = net(pack_sequence(batch, enforce_sorted=False))
        padded, lengths = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        return sum(
            (place + 1) * weighed(row[:length]) for place, (row, length) in enumerate(zip(padded, lengths, strict=True))
        )

    twin = Twin(module, sequences)
    sum((place + 1) * weighed(row) for place, row in enumerate(twin.outputs)).backward(retain_graph=True)
    compare(through_time(module, loss, sequences), twin, module)


@pytest.mark.parametrize("name", ["tanh bidirectional", "lstm projected, both", "gru stacked"])
def test_states_that_are_given_and_a_loss_on_the_last_ones(name):
    module = built(name)
    x, width = torch.randn(8, 2, 5), module.proj_size or 7
    places = module.num_layers * (1 + module.bidirectional)
    given = [torch.randn(places, 2, width)] + [torch.randn(places, 2, 7)] * isinstance(module, nn.LSTM)

    def loss(net, batch):
        out, last = net(batch, tuple(given) if len(given) > 1 else given[0])
        last = torch.cat([one.flatten() for one in last]) if isinstance(last, tuple) else last.flatten()
        return weighed(out[3]) + weighed(last)

    twin = Twin(module, x.unbind(1), states=given)
    sides = range(1 + module.bidirectional)
    ends = [
        torch.stack([store[layer, side, sample, 0 if side else 7] for sample in range(2)])
        for store in (twin.h, twin.c)
        for layer in range(module.num_layers)
        for side in sides
        if store
    ]
    weighed_ends = weighed(torch.cat([end.flatten() for end in ends]))
    (weighed(torch.stack([out[3] for out in twin.outputs])) + weighed_ends).backward(retain_graph=True)
    compare(through_time(module, loss, x), twin, module)


@pytest.mark.parametrize("name", ["lstm stacked", "gru bidirectional, stacked", "tanh stacked"])
def test_dropout_between_layers_draws_what_the_kernel_draws(name):
    module = built(name, dropout=0.4)
    x = torch.randn(10, 3, 5)
    state = torch.get_rng_state()
    masks = [functional_mask(10, 3, 7 * (1 + module.bidirectional)) for _ in range(module.num_layers - 1)]
    torch.set_rng_state(state)
    look = through_time(module, lambda net, x: weighed(net(x)[0].transpose(0, 1)), x)
    twin = Twin(module, x.unbind(1), masks=masks)
    weighed(torch.stack(twin.outputs)).backward(retain_graph=True)
    compare(look, twin, module)


def functional_mask(*shape):
    return nn.functional.dropout(torch.ones(*shape), 0.4).double()


def test_longer_than_float32_reaches():
    """A default tanh cell loses 38 decades in 150 steps; its profile goes on, the loss's gradient does not."""
    torch.manual_seed(0)
    module = nn.RNN(5, 7)
    x = torch.randn(420, 1, 5)
    (look,) = through_time(module, lambda net, x: net(x)[0][-1].sum(), x)
    twin = Twin(module, x.unbind(1))
    assert look.lag_gradient == CLOSE(twin.lags(0, 0)[0], rel=1e-4)
    assert look.decades < -60
    assert look.cut is None
    assert look.loss_gradient[0] == 0
    assert "float32 holds nothing" in look.notes[0]


@pytest.mark.parametrize("name", ["tanh stacked", "lstm", "lstm projected", "gru"])
def test_a_sequence_in_pieces_is_the_same_sequence(name):
    module = built(name)
    x = torch.randn(12, 3, 5)

    def in_pieces(net, x):
        state, shown = None, []
        for piece in x.split((5, 1, 6)):
            out, state = net(piece, state)
            shown.append(out)
        return weighed(torch.cat(shown))

    whole, pieces = through_time(module, lambda net, x: weighed(net(x)[0]), x), through_time(module, in_pieces, x)
    for one, other in zip(whole, pieces, strict=True):
        assert other.lag_gradient == CLOSE(one.lag_gradient, rel=1e-4)
        assert other.cell_lag_gradient == CLOSE(one.cell_lag_gradient, rel=1e-4)
        assert other.loss_gradient == CLOSE(one.loss_gradient, rel=1e-4)
        assert (other.steps, other.gates.keys()) == (12, one.gates.keys())
        assert other.spectrum.largest == CLOSE(one.spectrum.largest, rel=1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_layer_in_a_checkpoint(reentrant):
    module, x = built("gru"), torch.randn(6, 2, 5)

    def loss(net, x):
        return weighed(checkpoint(lambda x: net(x)[0], x, use_reentrant=reentrant))

    x.requires_grad_()
    (plain,) = through_time(module, lambda net, x: weighed(net(x)[0]), x)
    (one,) = through_time(module, loss, x)
    assert one.lag_gradient == CLOSE(plain.lag_gradient, rel=1e-6)
    if not reentrant:
        assert one.loss_gradient == CLOSE(plain.loss_gradient, rel=1e-6)
    else:  # its first pass leaves no graph
        assert one.loss_gradient == (0.0,) * 6
        assert "without a graph" in one.notes[0]


def test_exploding_beyond_float32_is_read_as_well():
    torch.manual_seed(0)
    module = nn.RNN(5, 7, nonlinearity="relu")
    with torch.no_grad():
        module.weight_hh_l0.copy_(2.5 * torch.eye(7))
        module.weight_ih_l0.abs_()
        module.bias_ih_l0.zero_()
        module.bias_hh_l0.zero_()
    x = torch.rand(130, 2, 5) * 1e-20
    (look,) = through_time(module, lambda net, x: net(x)[0][-1].sum() * 1e-30, x)
    assert look.decades_per_step == CLOSE(0.39794, abs=1e-4)  # log10(2.5)
    assert look.horizon_1 is None


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    kind=st.sampled_from([nn.RNN, nn.LSTM, nn.GRU]),
    both=st.booleans(),
    layers=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_samples_do_not_meet(lengths, kind, both, layers, seed):
    """What a loss that is a sum over samples sends to a ragged batch is what it sends to each sample alone."""
    torch.manual_seed(seed)
    module = kind(2, 3, layers, bidirectional=both)
    sequences = [torch.randn(length, 2) for length in lengths]

    def loss(net, batch):
        return net(pack_sequence(batch, enforce_sorted=False))[0].data.square().sum()

    together = through_time(module, loss, sequences)
    alone = [through_time(module, loss, [one]) for one in sequences]
    for place, one in enumerate(together):
        assert one.lag_gradient[0] == CLOSE(1)
        assert len(one.lag_gradient) == one.steps == max(lengths)
        squares = torch.zeros(max(lengths), dtype=torch.float64)
        for single in alone:
            gradient = torch.tensor(single[place].loss_gradient, dtype=torch.float64)
            squares[: len(gradient)] += gradient.square()
        assert one.loss_gradient == CLOSE(squares.sqrt().tolist(), rel=1e-4)


@pytest.mark.parametrize("name", ["tanh", "lstm stacked", "gru bidirectional, stacked"])
def test_the_work_is_linear_in_the_number_of_steps(name, monkeypatch):
    module, counts = built(name), {"step": 0, "back": 0}
    cell = type(CELLS[{nn.RNN: "rnn_tanh", nn.LSTM: "lstm", nn.GRU: "gru"}[type(module)]])

    def counted(which, plain):
        def call(*arguments):
            counts[which] += 1
            return plain(*arguments)

        return call

    for which in counts:
        monkeypatch.setattr(cell, which, counted(which, getattr(cell, which)))
    runs = module.num_layers * (1 + module.bidirectional)
    for length in (40, 80):
        counts.update(step=0, back=0)
        through_time(module, lambda net, x: net(x)[0].sum(), torch.randn(length, 2, 5))
        assert counts["step"] == runs * length
        assert counts["back"] <= runs * (2 * length + 8)  # the loss, the lag, and Jacobians at four places


def test_a_padded_batch_that_is_packed_and_sorted():
    module = built("gru")
    x, lengths = torch.randn(3, 6, 5), torch.tensor([6, 4, 2])

    def loss(net, batch):
        return weighed(net(pack_padded_sequence(batch, lengths, batch_first=True))[1])

    twin = Twin(module, [row[:length] for row, length in zip(x, lengths, strict=True)])
    weighed(torch.stack([twin.h[0, 0, sample, int(length) - 1] for sample, length in enumerate(lengths)])).backward(
        retain_graph=True
    )
    compare(through_time(module, loss, x), twin, module)


@pytest.fixture
def tf32():
    """What allows TF32; the switches stand afterwards as they did."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    yield places
    for place, allowed in zip(places, before, strict=True):
        place.allow_tf32 = allowed


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_set_aside_and_comes_back(tf32, allowed):
    seen = []
    for place in tf32:
        place.allow_tf32 = allowed

    def loss(net, x):
        with torch.backends.cudnn.flags(enabled=False):  # reads the switch, too
            pass
        seen.extend(place.allow_tf32 for place in tf32)
        return net(x)[0].square().mean()

    through_time(built("gru"), loss, torch.randn(6, 2, 5))
    assert seen
    assert not any(seen)
    with pytest.raises(ZeroDivisionError):
        through_time(built("gru"), lambda net, x: 1 / 0, torch.randn(6, 2, 5))
    assert [place.allow_tf32 for place in tf32] == [allowed, allowed]


@pytest.mark.usefixtures("tf32")
def test_precision_set_by_operation_is_left_alone():
    torch.backends.cudnn.rnn.fp32_precision = "ieee"
    with pytest.raises(RuntimeError, match="different TF32 flags"):
        torch.backends.cudnn.allow_tf32  # noqa: B018
    (look,) = through_time(built("gru"), lambda net, x: weighed(net(x)[0]), torch.randn(6, 2, 5))
    assert look.verified < 1e-5
    assert torch.backends.cudnn.rnn.fp32_precision == "ieee"


def test_dropout_of_a_gpus_kernel_cannot_be_verified(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    looks = through_time(built("gru stacked", dropout=0.4), lambda net, x: weighed(net(x)[0]), torch.randn(6, 2, 5))
    assert all(math.isnan(one.verified) and "cannot be verified" in one.notes[0] for one in looks)
    (alone,) = through_time(built("gru"), lambda net, x: weighed(net(x)[0]), torch.randn(6, 2, 5))
    assert alone.verified < 1e-5
