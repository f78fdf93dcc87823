"""The expected budget against the measured one: the small twin of benchmarks/prediction.py."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, gelu

import graddoctor as gd
from graddoctor.errors import RecipeError
from graddoctor.theory.expected import expected, foreseen
from graddoctor.theory.reading import depth_of

WIDTH = 128


def loss(model, batch):
    logits = model(batch)
    flat = logits.reshape(-1, logits.shape[-1])
    return cross_entropy(flat, torch.arange(len(flat)) % flat.shape[-1])


def mlp(activation, depth, norm=None, gain=None, width=WIDTH):
    layers = [nn.Linear(32, width)]
    for _ in range(depth):
        layers += [*([norm(width)] if norm else []), activation(), nn.Linear(width, width)]
    model = nn.Sequential(*layers)
    if gain is not None:
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
    return model


class Branch(nn.Module):
    def __init__(self, scale=1.0, norm=nn.Identity):
        super().__init__()
        self.norm, self.one, self.two, self.scale = norm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), scale
        for layer in (self.one, self.two):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x):
        return x + self.scale * self.two(torch.relu(self.one(self.norm(x))))


def residual(**how):
    return nn.Sequential(nn.Linear(32, WIDTH), *[Branch(**how) for _ in range(6)], nn.Linear(WIDTH, 8))


class Written(nn.Module):
    """A GELU as some write it: one function in eight operators."""

    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def conv(depth, **how):
    layers = [nn.Conv2d(3, 32, 3, padding=1, **how)]
    for _ in range(depth):
        layers += [nn.Tanh(), nn.Conv2d(32, 32, 3, padding=1, **how)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 64, 8))


def cnn():
    def block(inner, outer):
        return nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU()

    return nn.Sequential(
        *block(3, 32), nn.MaxPool2d(2), *block(32, 64), nn.AvgPool2d(2), *block(64, 64), nn.GroupNorm(8, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 8),
    )  # fmt: skip


def encoder(first):
    def layer():
        return nn.TransformerEncoderLayer(64, 4, 128, 0.1, norm_first=first, batch_first=True)

    return nn.Sequential(nn.Linear(16, 64), *[layer() for _ in range(3)], nn.Linear(64, 8))


class Gated(nn.Module):
    """Highway layers: products of two streams."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, WIDTH)
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(6)])
        self.gates = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(6)])

    def forward(self, x):
        x = self.first(x)
        for layer, gate in zip(self.layers, self.gates, strict=True):
            opened = torch.sigmoid(gate(x))
            x = opened * torch.tanh(layer(x)) + (1 - opened) * x
        return x


def pair(model, batch):
    model = model.double()
    batch = batch.double() if batch.is_floating_point() else batch
    theory, real = expected(model, loss, batch), gd.probe(model, loss, [batch]).budget
    assert [row.name for row in theory.budget.rows] == [row.name for row in real.rows]
    return theory, real


NETWORKS = {
    "tanh": (lambda: mlp(nn.Tanh, 12), (16, 32), 0.02),
    "relu": (lambda: mlp(nn.ReLU, 12), (16, 32), 0.02),
    "sigmoid": (lambda: mlp(nn.Sigmoid, 12), (16, 32), 0.02),
    "softsign, critical": (lambda: mlp(nn.Softsign, 12, gain=1.36), (16, 32), 0.02),
    "prelu": (lambda: mlp(nn.PReLU, 12), (16, 32), 0.02),
    "gelu in eight operators": (lambda: mlp(Written, 12), (16, 32), 0.02),
    "batch norm": (lambda: mlp(nn.ReLU, 10, nn.BatchNorm1d), (128, 32), 0.02),
    "layer norm": (lambda: mlp(nn.Sigmoid, 10, nn.LayerNorm), (16, 32), 0.03),
    "rms norm": (lambda: mlp(nn.Tanh, 10, nn.RMSNorm), (16, 32), 0.03),
    "residual": (residual, (16, 32), 0.03),
    "residual, scaled": (lambda: residual(scale=6**-0.5), (16, 32), 0.03),
    "residual, pre-LN": (lambda: residual(norm=nn.LayerNorm), (16, 32), 0.03),
    "highway": (Gated, (16, 32), 0.03),
    "conv": (lambda: conv(8), (8, 3, 8, 8), 0.03),
    "conv, circular": (lambda: conv(4, padding_mode="circular"), (8, 3, 8, 8), 0.03),
    "conv, depthwise": (lambda: conv(4, groups=1, dilation=1, bias=False), (8, 3, 8, 8), 0.03),
    "cnn": (cnn, (32, 3, 16, 16), 0.05),
    "pre-LN transformer": (lambda: encoder(True), (4, 12, 16), 0.05),
    "post-LN transformer": (lambda: encoder(False), (4, 12, 16), 0.05),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_expected_is_what_is_measured(name):
    build, shape, tolerance = NETWORKS[name]
    torch.manual_seed(0)
    theory, real = pair(build(), torch.randn(shape))
    assert abs(theory.budget.total - real.total) / depth_of(real.rows) < tolerance
    assert theory.unknown == ()
    for row, seen in zip(theory.budget.rows, real.rows, strict=True):
        assert row.decades == pytest.approx(seen.decades, abs=0.15), row.name


def test_parts_and_shares_are_expected_too():
    torch.manual_seed(0)
    theory, real = pair(residual(), torch.randn(64, 32))
    for row, seen in zip(theory.budget.rows[1:-1], real.rows[1:-1], strict=True):
        for part, other in zip(row.parts, seen.parts, strict=True):
            assert (part.name, part.kind) == (other.name, other.kind)
            assert part.share == pytest.approx(other.share, abs=0.06)
    theory, real = pair(mlp(nn.Tanh, 6), torch.randn(64, 32))
    for row, seen in zip(theory.budget.rows, real.rows, strict=True):
        assert [part.kind for part in row.parts] == [part.kind for part in seen.parts]
        for part, other in zip(row.parts, seen.parts, strict=True):
            assert part.decades == pytest.approx(other.decades, abs=0.05)


def test_the_forward_signal_is_expected_too():
    torch.manual_seed(0)
    theory, real = pair(mlp(nn.Tanh, 10), torch.randn(32, 32))
    assert theory.budget.signal.total == pytest.approx(real.signal.total, abs=0.2)


def test_plain_batch_norm_explodes_as_the_theory_of_it_says():
    """½ log10(π/(π - 1)) a layer for ReLU (Yang et al. 2019)."""
    torch.manual_seed(0)
    rows = expected(
        mlp(nn.ReLU, 10, nn.BatchNorm1d, width=256).double(), loss, torch.randn(256, 32).double()
    ).budget.rows
    assert rows[5].decades == pytest.approx(0.0832, abs=0.002)


@given(scale=st.floats(1e-3, 1e3))
@settings(max_examples=8, deadline=None)
def test_the_scale_of_the_data_is_nothing_to_a_scale_free_net(scale):
    torch.manual_seed(0)
    model, batch = mlp(nn.ReLU, 4, gain=1.0).double(), torch.randn(8, 32).double()
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    one, other = (expected(model, loss, batch * c).budget.total for c in (1.0, scale))
    assert other == pytest.approx(one, abs=1e-6)


@given(depth=st.integers(1, 6))
@settings(max_examples=6, deadline=None)
def test_one_layer_more_is_one_row_more(depth):
    batch = torch.randn(8, 32)
    fewer, more = (len(expected(mlp(nn.Tanh, n), loss, batch).budget.rows) for n in (depth, depth + 1))
    assert more == fewer + 1


def test_a_kernel_whose_centre_alone_counts_is_no_kernel_of_equal_taps():
    """Delta-orthogonal kernels hand everything on, whatever the padding (Xiao et al. 2018)."""
    torch.manual_seed(0)
    model = conv(8)
    for layer in model:
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 32:
            with torch.no_grad():
                layer.weight.zero_()
                nn.init.orthogonal_(layer.weight[:, :, 1, 1])
    theory, real = pair(model, 0.01 * torch.randn(8, 3, 8, 8))
    assert theory.budget.total == pytest.approx(real.total, abs=0.1)


class Strange(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, dim=-1) * 0.2


def test_a_module_without_theory_is_named_and_its_gain_is_measured():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(32, WIDTH), nn.Tanh(), Strange(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 8)
    )
    theory, real = pair(model, torch.randn(32, 32))
    assert theory.unknown == ("2",)
    assert theory.budget.total == pytest.approx(real.total, abs=0.2)


def test_layers_come_with_their_scales_and_what_they_feed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), Written(), nn.Linear(64, 64), nn.LeakyReLU(0.3), nn.Linear(64, 8))
    layers = expected(model, loss, torch.randn(8, 32)).layers
    assert [layer.name for layer in layers] == ["0", "2", "4"]
    assert [layer.activation for layer in layers] == ["gelu_tanh", "leaky_relu(0.3)", ""]
    assert layers[1].weight_std == pytest.approx(3**-0.5, rel=0.03)
    assert layers[1].bias_std == pytest.approx((3 * 64) ** -0.5, rel=0.3)


def test_functional_code_is_followed_like_modules():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(32, WIDTH), nn.Linear(WIDTH, 8)

        def forward(self, x):
            return self.b(gelu(self.a(x), approximate="tanh"))

    torch.manual_seed(0)
    theory, real = pair(Net(), torch.randn(32, 32))
    assert theory.budget.total == pytest.approx(real.total, abs=0.1)


class Token(nn.Module):
    """A class token that is put before the sequence, and that the head reads alone."""

    def __init__(self):
        super().__init__()
        self.embed, self.token = nn.Linear(16, 64), nn.Parameter(0.1 * torch.randn(1, 1, 64))
        self.body = nn.ModuleList(
            [nn.TransformerEncoderLayer(64, 4, 128, 0.0, norm_first=True, batch_first=True) for _ in range(2)]
        )
        self.head = nn.Linear(64, 8)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], dim=1)
        for layer in self.body:
            x = layer(x)
        return self.head(x[:, 0])


def test_a_class_token_gets_the_gradient_and_the_other_places_what_attention_leaves():
    torch.manual_seed(0)
    theory, real = pair(Token(), torch.randn(8, 24, 16))
    assert real.rows[0].decades < -0.5
    for row, seen in zip(theory.budget.rows, real.rows, strict=True):
        assert row.decades == pytest.approx(seen.decades, abs=0.15), row.name


def test_what_cannot_be_told_is_none():
    assert foreseen(nn.Linear(32, 8), loss, torch.randn(8, 32)) is None
    assert foreseen(mlp(nn.Tanh, 2), loss, torch.randn(8, 32)).total < 0


def test_nothing_is_left_changed():
    model, batch = cnn(), torch.randn(8, 3, 16, 16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    expected(model, loss, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_weights_that_are_zero_end_the_chain():
    model = mlp(nn.Tanh, 4)
    nn.init.zeros_(model[4].weight)
    budget = expected(model, loss, torch.randn(8, 32)).budget
    assert budget.cut == gd.probe(model, loss, [torch.randn(8, 32)]).budget.cut == "4"


def test_weights_that_are_not_finite_are_an_error():
    model = mlp(nn.Tanh, 2)
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    with pytest.raises(RecipeError, match=r"the weights of '2' are not finite"):
        expected(model, loss, torch.randn(8, 32))


def test_a_network_of_one_layer_has_nothing_to_lose():
    with pytest.raises(RecipeError, match="no layer of weights follows another one"):
        expected(nn.Linear(32, 8), loss, torch.randn(8, 32))


def test_a_loss_without_parameters_is_an_error():
    with pytest.raises(RecipeError, match="depends on no trainable parameter"):
        expected(mlp(nn.Tanh, 2), lambda model, batch: batch.sum(), torch.randn(8, 32))


def test_language_models_of_transformers_are_followed():
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        config = transformers.GPT2Config(n_layer=3, n_embd=64, n_head=4, vocab_size=128, **ends)
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).double().train()
        batch = torch.randint(0, 128, (2, 12))
        score = lambda model, tokens: model(tokens, labels=tokens).loss  # noqa: E731
        theory, real = expected(model, score, batch), gd.probe(model, score, [batch]).budget
    assert theory.unknown == ()
    assert theory.budget.total == pytest.approx(real.total, abs=0.15)
