"""A plan draws what it names, at the scale that it says, and leaves everything else as it was, bit for bit."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from graddoctor.remedies.gather import helpers, imports
from graddoctor.remedies.plain.weights import expand_names, initialise

WIDE = 256


def tensor_of(draw, number, shape=(WIDE, WIDE), *more, seed=0):
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.full(shape, 3.0))
    torch.manual_seed(seed)
    initialise(layer, {"weight": (draw, number, *more)})
    return layer.weight.detach()


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 64), (32, 16, 3, 3), (8, 64, 5)])
def test_orthogonal_weights_have_equal_singular_values_and_the_deviation_asked_for(shape):
    weight = tensor_of("orthogonal", 0.2, shape)
    assert float(weight.square().mean().sqrt()) == pytest.approx(0.2, rel=1e-5)
    values = torch.linalg.svdvals(weight.flatten(1))
    assert float(values.max() / values.min()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 32, 3, 3), (32, 16, 5, 5), (8, 8, 3, 3, 3)])
def test_delta_orthogonal_kernels_are_one_matrix_at_their_centre(shape):
    kernel = tensor_of("delta_orthogonal", 0.5, shape)
    middle = kernel[(..., *(size // 2 for size in shape[2:]))]
    assert int(kernel.count_nonzero()) == int(middle.count_nonzero()) == middle.numel()
    values = torch.linalg.svdvals(middle)
    assert values.tolist() == pytest.approx([0.5 * math.sqrt(max(shape[:2]))] * min(shape[:2]), rel=1e-4)


def test_a_delta_orthogonal_convolution_keeps_the_norm_of_every_pixel():
    conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    initialise(conv, {"weight": ("delta_orthogonal", 1 / 4)})
    x = torch.randn(2, 16, 7, 7)
    assert torch.allclose(conv(x).norm(dim=1), x.norm(dim=1), rtol=1e-4)


def test_gaussian_and_uniform_weights_have_the_spread_asked_for():
    normal, uniform = tensor_of("normal", 0.3), tensor_of("uniform", 0.3)
    assert float(normal.std()) == pytest.approx(0.3, rel=0.02)
    assert float(normal.abs().max()) > 3 * 0.3
    assert float(uniform.std()) == pytest.approx(0.3 / math.sqrt(3), rel=0.02)
    assert 0.299 < float(uniform.abs().max()) <= 0.3


def test_constants_and_factors():
    assert set(tensor_of("constant", 2.5).flatten().tolist()) == {2.5}
    assert set(tensor_of("scaled", 0.5).flatten().tolist()) == {1.5}


def test_stacked_matrices_are_drawn_one_by_one():
    weight = tensor_of("orthogonal", 1 / 8, (4 * 64, 64), 4)
    for gate in weight.chunk(4):
        assert torch.allclose(gate @ gate.T, torch.eye(64), atol=1e-5)
    assert not torch.equal(weight[:64], weight[64:128])


def test_draws_come_from_the_global_generator():
    first, again, other = (tensor_of("normal", 1.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_names_of_one_entry_are_drawn_apart():
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(5)))
    initialise(model, {"{0..2}.weight": ("normal", 1.0), ("3.weight", "4.weight"): ("orthogonal", 0.1)})
    weights = [layer.weight for layer in model]
    assert not any(torch.equal(a, b) for k, a in enumerate(weights) for b in weights[:k])


def test_ranges_are_written_out():
    assert expand_names("a", "b{2..4}.c") == ["a", "b2.c", "b3.c", "b4.c"]
    assert expand_names("{0..6..2}.bias") == ["0.bias", "2.bias", "4.bias", "6.bias"]
    assert expand_names("x{0..1}.y{8..10..2}") == ["x0.y8", "x0.y10", "x1.y8", "x1.y10"]
    assert expand_names() == []


def test_a_name_that_the_network_lacks_is_told():
    with pytest.raises(AttributeError, match="nothing"):
        initialise(nn.Linear(2, 2), {"nothing": ("constant", 0.0)})
    with pytest.raises(AttributeError, match="5"):
        initialise(nn.Sequential(nn.Linear(2, 2)), {"5.weight": ("constant", 0.0)})


def test_a_draw_that_is_not_known_is_told():
    with pytest.raises(ValueError, match="expected one that initialise lists, such as 'normal', got 'cauchy'"):
        initialise(nn.Linear(2, 2), {"weight": ("cauchy", 1.0)})


# What stays


class Everything(nn.Module):
    """One of each: tied, frozen, normalized, parametrised, recurrent, embedded."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(7, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.norm = nn.BatchNorm1d(6)
        self.body = parametrizations.weight_norm(nn.Linear(6, 6))
        self.frozen = nn.Linear(6, 6).requires_grad_(requires_grad=False)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x, _ = self.lstm(self.tokens(tokens))
        x = self.norm(x.flatten(0, 1))
        return self.head(torch.tanh(self.frozen(torch.tanh(self.body(x)))))


TOKENS = torch.arange(14).reshape(2, 7) % 7


def mlp(depth, width, activation, *, norm, dtype):
    parts = []
    for _ in range(depth):
        parts += [nn.Linear(width, width), *([nn.LayerNorm(width)] if norm else []), activation()]
    return nn.Sequential(*parts, nn.Linear(width, 2)).to(dtype), torch.randn(3, width, dtype=dtype)


def cnn(depth, width, activation, *, norm, dtype):
    parts = []
    for _ in range(depth):
        parts += [nn.Conv2d(width, width, 3), *([nn.BatchNorm2d(width)] if norm else []), activation()]
    return nn.Sequential(*parts).to(dtype), torch.randn(2, width, 9, 9, dtype=dtype)


def recurrent(depth, width, activation, *, norm, dtype):
    return nn.GRU(width, width, depth).to(dtype), torch.randn(4, 2, width, dtype=dtype)


def attention(depth, width, activation, *, norm, dtype):
    layer = nn.TransformerEncoderLayer(2 * width, 2, 4 * width, dropout=0.0, batch_first=True, norm_first=norm)
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).to(dtype), torch.randn(
        2, 3, 2 * width, dtype=dtype
    )


NETS = st.builds(
    lambda build, *rest: build(*rest[:3], norm=rest[3], dtype=rest[4]),
    st.sampled_from([mlp, cnn, recurrent, attention]),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)


def outputs(model, x):
    out = model(x)
    return out[0] if isinstance(out, tuple) else out


@settings(max_examples=40, deadline=None)
@given(NETS)
def test_a_plan_that_changes_nothing_leaves_outputs_bit_identical(net):
    model, x = net
    before, random_state = outputs(model, x), torch.get_rng_state()
    assert initialise(model, {}) is model
    assert torch.equal(outputs(model, x), before)
    initialise(model, {tuple(name for name, _ in model.named_parameters()): ("scaled", 1.0)})
    assert torch.equal(outputs(model, x), before)
    assert torch.equal(torch.get_rng_state(), random_state)


@settings(max_examples=20, deadline=None)
@given(NETS, st.randoms(use_true_random=False))
def test_what_is_not_named_stays_bit_identical(net, random):
    model, _ = net
    before = copy.deepcopy(model.state_dict())
    names = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
    chosen = random.sample(names, random.randint(0, len(names)))
    initialise(model, dict.fromkeys(chosen, ("normal", 0.1)))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(chosen)
    assert all(p.dtype is before[name].dtype for name, p in model.named_parameters())


def test_flags_modes_names_hooks_and_ties_survive():
    model = Everything().eval()
    model.body.register_forward_hook(lambda *_: None)
    names, flags = list(model.state_dict()), [p.requires_grad for p in model.parameters()]
    plan = {name: ("normal", 0.1) for name, _ in model.named_parameters() if "parametrizations" not in name}
    initialise(model, plan | {"body.weight": ("orthogonal", 0.2), "norm.running_mean": ("constant", 0.5)})
    assert list(model.state_dict()) == names
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.is_leaf for p in model.parameters())
    assert model.head.weight is model.tokens.weight
    assert not model.training
    assert model.body._forward_hooks
    assert set(model.norm.running_mean.tolist()) == {0.5}
    twin = copy.deepcopy(model)
    assert torch.equal(twin(TOKENS), model(TOKENS))


def test_a_network_that_could_be_pickled_still_can():
    model = initialise(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), {"0.weight": ("orthogonal", 0.5)})
    twin = pickle.loads(pickle.dumps(model))  # noqa: S301 - its own
    assert torch.equal(twin[0].weight, model[0].weight)


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_parametrised_weights_are_assigned_through_their_right_inverse(wrap):
    model = wrap(nn.Linear(32, 32))
    initialise(model, {"weight": ("orthogonal", 1 / math.sqrt(32))})
    assert torch.allclose(model.weight @ model.weight.T, torch.eye(32), atol=1e-4)
    model(torch.randn(2, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_weight_behind_a_spectral_norm_is_drawn():
    model = parametrizations.spectral_norm(nn.Linear(32, 32))
    before = model.parametrizations.weight.original.detach().clone()
    initialise(model, {"weight": ("normal", 0.5)})
    assert float(model.parametrizations.weight.original.detach().std()) == pytest.approx(0.5, rel=0.1)
    assert not torch.equal(before, model.parametrizations.weight.original)


def test_the_padding_row_of_an_embedding_stays():
    model = nn.Embedding(5, 4, padding_idx=2)
    initialise(model, {"weight": ("normal", 0.1)})
    assert set(model.weight[2].tolist()) == {0.0}
    assert all(model.weight.detach()[[0, 1, 3, 4]].abs().sum(1) > 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("draw", ["orthogonal", "normal", "uniform", "scaled"])
def test_types_are_kept(dtype, draw):
    model = nn.Linear(16, 16, dtype=dtype)
    initialise(model, {"weight": (draw, 0.25)})
    assert model.weight.dtype is dtype
    assert bool(model.weight.isfinite().all())


def test_what_is_pasted_draws_the_same():
    body = helpers([initialise])
    text = "\n\n".join([imports(body, [initialise.__module__]), body])
    assert "graddoctor" not in text
    bare = {}
    exec(text, bare)  # noqa: S102 - what a user pastes
    plan = {
        "tokens.weight": ("normal", 0.4),
        ("lstm.weight_hh_l0", "lstm.weight_ih_l0"): ("orthogonal", 0.4, 4),
        "body.weight": ("uniform", 0.4),
        "norm.running_var": ("constant", 2.0),
        "lstm.bias_ih_l0": ("scaled", 0.0),
    }
    states = []
    for function in (initialise, bare["initialise"]):
        torch.manual_seed(3)
        states.append(function(Everything(), plan).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
