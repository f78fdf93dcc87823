"""Every start trains the network that it is right for, is not proposed where it is not, and is what its source says."""

import math

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import Functional, mlp, recipe, sgd, surveyed
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from graddoctor.observe.probe import probe
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.initialization import (
    INITIALIZATIONS,
    critical,
    delta_orthogonal,
    he,
    lsuv,
    orthogonal,
    reinitialised,
    small_output,
    symmetry_broken,
    xavier,
    zero_branches,
)
from graddoctor.remedies.plain.weights import expand_names
from graddoctor.remedies.starts import ranges
from graddoctor.terms import Cause
from graddoctor.theory import gain
from graddoctor.train import build_model, train

WIDTH = 32


def draw(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def task(*shape):
    """Inputs, and which of three projections of them is the largest."""
    x = draw(256, *shape, seed=1)
    y = (x.flatten(1) @ draw(x[0].numel(), 3, seed=2)).argmax(1)
    return list(zip(x.split(32), y.split(32), strict=True))


def taught(build, shape=(8,), lr=0.05, epochs=20, **changes):
    return recipe(
        model=build,
        batches=task(*shape),
        optimizer=lambda m: sgd(m, lr, momentum=0.9),
        epochs=epochs,
        loss=lambda m, batch: functional.cross_entropy(m(batch[0]), batch[1]),
        **changes,
    )


def stack(depth, act=nn.ReLU, *, width=WIDTH, inputs=8, spoil=lambda w: w, norm=None):
    def build():
        model = nn.Sequential()
        for k in range(depth):
            model.append(nn.Linear(width if k else inputs, width))
            model.extend([norm(width)] if norm else [])
            model.append(act())
        model.append(nn.Linear(width, 3))
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Linear):
                    spoil(layer.weight)
        return model

    return build


def alike(value):
    def build():
        model = stack(2, nn.Tanh)()
        for parameter in model.parameters():
            nn.init.constant_(parameter, value)
        return model

    return build


def with_head(factor):
    def build():
        model = stack(3)()
        with torch.no_grad():
            model[-1].weight.mul_(factor)
        return model

    return build


def deep_cnn():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh())
    for _ in range(10):
        model.extend([nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()])
    return model.extend([nn.Flatten(), nn.Linear(8 * 25, 3)])


class Residual(nn.Module):
    """A stream with branches that end in a weight, in a normalization, or in a projected sum."""

    def __init__(self, blocks=30, norm=None, gain=2.0, *, project=False):
        super().__init__()
        self.stem, self.out = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 3)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), *([norm(WIDTH)] if norm else []))
            for _ in range(blocks)
        )
        self.skip = nn.Linear(WIDTH, WIDTH) if project else nn.Identity()
        with torch.no_grad():
            for branch in self.branches:
                branch[0].weight.mul_(gain)
                branch[2].weight.mul_(gain)

    def forward(self, x):
        x = self.stem(x)
        for branch in self.branches:
            x = self.skip(x) + branch(x)
        return self.out(x)


CURED = {
    "critical": (critical, taught(stack(12, nn.Tanh))),
    "critical, too large": (critical, taught(stack(8, nn.Tanh, spoil=lambda w: w.mul_(30)))),
    "symmetry": (symmetry_broken, taught(alike(0.1))),
    "zeros": (symmetry_broken, taught(alike(0.0))),
    "output": (small_output, taught(with_head(3000.0), lr=0.01)),
    "branches": (zero_branches, taught(Residual, lr=0.005)),
    "lsuv": (lsuv, taught(stack(8, nn.GELU, spoil=lambda w: w.mul_(0.3)), lr=0.01)),
    "delta": (delta_orthogonal, taught(deep_cnn, (1, 5, 5), lr=0.02, epochs=15)),
    "orthogonal": (orthogonal, taught(stack(15, nn.Softsign))),
    "he": (he, taught(stack(12), lr=0.02, epochs=30)),
    "xavier": (
        xavier,
        taught(stack(12, nn.Tanh, spoil=lambda w: nn.init.uniform_(w, -0.02, 0.02)), lr=0.03, epochs=30),
    ),
}


def end_of(outcome):
    return float(outcome.losses[-8:].mean())


@pytest.mark.parametrize(("prescribe", "given"), CURED.values(), ids=CURED)
def test_the_right_start_trains_what_did_not(prescribe, given):
    sick, cured = train(given), train(prescribe(Facts(given))(given))
    assert not end_of(sick) < 0.6
    assert end_of(cured) < 0.45
    assert float(cured.losses[0]) < 20


@pytest.mark.parametrize(("prescribe", "given"), CURED.values(), ids=CURED)
def test_the_source_of_a_start_trains_the_same_without_us(prescribe, given):
    assert_same_when_pasted(given, prescribe(Facts(given)), steps=3)


@pytest.mark.parametrize(("prescribe", "given"), CURED.values(), ids=CURED)
def test_every_start_says_what_it_is(prescribe, given):
    remedy = prescribe(Facts(given))
    assert remedy.causes == (Cause.INITIALIZATION,)
    assert remedy.source[-4:].isdigit() or "section" in remedy.source
    assert remedy.cost == ""
    assert remedy.modules == ()
    assert [edit.part for edit in remedy.edits] == ["model"]


def test_starts_are_concatenated_by_the_pharmacy():
    assert isinstance(INITIALIZATIONS, tuple)
    assert INITIALIZATIONS[0] is critical
    assert len(set(INITIALIZATIONS)) == len(INITIALIZATIONS) == 9


# Where a start must not be proposed


class Bare(nn.Module):
    """No weights at all."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x[:, :3] + self.shift


def normed_cnn():
    return nn.Sequential(
        nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)
    )


def even_cnn():
    return nn.Sequential(nn.Conv2d(4, 8, 2), nn.Tanh(), nn.Conv2d(8, 8, 1), nn.Tanh(), nn.Flatten(), nn.Linear(128, 3))


def grouped_cnn():
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3))


NOT_FOR = {
    "identical units, where none are": (symmetry_broken, taught(stack(3))),
    "identical units, where a last layer of zeros is meant so": (symmetry_broken, taught(with_head(0.0))),
    "identical units, where branches of zeros are meant so": (symmetry_broken, taught(lambda: zeroed(Residual()))),
    "a quiet output, where it is quiet": (small_output, taught(stack(3))),
    "a quiet output, where nothing is finite": (small_output, taught(stack(8, spoil=lambda w: w.mul_(1e30)))),
    "a quiet output, where it is zero": (small_output, taught(with_head(0.0))),
    "zero branches, where there are none": (zero_branches, taught(stack(4))),
    "zero branches, where they are zero": (zero_branches, taught(lambda: zeroed(Residual()))),
    "unit variance, where it is normalized": (lsuv, taught(stack(3, norm=nn.LayerNorm))),
    "delta, without convolutions": (delta_orthogonal, taught(stack(3, nn.Tanh))),
    "delta, where it is normalized": (delta_orthogonal, taught(normed_cnn, (4, 5, 5))),
    "delta, without a centre": (delta_orthogonal, taught(even_cnn, (4, 5, 5))),
    "delta, in groups": (delta_orthogonal, taught(grouped_cnn, (4, 5, 5))),
    "orthogonal, with rectifiers": (orthogonal, taught(stack(3))),
    "orthogonal, where critical is the same": (orthogonal, taught(stack(3, nn.Tanh, inputs=WIDTH), (WIDTH,))),
    "He, without rectifiers": (he, taught(stack(3, nn.Tanh))),
    "Xavier, with rectifiers": (xavier, taught(stack(3, nn.GELU))),
}


def zeroed(model):
    for branch in model.branches:
        nn.init.zeros_(branch[2].weight)
        nn.init.zeros_(branch[2].bias)
    return model


@pytest.mark.parametrize(("prescribe", "given"), NOT_FOR.values(), ids=NOT_FOR)
def test_a_start_is_not_proposed_where_it_makes_no_sense(prescribe, given):
    assert prescribe(Facts(given)) is None


@pytest.mark.parametrize("prescribe", INITIALIZATIONS)
def test_without_weights_there_is_nothing_to_start(prescribe):
    assert prescribe(Facts(taught(Bare))) is None


@pytest.mark.parametrize("prescribe", INITIALIZATIONS)
def test_of_no_modules_there_is_nothing_to_start(prescribe):
    assert prescribe(Facts(taught(stack(2))), ()) is None


@pytest.mark.parametrize(("prescribe", "given"), CURED.values(), ids=CURED)
def test_prescribing_changes_neither_network_nor_random_state(prescribe, given):
    facts = Facts(given)
    before = {name: value.clone() for name, value in facts.model.state_dict().items()}
    state = torch.get_rng_state()
    prescribe(facts)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in facts.model.state_dict().items())


# What is drawn


def plan_of(remedy):
    """The plan of a remedy, one name an entry."""
    plan = {}
    for names, entry in remedy.edits[0].arguments["plan"].items():
        for name in expand_names(*((names,) if isinstance(names, str) else names)):
            assert name not in plan
            plan[name] = entry
    return plan


def start(prescribe, given, *rest, **more):
    return build_model(prescribe(Facts(given), *rest, **more)(given))


def spread(weight):
    return float(weight.detach().square().mean().sqrt())


ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "selu": nn.SELU,
    "elu": nn.ELU,
    "leaky_relu(0.3)": lambda: nn.LeakyReLU(0.3),
    "prelu(0.5)": lambda: nn.PReLU(init=0.5),
    "hardtanh(-2,2)": lambda: nn.Hardtanh(-2, 2),
    "linear": nn.Identity,
}


@pytest.mark.parametrize(("name", "act"), ACTIVATIONS.items(), ids=ACTIVATIONS)
def test_each_weight_gets_the_gain_of_the_activation_that_follows_it(name, act):
    def build():
        return nn.Sequential(nn.Linear(200, 100), act(), nn.Linear(100, 3))

    given = taught(build, (200,))
    wanted = gain(name).weight_std
    assert spread(start(critical, given)[0].weight) == pytest.approx(wanted / math.sqrt(200), rel=1e-3)
    classic, fan = (he, 200) if name not in {"tanh", "hardtanh(-2,2)", "linear"} else (xavier, 150)
    assert spread(start(classic, given)[0].weight) == pytest.approx(wanted / math.sqrt(fan), rel=0.02)
    assert spread(start(classic, given)[2].weight) == pytest.approx(1 / math.sqrt(100 if fan == 200 else 51.5), rel=0.1)


def test_he_by_fan_out_keeps_the_gradient_and_not_the_signal():
    given = taught(lambda: nn.Sequential(nn.Linear(200, 50), nn.ReLU(), nn.Linear(50, 3)), (200,))
    assert spread(start(he, given, fan="out")[0].weight) == pytest.approx(math.sqrt(2 / 50), rel=0.02)
    assert he(Facts(given), fan="out").name == "He initialization (fan-out)"


def test_xavier_is_uniform_if_asked():
    given = taught(stack(1, nn.Tanh, width=100), lr=0.1)
    weight = start(xavier, given, uniform=True)[0].weight.detach()
    bound = gain("tanh").weight_std * math.sqrt(6 / 108)
    assert 0.98 * bound < float(weight.abs().max()) <= bound * 1.0001
    assert spread(weight) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_fans_of_convolutions_count_the_places_of_the_kernel():
    def build():
        return nn.Sequential(nn.Conv2d(4, 16, 3), nn.Tanh(), nn.ConvTranspose2d(16, 8, 2, 2), nn.Tanh(), nn.Flatten())

    given = taught(build, (4, 5, 5))
    model, sigma = start(xavier, given), gain("tanh").weight_std
    assert spread(model[0].weight) == pytest.approx(sigma * math.sqrt(2 / (36 + 144)), rel=0.1)
    assert spread(model[2].weight) == pytest.approx(sigma * math.sqrt(2 / (16 + 32)), rel=0.1)


def test_orthogonal_weights_keep_norms_where_the_width_changes():
    model = start(orthogonal, taught(stack(2, nn.Softsign, width=64)))
    for layer in (model[0], model[2]):
        values = torch.linalg.svdvals(layer.weight.detach())
        assert values.tolist() == pytest.approx([gain("softsign").weight_std] * len(values), rel=1e-3)


def test_unit_variances_are_written_down_and_hold_on_the_data():
    given = taught(stack(5, nn.Tanh, width=128, spoil=lambda w: w.mul_(7)))
    roles = list(surveyed(lsuv(Facts(given))(given)).weights.values())
    assert [role.rms for role in roles[:-1]] == pytest.approx([1.0] * 5, rel=0.1)
    skipped = taught(lambda: Residual(9, gain=1.0))
    ends = [r.rms for r in surveyed(lsuv(Facts(skipped))(skipped)).weights.values() if r.branch_end]
    assert ends == pytest.approx([1 / 3] * 9, rel=0.35)


def test_a_loud_output_is_scaled_by_the_power_of_ten_that_is_needed():
    remedy = small_output(Facts(taught(with_head(1000.0))))
    ((name, (how, factor)),) = plan_of(remedy).items()
    assert (name, how) == ("6.weight", "scaled")
    assert factor in {0.01, 1e-3, 1e-4}

    def biased():
        model = stack(3)()
        nn.init.constant_(model[-1].bias[:1], 500.0)
        return model

    assert plan_of(small_output(Facts(taught(biased)))) == {"6.bias": ("constant", 0.0)}


def test_a_loud_output_may_be_weight_normed():
    def build():
        model = with_head(1000.0)()
        parametrizations.weight_norm(model[-1])
        return model

    assert plan_of(small_output(Facts(taught(build))))["6.weight"][0] == "scaled"


def test_only_what_is_alike_is_drawn_anew():
    def build():
        model = stack(3, nn.Tanh)()
        nn.init.constant_(model[2].weight, 0.2)
        return model

    assert set(plan_of(symmetry_broken(Facts(taught(build))))) == {"2.weight"}


# Fifty layers


DEEP = {"tanh": nn.Tanh, "relu": nn.ReLU, "selu": nn.SELU, "gelu": nn.GELU, "leaky": lambda: nn.LeakyReLU(0.3)}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("act", DEEP.values(), ids=DEEP)
def test_fifty_layers_pass_signal_and_gradient_on(act, seed):
    x = draw(128, 96, seed=4)
    given = recipe(
        model=stack(50, act, width=96, inputs=96), batches=[x], loss=lambda m, b: m(b).square().mean(), seed=seed
    )
    remedy = critical(Facts(given))
    assert len(remedy.edits[0].arguments["plan"]) <= 4
    sizes = [role.size for role in surveyed(remedy(given)).weights.values()][:-1]
    assert min(sizes) > sizes[0] / 4
    assert max(sizes) < sizes[0] * 4
    budget = probe(build_model(remedy(given)), given.loss, [x]).budget
    assert abs(budget.total) < 1.5


def test_the_plan_of_a_deep_network_is_short():
    plan = critical(Facts(taught(stack(50)))).edits[0].arguments["plan"]
    assert plan == {
        "0.weight": ("orthogonal", 0.5),
        "{0..100..2}.bias": ("constant", 0.0),
        "{2..98..2}.weight": ("orthogonal", 0.25),
        "100.weight": ("orthogonal", 0.17678),
    }


# Kinds of layers


class Reader(nn.Module):
    """Embedding, recurrence, attention, and a head that is the embedding."""

    def __init__(self, cell=nn.LSTM):
        super().__init__()
        self.tokens = nn.Embedding(9, 16, padding_idx=0)
        self.cell = cell(16, 16, 2, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 9, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x, _ = self.cell(self.tokens(tokens))
        x, _ = self.attention(x, x, x)
        return self.head(x)


def reading(build):
    tokens = torch.arange(54).reshape(9, 6) % 9
    return recipe(model=build, batches=[tokens], loss=lambda m, t: functional.cross_entropy(m(t).mT, t), epochs=3)


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrence_attention_and_embeddings(cell, gates):
    given = reading(lambda: Reader(cell))
    remedy = critical(Facts(given))
    plan, model = plan_of(remedy), build_model(remedy(given))
    assert plan["cell.weight_hh_l1"] == ("orthogonal", 0.25, gates)
    assert plan["attention.in_proj_weight"] == ("orthogonal", 0.25, 3)
    for gate in (*model.cell.weight_hh_l0.chunk(gates), *model.attention.in_proj_weight.chunk(3)):
        assert torch.allclose(gate @ gate.T, torch.eye(16), atol=1e-3)
    assert "head.weight" not in plan
    assert model.head.weight is model.tokens.weight
    assert spread(model.tokens.weight[1:]) == pytest.approx(0.25, rel=0.2)
    assert set(model.tokens.weight[0].tolist()) == {0.0}
    assert_same_when_pasted(given, remedy, steps=2)


class Transposed(nn.Module):
    """x @ W, with a name of its own."""

    def __init__(self):
        super().__init__()
        self.kernel, self.shift = nn.Parameter(torch.full((8, 200), 0.01)), nn.Parameter(torch.zeros(200))
        self.out = nn.Linear(200, 3)

    def forward(self, x):
        return self.out(torch.relu(x @ self.kernel + self.shift))


def test_weights_that_stand_on_the_right_of_a_product():
    given = taught(Transposed)
    for prescribe in (critical, he, lsuv):
        kernel = start(prescribe, given).kernel
        assert spread(kernel) == pytest.approx(math.sqrt(2 / 8) if prescribe is not lsuv else math.sqrt(1 / 8), rel=0.2)
    assert set(plan_of(symmetry_broken(Facts(given)))) == {"kernel"}


def test_weight_norm_keeps_its_parameters_and_gets_its_scale():
    def build():
        model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 64)), nn.Tanh(), nn.Linear(64, 3))
        nn.init.constant_(model[0].parametrizations.weight.original0, 1e-3)
        return model

    given = taught(build)
    for prescribe in (critical, xavier, lsuv):
        remedy = prescribe(Facts(given))
        model = build_model(remedy(given))
        assert list(model.state_dict()) == list(build().state_dict())
        assert 0.9 < spread(model[0].weight) * math.sqrt(8 if prescribe is not xavier else 36) < 1.2
        assert_same_when_pasted(given, remedy, steps=2)
    assert parametrizations.weight_norm(nn.Linear(2, 2)).weight.shape == (2, 2)


def test_normalizations_start_at_one_and_forget():
    def build():
        model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3), nn.LayerNorm((3,)))
        with torch.no_grad():
            model[1].running_mean.fill_(9.0)
            for norm in (model[1], model[4]):
                norm.weight.fill_(50.0)
                norm.bias.fill_(5.0)
        return model

    plan = plan_of(critical(Facts(taught(build))))
    assert plan["1.running_mean"] == plan["4.bias"] == ("constant", 0.0)
    assert plan["1.weight"] == plan["4.weight"] == ("constant", 1.0)
    assert "1.running_var" not in plan


def test_what_is_frozen_stays():
    def build():
        model = stack(3)()
        model[0].requires_grad_(requires_grad=False)
        return model

    given = taught(build)
    for prescribe in (critical, he, lsuv):
        assert not any(name.startswith("0.") for name in plan_of(prescribe(Facts(given))))


class Headed(nn.Module):
    """Two layers that are called by the loss and not by the forward pass."""

    def __init__(self):
        super().__init__()
        self.body, self.act, self.head = nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 2)


@pytest.mark.parametrize("build", [lambda: mlp(nn.Tanh), lambda: Functional(torch.tanh), Headed])
@pytest.mark.parametrize("prescribe", [critical, xavier, lsuv, orthogonal])
def test_every_name_in_a_plan_is_one_of_the_network(build, prescribe):
    given = recipe(model=build)
    remedy = prescribe(Facts(given))
    known = {name for name, _ in build().named_parameters()}
    assert remedy is None or set(plan_of(remedy)) <= known


def test_layers_that_no_survey_sees_are_started_by_their_modules():
    def loss(model, batch):
        return functional.cross_entropy(model.head(model.act(model.body(batch[0]))), batch[1])

    given = recipe(model=Headed, loss=loss)
    for treat in (critical(Facts(given)), reinitialised()):
        model = build_model(treat(given))
        assert spread(model.body.weight) == pytest.approx(math.sqrt(2 / 6), rel=0.01)
        assert spread(model.head.weight) == pytest.approx(math.sqrt(1 / 40), rel=0.01)
        assert not model.body.bias.any()
    assert lsuv(Facts(given)) is None
    assert small_output(Facts(given)) is None


class Cell(nn.Module):
    """A recurrence by hand: both products of a step are added, and neither is a branch."""

    def __init__(self):
        super().__init__()
        self.inputs, self.states = nn.Linear(1, 24), nn.Linear(24, 24)
        self.out = nn.Linear(24, 3)

    def forward(self, x):
        state = x.new_zeros(len(x), 24)
        for column in x.unbind(1):
            state = torch.tanh(self.inputs(column[:, None]) + self.states(state))
        return self.out(state)


def test_the_steps_of_a_recurrence_are_no_branches():
    given = taught(Cell)
    assert zero_branches(Facts(given)) is None
    assert spread(start(critical, given).states.weight) == pytest.approx(1 / math.sqrt(24), rel=0.01)


# Residual branches


def test_branches_end_in_a_weight_or_in_the_gain_of_a_normalization():
    plain = plan_of(zero_branches(Facts(taught(lambda: Residual(4)))))
    assert {n for n, e in plain.items() if e == ("constant", 0.0)} == {
        f"branches.{k}.2.{part}" for k in range(4) for part in ("weight", "bias")
    }
    assert {n: e for n, e in plain.items() if e[0] == "scaled"} == {
        f"branches.{k}.0.weight": ("scaled", 0.5) for k in range(4)
    }
    normed = plan_of(zero_branches(Facts(taught(lambda: Residual(4, nn.LayerNorm)))))
    assert normed == {f"branches.{k}.3.weight": ("constant", 0.0) for k in range(4)}


def test_a_projected_skip_is_no_branch():
    plan = plan_of(zero_branches(Facts(taught(lambda: Residual(1, project=True)))))
    assert {n for n, e in plan.items() if e == ("constant", 0.0)} == {"branches.0.2.weight", "branches.0.2.bias"}


class Encoder(nn.Module):
    def __init__(self, *, norm_first):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=norm_first)
        self.stem, self.body = nn.Linear(8, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.body(self.stem(x)).mean(1))


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_branches_of_a_transformer_end_in_its_projections(norm_first):
    given = taught(lambda: Encoder(norm_first=norm_first), (5, 8))
    remedy = zero_branches(Facts(given))
    weights = {n for n, e in plan_of(remedy).items() if n.endswith("weight")}
    assert weights == {f"body.layers.{k}.{part}.weight" for k in (0, 1) for part in ("self_attn.out_proj", "linear2")}
    assert_same_when_pasted(given, remedy, steps=2)


def test_branches_of_zeros_make_a_network_an_identity():
    given = taught(Residual)
    model, x = start(zero_branches, given), draw(4, 8, seed=3)
    assert torch.equal(model(x), model.out(model.stem(x)))


# Where and when


def test_a_start_can_be_limited_to_modules():
    given = taught(stack(3, nn.Tanh))
    for prescribe in (critical, lsuv, xavier, orthogonal):
        remedy = prescribe(Facts(given), ["0"])
        assert set(plan_of(remedy)) == {"0.weight", "0.bias"}
        assert remedy.modules == ("0",)
        assert remedy.name.endswith(": 0")
    assert small_output(Facts(taught(with_head(1e4))), ["0"]) is None


def test_the_same_literals_draw_anew_for_another_seed():
    given = taught(stack(3))
    remedy = critical(Facts(given))
    first, again, other = (build_model(remedy(given.with_(seed=seed))) for seed in (0, 0, 1))
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert spread(other[0].weight) == pytest.approx(spread(first[0].weight), rel=1e-5)


def test_experiments_and_prescriptions_plan_the_same():
    given = taught(stack(4, nn.GELU, spoil=lambda w: w.mul_(100)))
    one, other = build_model(critical(Facts(given))(given)), build_model(reinitialised()(given))
    assert [spread(p) for p in one.parameters()] == pytest.approx([spread(p) for p in other.parameters()], rel=1e-3)


def test_a_factor_in_the_forward_pass_is_written_into_the_plan():
    class Muted(nn.Linear):
        def forward(self, x):
            return 1e-3 * super().forward(x)

    given = taught(lambda: nn.Sequential(Muted(8, 64), nn.ReLU(), Muted(64, 64), nn.ReLU(), nn.Linear(64, 3)))
    plan = plan_of(critical(Facts(given)))
    assert plan["0.weight"][1] == pytest.approx(1e3 * math.sqrt(2 / 8), rel=0.5)
    assert plan["2.weight"][1] == pytest.approx(1e3 * math.sqrt(2 / 64), rel=0.5)


def test_numbered_names_become_ranges():
    names = [f"blocks.{b}.feed.{k}.weight" for b in range(3) for k in (0, 2)]
    assert ranges(names) == ["blocks.{0..2}.feed.0.weight", "blocks.{0..2}.feed.2.weight"]
    for odd in (["w01", "w02", "w03"], ["a", "b1", "b2"], ["0.1", "0.2", "1.1"], []):
        assert ranges(odd) == odd
