"""Scaling and shuffling: the cure where data are out of scale or in order, and prescribed nowhere else."""

import copy

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import cross_entropy, data, recipe
from somebodys_loop import plain_loop
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from graddoctor.prove.yardstick import measure, smoothed
from graddoctor.remedies.data import shuffled, standardised_input, standardised_target, standardised_targets
from graddoctor.remedies.facts import Facts
from graddoctor.terms import Cause
from graddoctor.train import build_model, train

X = data(64)[0]
WEIGHTS = torch.tensor([1.0, -1, 0.5, 2, 0, 1])
Y = X @ WEIGHTS[:, None]
WILD = X * torch.tensor([1.0, 3000.0, 0.001, 1, 1, 1]) + torch.tensor([500.0, 0, 0, 0, -3, 0])


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def squared(model, batch):
    return functional.mse_loss(model(batch[0]), batch[1])


def regression(x=X, y=Y, **changes):
    batches = list(zip(x.split(16), y.split(16), strict=True))
    parts = {"model": net, "loss": squared, "batches": batches, "epochs": 20}
    return recipe(optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), **{**parts, **changes})


def end(losses):
    return sum(losses[-4:]) / 4


# Inputs


def test_wild_inputs_are_cured_in_anybodys_loop_and_at_inference():
    given = regression(WILD)
    remedy = standardised_input(Facts(given))
    assert remedy.causes == (Cause.INPUT_SCALE,)
    assert not end(plain_loop(given)[0]) < 0.7 * float(Y.var())
    losses, model = plain_loop(remedy(given))
    assert end(losses) < 0.2 * float(Y.var())
    assert float(functional.mse_loss(model.eval()(WILD), Y).detach()) < 0.2 * float(Y.var())


SOUND = {
    "standard": X,
    "pixels from 0 to 1": torch.rand(64, 6),
    "a few standard deviations": 4 * X + 2,
    "a constant beside": torch.cat([X[:, :5], torch.full((64, 1), 3.0)], 1),
}


@pytest.mark.parametrize("x", SOUND.values(), ids=SOUND.keys())
def test_ordinary_inputs_are_left_alone(x):
    assert standardised_input(Facts(regression(x))) is None


ODD = {
    "bytes": 255 * torch.rand(64, 6),
    "tiny": 1e-3 * X,
    "far from zero": X + 40,
    "one column": X * torch.tensor([1.0, 1, 1, 1, 1, 200]),
    "missing as -999": torch.where(torch.rand(64, 6) < 0.05, -999.0, X),
}


@pytest.mark.parametrize("x", ODD.values(), ids=ODD.keys())
def test_odd_inputs_are_treated(x):
    remedy = standardised_input(Facts(regression(x)))
    model = remedy(regression(x)).model()
    seen = []
    model[0].register_forward_hook(lambda _, args, __: seen.append(args[0]))
    model(x)
    assert seen[0].mean(0).abs().max() < 0.3
    assert 0.3 < seen[0].std() < 3


def test_whole_numbers_are_left_alone():
    given = recipe(model=lambda: nn.Embedding(900, 2), batches=[torch.arange(900)], loss=lambda m, b: m(b).mean())
    assert standardised_input(Facts(given)) is None


def literals(x, model=net):
    (edit,) = standardised_input(Facts(regression(x, y=torch.zeros(len(x), 1), model=model))).edits
    return edit.arguments


def test_one_number_serves_features_of_like_scale_and_those_that_are_too_many():
    def wide():
        return nn.Linear(300, 1)

    assert isinstance(literals(100 * X + 7)["mean"], float)
    assert isinstance(literals(X * torch.tensor([1.0, 1, 1, 1, 1, 900]))["std"], list)
    assert isinstance(literals(torch.randn(64, 300) * torch.logspace(0, 2, 300), wide)["mean"], float)


def test_statistics_are_written_with_six_digits_and_with_more_where_the_mean_is_large():
    arguments = literals(WILD.double() + torch.tensor([1e7, 0, 0, 0, 0, 0]), lambda: net().double())
    assert all(float(f"{std:.6g}") == std for std in arguments["std"])
    assert arguments["mean"][0] == pytest.approx(float(X[:, 0].mean()) + 500 + 1e7, abs=1e-2)


def with_gaps(x, gap, share=0.05):
    gaps = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < share
    return torch.where(gaps, gap, x), gaps


def test_a_number_that_stands_for_missing_values_becomes_the_mean():
    x, gaps = with_gaps(3 * X + 1, -999.0)
    arguments = literals(x)
    assert arguments["missing"] == -999
    assert arguments["std"] == pytest.approx(3, rel=0.3)
    (edit,) = standardised_input(Facts(regression(x))).edits
    assert "-999 stands for a missing value" in edit.note
    seen = []
    model = edit(regression(x)).model()
    model[0].register_forward_hook(lambda _, args, __: seen.append(args[0]))
    model(x)
    assert not seen[0][gaps].any()
    assert float(seen[0][~gaps].std()) == pytest.approx(1, rel=0.3)


NO_SENTINELS = {
    "an outlier": torch.cat([X, torch.full((1, 6), -999.0)])[1:] * torch.tensor([1.0, 0, 0, 0, 0, 0]),
    "one hot": 30 * torch.eye(6)[torch.arange(64) % 6],
    "bytes": (255 * torch.rand(64, 6)).round(),
    "bytes that saturate": (600 * torch.rand(64, 6) - 100).clamp(0, 255),
}


@pytest.mark.parametrize("x", NO_SENTINELS.values(), ids=NO_SENTINELS.keys())
def test_other_extremes_stand_for_themselves(x):
    assert "missing" not in literals(x)


def test_numbers_that_are_none_become_the_mean_where_they_spoil_the_loss():
    x, _ = with_gaps(X, torch.nan)
    given = regression(x)
    remedy = standardised_input(Facts(given))
    assert remedy.edits[0].arguments["nan_is_missing"] is True
    losses, _ = plain_loop(remedy(given))
    assert end(losses) < 0.5 * float(Y.var())
    assert_same_when_pasted(given.with_(epochs=2), remedy)


def test_a_network_that_knows_its_missing_numbers_is_left_alone():
    class Filling(nn.Linear):
        def forward(self, x):
            return super().forward(x.nan_to_num(0.0))

    x, _ = with_gaps(X, torch.nan)
    assert standardised_input(Facts(regression(x, model=lambda: Filling(6, 1)))) is None


def test_numbers_that_are_none_do_not_spoil_the_statistics():
    x = 100 * X
    x[3, 2], x[5, 1] = torch.nan, torch.inf
    assert literals(x)["std"] == pytest.approx(100, rel=0.2)


class Wandering(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, series, scale=None):
        answer = self.linear(series.mean(1, keepdim=True))
        return answer if scale is None else answer * scale


def test_sequences_of_changing_length_have_one_mean():
    batches = [(100 * torch.randn(16, length), torch.zeros(16, 1)) for length in (5, 7, 9)]
    remedy = standardised_input(Facts(regression(model=Wandering, batches=batches)))
    assert isinstance(remedy.edits[0].arguments["mean"], float)
    plain_loop(remedy(regression(model=Wandering, batches=batches)))


def test_several_inputs_are_told_apart_and_ordinary_ones_left_alone():
    def loss(model, batch):
        return model(100 * batch[0], scale=batch[1]).square().mean()

    given = regression(model=Wandering, loss=loss)
    (edit,) = standardised_input(Facts(given)).edits
    assert (edit.arguments["position"], edit.arguments["keyword"]) == (0, "series")
    given = given.with_(loss=lambda m, b: m(100 * b[0], scale=100 * b[1]).square().mean())
    remedy = standardised_input(Facts(given))
    assert [edit.arguments["keyword"] for edit in remedy.edits] == ["series", "scale"]
    model = build_model(remedy(given))
    by_keyword = model(series=100 * X, scale=100 * Y)
    assert torch.equal(model(100 * X, 100 * Y), by_keyword)
    assert "input_scale_mean" in model.state_dict()


# Targets


def test_targets_in_thousands_are_cured_in_anybodys_loop_and_answered_in_thousands():
    y = 1000 * Y + 5000
    given = regression(y=y)
    remedy = standardised_target(Facts(given))
    assert remedy.causes == (Cause.TARGET_SCALE,)
    assert not end(plain_loop(given)[0]) < 0.3 * float(y.var())
    losses, model = plain_loop(remedy(given))
    assert end(losses) < 0.1
    assert float(functional.mse_loss(model(X), y).detach()) < 0.1 * float(y.var())


def pinball(model, batch):
    error = batch[1] - model(batch[0])
    return torch.maximum(0.9 * error, -0.1 * error).mean()


def consistent(model, batch):
    return squared(model, batch) + (model(batch[0]) - model(-batch[0])).square().mean()


@pytest.mark.parametrize(
    "loss", [squared, pinball, consistent, lambda m, b: functional.huber_loss(m(b[0])[:, 0], b[1][:, 0])]
)
def test_errors_of_every_kind_are_told_in_other_units(loss):
    given = regression(y=1000 * Y, loss=loss)
    remedy = standardised_target(Facts(given))
    std = remedy.edits[0].arguments["std"]
    assert std == pytest.approx(float(1000 * Y.std()), rel=1e-4)
    assert plain_loop(remedy(given))[0]


def poisson(model, batch):
    return functional.poisson_nll_loss(model(batch[0]), batch[1].abs())


def likelihood(model, batch):
    mean, spread = model(batch[0]).repeat(1, 2).chunk(2, dim=1)
    return functional.gaussian_nll_loss(mean, batch[1], functional.softplus(spread))


def relative(model, batch):
    return ((model(batch[0]) - batch[1]) / batch[1]).square().mean()


@pytest.mark.parametrize("loss", [poisson, likelihood, relative])
def test_a_loss_that_is_no_difference_is_left_alone(loss):
    assert standardised_target(Facts(regression(y=1000 * Y, loss=loss))) is None


class Pair(nn.Linear):
    def __init__(self):
        super().__init__(6, 1)

    def forward(self, x):
        answer = super().forward(x)
        return answer, x


LEFT_ALONE = {
    "an ordinary target": regression(y=2 * Y + 1),
    "classes": recipe(loss=cross_entropy),
    "an autoencoder": recipe(
        model=lambda: nn.Linear(6, 6), loss=lambda m, b: (m(900 * b[0]) - 900 * b[0]).square().mean()
    ),
    "an output of another size": regression(
        y=1000 * Y,
        model=lambda: nn.Linear(6, 2),
        loss=lambda m, b: (m(b[0]).sum(1, keepdim=True) - b[1]).square().mean(),
    ),
    "an output of several": regression(y=1000 * Y, model=Pair, loss=lambda m, b: (m(b[0])[0] - b[1]).square().mean()),
}


@pytest.mark.parametrize("given", LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_targets_are_left_alone(given):
    assert standardised_target(Facts(given)) is None


def test_weights_of_samples_are_no_target():
    weights = 100 * torch.rand(64)
    batches = [
        {"x": x, "y": y, "weight": w}
        for x, y, w in zip(X.split(16), (1000 * Y).split(16), weights.split(16), strict=True)
    ]

    def loss(model, batch):
        return (batch["weight"] * (model(batch["x"]) - batch["y"]).square().mean(1)).mean()

    given = regression(batches=batches, loss=loss, model=lambda: nn.Linear(6, 1))
    assert standardised_target(Facts(given)) is None  # either could be what the output is compared with
    batches = [{**batch, "weight": batch["weight"][:1]} for batch in batches]
    remedy = standardised_target(Facts(given.with_(batches=batches)))
    assert remedy.edits[1].arguments == {"target": ("y",)}


def test_the_yardstick_measures_a_treated_recipe():
    given = regression(y=1000 * Y + 5000)
    for remedy in (standardised_target(Facts(given)), standardised_targets()):
        treated = remedy(given)
        yardstick = measure(treated)
        assert yardstick.computed
        assert yardstick.baseline == pytest.approx(1, rel=0.05)
        assert yardstick.progress(smoothed(train(treated).losses, 4)) > 0.9


# Order


LABELS = (X[:, 0] + 3 * data(64, seed=1)[0][:, 0] > 0).long()
ROWS = LABELS.argsort(stable=True)
SORTED = TensorDataset(X[ROWS], LABELS[ROWS])


def in_order(**changes):
    parts = {"model": lambda: nn.Linear(6, 2), "loss": cross_entropy, "batches": lambda: DataLoader(SORTED, 8)}
    return recipe(**{**parts, **changes})


def whole_loss(model):
    return float(functional.cross_entropy(model(X), LABELS).detach())


@pytest.mark.parametrize("kind", ["loader", "list"])
def test_batches_in_order_are_cured_in_anybodys_loop(kind):
    given = in_order(epochs=3, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=1.0))
    if kind == "list":
        given = given.with_(batches=list(given.batches()))
    remedy = shuffled(Facts(given))
    assert remedy.causes == (Cause.BATCHING,)
    assert whole_loss(plain_loop(remedy(given))[1]) < 0.8 * whole_loss(plain_loop(given)[1])


def test_batches_in_no_order_are_left_alone():
    assert shuffled(Facts(in_order(batches=lambda: DataLoader(SORTED, 8, shuffle=True)))) is None
    assert shuffled(Facts(recipe())) is None


def test_ordered_batches_that_cannot_be_dealt_are_named():
    def named():
        return [{"name": str(k), "x": x, "y": y} for k, (x, y) in enumerate(in_order().batches())]

    loss = in_order(batches=named, loss=lambda m, b: cross_entropy(m, (b["x"], b["y"])))
    with pytest.raises(TypeError, match="cannot deal batches anew"):
        shuffled(Facts(loss))


# All


CASES = {
    "input": (regression(WILD, epochs=2), standardised_input),
    "target": (regression(y=1000 * Y + 5000, epochs=2), standardised_target),
    "order, loader": (in_order(), shuffled),
    "order, list": (in_order(batches=list(DataLoader(SORTED, 8))), shuffled),
}


@pytest.mark.parametrize(("given", "prescribe"), CASES.values(), ids=CASES.keys())
def test_what_is_pasted_trains_alike(given, prescribe):
    assert_same_when_pasted(given, prescribe(Facts(given)))


@pytest.mark.parametrize(("given", "prescribe"), CASES.values(), ids=CASES.keys())
def test_prescribing_leaves_randomness_and_data_alone(given, prescribe):
    state = torch.get_rng_state()
    kept = copy.deepcopy(list(given.batches)) if not callable(given.batches) else None
    first, second = prescribe(Facts(given)), prescribe(Facts(given))
    assert [dict(edit.arguments) for edit in first.edits] == [dict(edit.arguments) for edit in second.edits]
    assert torch.equal(torch.get_rng_state(), state)
    for before, after in zip(kept or [], given.batches if kept else [], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_input_and_target_together():
    given = regression(WILD, y=1000 * Y + 5000)
    remedy = standardised_input(Facts(given)).then(standardised_target(Facts(given)))
    losses, model = plain_loop(remedy(given))
    assert end(losses) < 0.2
    assert float(functional.mse_loss(model(WILD), 1000 * Y + 5000).detach()) < 5e5
    assert_same_when_pasted(given.with_(epochs=2), remedy)
