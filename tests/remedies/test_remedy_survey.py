"""A survey reads what follows each weight, in modules and functions alike, and leaves the network as it was."""

import math

import pytest
import torch
from remedy_recipes import Functional, Headed, cross_entropy, mlp, recipe, surveyed
from torch import nn
from torch.nn import functional

from graddoctor.randomness import seeded
from graddoctor.remedies.survey import survey
from graddoctor.train import build_model


def of(model, x, **changes):
    """Survey a network on inputs `x`."""
    given = recipe(model=lambda: model, batches=[x], loss=lambda m, b: m(b).square().mean(), **changes)
    return survey(given, model, x)


def followers(seen):
    return [role.follower for role in seen.weights.values()]


@pytest.mark.parametrize(
    "build",
    [
        lambda: mlp(nn.Tanh),
        lambda: Functional(torch.tanh),
        lambda: Functional(lambda x: x.tanh()),
        lambda: Functional(lambda x: x.tanh_()),
    ],
)
def test_an_mlp_in_any_spelling(build):
    seen = surveyed(recipe(model=build))
    assert followers(seen) == ["tanh", "tanh", ""]
    assert seen.activations == seen.hidden == ("tanh", "tanh")
    assert seen.output is None
    assert [role.fan_in for role in seen.weights.values()] == [6, 16, 16]
    assert (seen.branches, seen.normalizations, seen.hooks) == (0, 0, 0)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_cnn_with_batch_normalization(inplace):
    block = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace)]
    last = [nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(inplace), nn.Flatten(), nn.Linear(8 * 4, 2)]
    seen = of(nn.Sequential(*block, nn.MaxPool2d(2), *last), torch.rand(4, 2, 10, 10))
    assert followers(seen) == ["normalization", "relu", ""]
    assert [role.fan_in for role in seen.weights.values()] == [2 * 9, 2 * 9, 32]
    assert seen.normalizations == 1
    assert seen.activations == ("relu", "relu")


class Residual(nn.Module):
    def __init__(self, blocks=3, *, post=False, inplace=False):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.first = nn.ModuleList(nn.Linear(8, 8) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(8, 8) for _ in range(blocks))
        self.post, self.inplace = post, inplace

    def forward(self, x):
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            branch = second(functional.gelu(first(x)))
            if self.inplace:
                branch += x
                x = branch
            else:
                x = x + branch
            if self.post:
                x = torch.relu(x)
        return x


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("post", [False, True])
def test_a_residual_network(post, inplace):
    seen = of(Residual(post=post, inplace=inplace), torch.rand(4, 6))
    ends = {name for name, role in seen.weights.items() if role.branch_end}
    assert seen.branches == 3
    assert ends == {f"second.{k}.weight" for k in range(3)}
    assert {seen.weights[f"first.{k}.weight"].follower for k in range(3)} == {"gelu"}
    assert {seen.weights[name].follower for name in ends} == {""}


class Products(nn.Module):
    """Weights that are no module's, used in every spelling of a product."""

    def __init__(self, product, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.product = product

    def forward(self, x):
        return torch.tanh(self.product(x, self.weight))


@pytest.mark.parametrize(
    ("product", "shape"),
    [
        (lambda x, w: x @ w, (6, 4)),
        (torch.mm, (6, 4)),
        (torch.matmul, (6, 4)),
        (lambda x, w: x @ w.t(), (4, 6)),
        (lambda x, w: x @ w.T, (4, 6)),
        (lambda x, w: x @ w.mT, (4, 6)),
        (lambda x, w: x @ w.transpose(0, 1), (4, 6)),
        (lambda x, w: w @ x.t(), (4, 6)),
        (lambda x, w: torch.addmm(torch.zeros(4), x, w), (6, 4)),
        (functional.linear, (4, 6)),
        (lambda x, w: functional.linear(x, w.t()), (6, 4)),
        (lambda x, w: torch.einsum("bi,io->bo", x, w), (6, 4)),
        (lambda x, w: torch.einsum("bi, oi -> bo", x, w), (4, 6)),
        (lambda x, w: torch.einsum("oi,bi", w, x), (4, 6)),
        (lambda x, w: torch.einsum("...i,oi->...o", x, w), (4, 6)),
        (lambda x, w: torch.einsum("bhd,hde->be", x.view(-1, 2, 3), w), (2, 3, 4)),
        (lambda x, w: functional.conv1d(x[:, None], w, stride=6), (4, 1, 6)),
        (lambda x, w: functional.conv1d(x.view(-1, 6, 1), w), (4, 6, 1)),
        (lambda x, w: functional.conv_transpose1d(x.view(-1, 6, 1), w, stride=2), (6, 4, 2)),
        (lambda x, w: functional.conv_transpose1d(x.view(-1, 6, 1), w, stride=(3,)), (6, 4, 3)),
    ],
)
def test_weights_that_are_no_modules_are_seen_with_their_number_of_inputs(product, shape):
    model = Products(product, shape)
    seen = of(model, torch.randn(4096, 6))
    role = seen.weights["weight"]
    assert (role.follower, role.fan_in) == ("tanh", 6)
    assert role.gain == pytest.approx(float(model.weight.detach().square().mean().sqrt()) * math.sqrt(6), rel=0.15)


def test_the_numbers_of_a_role():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 200), nn.ReLU())
    x = torch.randn(512, 6)
    role = of(model, x).weights["0.weight"]
    assert role.std == pytest.approx(float(model[0].weight.detach().std()))
    assert role.input_rms == pytest.approx(float(x.square().mean().sqrt()), rel=1e-6)
    assert role.rms == role.follower_rms == pytest.approx(float(model[0](x).detach().square().mean().sqrt()), rel=1e-6)


def test_a_factor_on_the_way_to_the_activation_counts_in_the_gain():
    class Scaled(nn.Linear):
        def forward(self, x):
            return torch.tanh(0.01 * super().forward(x))

    role = of(Scaled(6, 6), torch.randn(64, 6)).weights["weight"]
    assert role.follower == "tanh"
    assert role.gain == pytest.approx(0.01 * role.rms / role.input_rms, rel=1e-5)


class Attention(nn.Module):
    """Attention written out, and as a module."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.project = nn.Linear(8, 8)
        self.module = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(8), -1)
        x = x + self.project(weights @ v)
        return x + self.module(x, x, x, need_weights=False)[0]


def test_attention_is_no_nonlinearity():
    x = torch.randn(4, 5, 8, requires_grad=True)
    seen = of(Attention(), x)
    assert seen.activations == ("attention",)
    assert seen.weights["project.weight"].branch_end
    assert seen.weights["project.weight"].follower == ""
    assert "module.in_proj_weight" in seen.weights
    assert "module.out_proj.weight" in seen.weights
    assert seen.normalizations == 1


@pytest.mark.parametrize(
    ("end", "kind", "count"),
    [
        (lambda z: torch.softmax(z, 1), "softmax", 2),
        (nn.Softmax(1), "softmax", 2),
        (functional.relu, "relu", 2),
        (lambda z: z.relu_(), "relu", 2),
        (lambda z: 2 * torch.sigmoid(z) - 1, "sigmoid", 2),
        (lambda z: torch.sigmoid(z).view(-1, 2).contiguous(), "sigmoid", 2),
    ],
)
def test_the_activation_on_the_output(end, kind, count):
    given = recipe(model=lambda: Headed(end))
    model = build_model(given)
    seen = survey(given, model)
    assert seen.output is not None
    assert seen.output.kind == kind
    assert seen.output.index == count - 1
    assert len(seen.activations) == count
    assert len(seen.hidden) == count - 1
    raw = torch.randn(32, 2)
    with torch.no_grad():
        assert torch.equal(seen.output.apply(raw), end(raw.clone()))


def test_only_the_last_of_two_activations_makes_the_output():
    seen = surveyed(recipe(model=lambda: Headed(lambda z: torch.relu(torch.tanh(z)))))
    assert (seen.output.kind, seen.hidden) == ("relu", ("tanh", "tanh"))
    assert torch.equal(seen.output.apply(torch.tensor([[2.0, -2.0]])), torch.tensor([[2.0, 0.0]]))


def test_raw_values_take_the_reshapes_and_scales_without_the_activation():
    seen = surveyed(
        recipe(model=lambda: Headed(lambda z: (3 * torch.sigmoid(z) + 1).squeeze(1), units=1), loss=squared)
    )
    raw = torch.randn(8, 1)
    assert torch.equal(seen.output.raw(raw), (3 * raw + 1).squeeze(1))


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def test_a_learned_scale_behind_it_takes_it_off_the_output():
    class Learned(Headed):
        def __init__(self):
            super().__init__(torch.relu)
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return self.scale * super().forward(x)

    assert surveyed(recipe(model=Learned)).output is None


def test_hooks_on_gradients_are_counted():
    def hooked():
        model = mlp()
        model[0].weight.register_hook(lambda g: g)
        return model

    class HookedOutput(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            y.register_hook(lambda g: g)
            return y

    assert surveyed(recipe(model=hooked)).hooks == 1
    assert surveyed(recipe(model=lambda: HookedOutput(6, 2))).hooks == 1


def test_two_weights_may_meet_the_same_activation_and_one_weight_two():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.gate = nn.Linear(6, 6)

        def forward(self, x):
            x = torch.tanh(self.layer(x))
            return torch.sigmoid(self.layer(x) * self.gate(x))

    seen = of(Shared(), torch.randn(4, 6))
    assert followers(seen) == ["tanh", "sigmoid"]


def test_a_survey_leaves_everything_as_it_was():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))
    given = recipe(model=lambda: model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with seeded(0):
        state = torch.get_rng_state()
        survey(given, model)
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "forward" not in model.__dict__
    assert all(p.grad is None for p in model.parameters())


def test_a_forward_of_the_objects_own_is_put_back_also_after_an_error():
    model = mlp()
    own = model.forward
    model.forward = lambda x: own(x) + 0
    mine = model.forward
    given = recipe(model=lambda: model, loss=lambda m, b: cross_entropy(m, b) / 0)
    survey(given, model)
    assert model.forward is mine
    with pytest.raises(RuntimeError, match="mat1"):
        survey(given, model, (torch.zeros(2, 3), torch.zeros(2).long()))
    assert model.forward is mine


def test_a_loss_that_never_calls_the_network_shows_nothing():
    given = recipe(loss=lambda m, b: m[0](b[0]).square().mean())
    seen = surveyed(given)
    assert seen.weights == {}
    assert seen.output is None
