"""Re-initialised networks stand at criticality, measured and not assumed; what was not asked for stays."""

import math

import pytest
import torch
from remedy_recipes import Functional, mlp, recipe, same_training, surveyed
from torch import nn
from torch.nn.utils import parametrizations

from graddoctor.observe.probe import probe
from graddoctor.remedies.initialization import deviation, reinitialised, target_of
from graddoctor.remedies.survey import WeightRole, survey
from graddoctor.terms import Cause
from graddoctor.theory import gain
from graddoctor.train import build_model, train

WIDTH, DEPTH = 64, 30
X = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(0))

NAMES = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.SELU: "selu",
    nn.ELU: "elu",
    nn.LeakyReLU: "leaky_relu",
    nn.Sigmoid: "sigmoid",
    nn.Softsign: "softsign",
}


def plain(activation, depth=3, width=WIDTH, spoil=lambda weight: weight.mul_(0.02)):
    def build():
        model = nn.Sequential()
        for _ in range(depth):
            model.extend([nn.Linear(width, width), activation()])
        model.append(nn.Linear(width, 2))
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Linear):
                    spoil(layer.weight)
        return model

    return build


def on(build, **changes):
    return recipe(model=build, batches=[X], loss=lambda m, x: m(x).square().mean(), **changes)


@pytest.mark.parametrize(("activation", "name"), NAMES.items(), ids=NAMES.values())
def test_the_measured_gain_is_the_one_that_theory_asks_for(activation, name):
    given = on(plain(activation))
    before, after = surveyed(given), surveyed(reinitialised()(given))
    wanted = gain(name).weight_std
    for role in list(after.weights.values())[:-1]:
        assert role.std * math.sqrt(role.fan_in) == pytest.approx(wanted, rel=0.02)
        if name != "sigmoid":  # whose inputs have a mean: orthogonal rows see more or less of it
            assert role.gain == pytest.approx(wanted, rel=0.1)
    assert before.weights["0.weight"].gain < 0.1 * wanted
    last = list(after.weights.values())[-1]
    assert last.std * math.sqrt(last.fan_in) == pytest.approx(1.0, rel=0.05)


def decades(given):
    look = probe(build_model(given), given.loss, [X])
    return look.budget.total


SICK = {
    "tanh, small": (nn.Tanh, lambda w: w.mul_(0.3)),
    "tanh, large": (nn.Tanh, lambda w: w.mul_(20)),
    "relu, default": (nn.ReLU, lambda w: w),
    "relu, large": (nn.ReLU, lambda w: w.mul_(5)),
    "gelu, default": (nn.GELU, lambda w: w),
    "selu, tiny": (nn.SELU, lambda w: w.mul_(0.1)),
}


@pytest.mark.parametrize(("activation", "spoil"), SICK.values(), ids=SICK.keys())
def test_thirty_layers_keep_their_gradient(activation, spoil):
    given = on(plain(activation, DEPTH, spoil=spoil))
    sick, cured = decades(given), decades(reinitialised()(given))
    assert abs(sick) > 3
    assert abs(cured) < 1.0


def test_a_residual_network_does_not_grow_with_its_blocks():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(
                nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(DEPTH)
            )
            self.stem = nn.Linear(WIDTH, WIDTH)
            with torch.no_grad():
                for branch in self.branches:
                    branch[2].weight.mul_(20)

        def forward(self, x):
            x = self.stem(x)
            for branch in self.branches:
                x = x + branch(x)
            return x

    given = on(Blocks)
    assert decades(given) > 10
    treated = reinitialised()(given)
    assert abs(decades(treated)) < 1
    ends = [role for role in surveyed(treated).weights.values() if role.branch_end]
    assert len(ends) == DEPTH
    assert all(role.std * math.sqrt(WIDTH * DEPTH) == pytest.approx(1.0, rel=0.02) for role in ends)


def test_a_factor_that_no_weight_shows_is_found_on_the_data():
    class Muted(nn.Linear):
        def forward(self, x):
            return 1e-3 * super().forward(x)

    given = on(
        lambda: nn.Sequential(Muted(WIDTH, WIDTH), nn.ReLU(), Muted(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    )
    roles = list(surveyed(reinitialised()(given)).weights.values())
    assert [role.gain for role in roles[:2]] == pytest.approx([math.sqrt(2)] * 2, rel=0.1)


def test_biases_norms_embeddings_and_statistics_start_again():
    class Everything(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(10, WIDTH)
            self.mix = nn.Linear(WIDTH, WIDTH)
            self.norm = nn.BatchNorm1d(WIDTH)
            self.layer_norm = nn.LayerNorm(WIDTH)
            with torch.no_grad():
                for p in self.parameters():
                    p.mul_(7).add_(3)
                self.norm.running_mean.fill_(100)

        def forward(self, x):
            return self.layer_norm(torch.relu(self.norm(self.mix(self.tokens(x)))))

    given = recipe(model=Everything, batches=[torch.arange(10)], loss=lambda m, x: m(x).square().mean())
    model = build_model(reinitialised()(given))
    assert float(model.tokens.weight.detach().std()) == pytest.approx(1 / math.sqrt(WIDTH), rel=0.1)
    assert float(model.mix.weight.detach().std()) == pytest.approx(1 / math.sqrt(WIDTH), rel=0.05)
    assert float(model.mix.bias.detach().abs().max()) == 0
    for norm in (model.norm, model.layer_norm):
        assert set(norm.weight.tolist()) == {1.0}
        assert set(norm.bias.tolist()) == {0.0}
    assert set(model.norm.running_mean.tolist()) == {0.0}


def test_identical_units_become_different():
    given = on(plain(nn.ReLU, spoil=lambda w: w.fill_(0.01)))
    weight = build_model(reinitialised()(given))[0].weight
    assert len(torch.unique(weight.detach(), dim=0)) == WIDTH


def test_convolutions_transposed_or_not_keep_the_variance():
    def build():
        return nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 2, 2),
            nn.ReLU(),
        )

    x = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    given = recipe(model=build, batches=[x], loss=lambda m, b: m(b).square().mean())
    roles = surveyed(reinitialised()(given)).weights.values()
    assert [role.fan_in for role in roles] == [27, 32]
    assert [role.gain for role in roles] == pytest.approx([math.sqrt(2)] * 2, rel=0.15)


def test_weight_norm_is_started_again_through_what_it_is_made_of():
    def build():
        return nn.Sequential(parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)), nn.ReLU(), nn.Linear(WIDTH, 2))

    def tiny():
        model = build()
        with torch.no_grad():
            model[0].parametrizations.weight.original0.mul_(1e-3)
        return model

    model = build_model(reinitialised()(on(tiny)))
    assert float(model[0].weight.detach().std()) * math.sqrt(WIDTH) == pytest.approx(math.sqrt(2), rel=0.05)


def test_only_the_modules_asked_for_change():
    given = on(plain(nn.Tanh))
    before, after = build_model(given), build_model(reinitialised(["2"])(given))
    changed = {
        n for (n, p), q in zip(before.named_parameters(), after.parameters(), strict=True) if not torch.equal(p, q)
    }
    assert changed == {"2.weight", "2.bias"}
    assert reinitialised(["2"]).modules == ("2",)
    assert reinitialised(["2"]).name == "re-initialised: 2"


def test_none_of_the_modules_is_the_identity():
    given = on(plain(nn.Tanh, spoil=lambda w: w))
    assert same_training(reinitialised([])(given), given)


def test_a_start_is_decided_by_the_seed():
    treated = reinitialised()(recipe(model=mlp))
    assert same_training(treated, treated)
    first, other = build_model(treated), build_model(treated.with_(seed=1))
    assert not torch.equal(first[0].weight, other[0].weight)
    assert treated.with_(seed=1).model(seed=0)[0].weight.equal(first[0].weight)


@pytest.mark.parametrize("build", [lambda: mlp(nn.Tanh), lambda: Functional(torch.tanh)])
def test_functional_code_counts_like_modules(build):
    roles = surveyed(reinitialised()(recipe(model=build))).weights.values()
    stds = [role.std * math.sqrt(role.fan_in) for role in roles]
    assert stds[:2] == pytest.approx([gain("tanh").weight_std] * 2, rel=0.05)


def test_half_precision_weights_keep_their_type():
    given = on(lambda: plain(nn.ReLU)().bfloat16()).with_(loss=lambda m, x: m(x.bfloat16()).float().square().mean())
    assert build_model(reinitialised()(given))[0].weight.dtype is torch.bfloat16


def test_what_would_not_train_trains():
    given = recipe(model=plain(nn.Tanh, 10, 6), epochs=15)
    assert train(reinitialised()(given)).losses[-4:].mean() < 0.8 * train(given).losses[-4:].mean()


def test_a_remedy_says_its_cause():
    assert reinitialised().causes == (Cause.INITIALIZATION,)
    assert "He et al. 2015" in reinitialised().source


# How far a start is off


def role(follower):
    return WeightRole("w", (4, 4), 4, 1.0, 1.0, 1.0, follower)


@pytest.mark.parametrize("follower", ["", "normalization", "softmax", "attention", "no such thing"])
def test_products_that_meet_no_nonlinearity_keep_their_variance(follower):
    assert target_of(role(follower)) == (1.0, 0.0)


def test_targets_are_those_of_theory():
    for name in NAMES.values():
        assert target_of(role(name)) == (gain(name).weight_std, gain(name).bias_std)
    assert target_of(None, "relu") == (gain("relu").weight_std, 0.0)
    assert target_of(None) == (1.0, 0.0)


def test_deviations_are_decades():
    model = build_model(reinitialised()(on(plain(nn.ReLU))))
    seen = survey(on(plain(nn.ReLU)), model, X)
    assert all(value < 0.05 for value in deviation(model, seen).values())
    with torch.no_grad():
        model[0].weight.mul_(10)
        model[2].weight.div_(100)
        model[4].bias.fill_(9)
        model[6].weight.zero_()
    off = deviation(model, seen)
    assert [off["0"], off["2"], off["4"], off["6"]] == pytest.approx([1, 2, 1, 3], abs=0.05)
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    assert deviation(model, seen)["0"] == 3.0
