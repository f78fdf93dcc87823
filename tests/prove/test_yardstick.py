"""The best constant predictor's loss agrees with closed forms, whatever form the loss has."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from graddoctor.prove.yardstick import Yardstick, measure, smoothed, window_of
from graddoctor.recipe import Recipe
from graddoctor.remedies.survey import survey
from graddoctor.train import build_model

RATE = {"lr": 0.1}
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(120, 5, generator=GENERATOR)
LABELS = torch.multinomial(torch.tensor([0.5, 0.3, 0.15, 0.05]), 120, replacement=True, generator=GENERATOR)
VALUES = 3 * torch.randn(120, 2, generator=GENERATOR) + 7


def recipe(model, loss, *columns, size=40):
    batches = list(zip(*(c.split(size) for c in columns), strict=True))
    return Recipe(model=model, loss=loss, batches=batches, optimizer=lambda m: torch.optim.SGD(m.parameters(), **RATE))


class Net(nn.Module):
    def __init__(self, out, end=lambda z: z, inside=5):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inside, 8), nn.Tanh(), nn.Linear(8, out))
        self.end = end

    def forward(self, x):
        return self.end(self.body(x))


def entropy(weights):
    p = np.asarray(weights, dtype=np.float64)
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum())


COUNTS = torch.bincount(LABELS, minlength=4).double().numpy()
ENTROPY = entropy(COUNTS)


def cross_entropy(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


CLASSIFIER = recipe(lambda: Net(4), cross_entropy, X, LABELS)
REGRESSION = recipe(lambda: Net(2), squared, X, VALUES)
VARIANCE = float(VALUES.double().var(0, unbiased=False).mean())


def baseline(given):
    found = measure(given)
    assert found.computed
    return found.baseline


def test_cross_entropy_is_the_entropy_of_the_labels():
    assert baseline(CLASSIFIER) == pytest.approx(ENTROPY, rel=1e-4)


def test_log_softmax_and_nll_are_the_same():
    given = recipe(
        lambda: Net(4, lambda z: torch.log_softmax(z, 1)), lambda m, b: functional.nll_loss(m(b[0]), b[1]), X, LABELS
    )
    found = measure(given, survey(given, build_model(given)))
    assert found.baseline == pytest.approx(ENTROPY, rel=1e-4)


def test_a_loss_without_a_lower_bound_has_no_best_constant():
    given = CLASSIFIER.with_(loss=lambda m, b: functional.nll_loss(m(b[0]), b[1]))
    found = measure(given)
    assert not found.computed
    assert abs(found.baseline) < 10


def test_squared_error_is_the_variance():
    assert baseline(REGRESSION) == pytest.approx(VARIANCE, rel=1e-4)


def test_absolute_error_is_the_deviation_from_the_median():
    y = VALUES[:, 0]
    given = recipe(lambda: Net(1, lambda z: z.squeeze(1)), lambda m, b: (m(b[0]) - b[1]).abs().mean(), X, y)
    expected = float((y - y.median()).abs().mean())
    assert baseline(given) == pytest.approx(expected, rel=0.02)


P = float((LABELS == 0).double().mean())
BINARY = (LABELS == 0).float()


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        (lambda z: z, lambda m, b: functional.binary_cross_entropy_with_logits(m(b[0]).squeeze(1), b[1])),
        (torch.sigmoid, lambda m, b: functional.binary_cross_entropy(m(b[0]).squeeze(1), b[1])),
        (lambda z: z.squeeze(1), lambda m, b: functional.binary_cross_entropy_with_logits(m(b[0]), b[1])),
    ],
)
@pytest.mark.parametrize("with_survey", [False, True])
def test_binary_cross_entropy_is_the_entropy_of_the_coin(end, loss, with_survey):
    given = recipe(lambda: Net(1, end), loss, X, BINARY)
    seen = survey(given, build_model(given)) if with_survey else None
    assert measure(given, seen).baseline == pytest.approx(entropy([P, 1 - P]), rel=1e-3)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e4])
def test_the_size_of_a_loss_does_not_matter(factor):
    scaled = CLASSIFIER.with_(loss=lambda m, b: factor * cross_entropy(m, b))
    assert baseline(scaled) == pytest.approx(factor * ENTROPY, rel=1e-3)


def test_an_offset_of_a_loss_is_in_the_baseline():
    assert baseline(REGRESSION.with_(loss=lambda m, b: squared(m, b) - 100)) == pytest.approx(VARIANCE - 100, rel=1e-4)


def test_weights_of_classes_count():
    weights = torch.tensor([1.0, 5.0, 0.5, 10.0])
    given = CLASSIFIER.with_(
        loss=lambda m, b: functional.cross_entropy(m(b[0]), b[1], weight=weights, reduction="sum") / len(b[0])
    )
    weighted = weights.double().numpy() * COUNTS
    assert baseline(given) == pytest.approx(entropy(weighted) * weighted.sum() / COUNTS.sum(), rel=1e-3)


def test_weights_of_samples_count():
    w = torch.rand(120, 1, generator=torch.Generator().manual_seed(1))
    given = recipe(lambda: Net(2), lambda m, b: (b[2] * (m(b[0]) - b[1]).square()).mean(), X, VALUES, w)
    y, weight = VALUES.double(), w.double()
    best = (weight * y).sum(0) / weight.sum()
    assert baseline(given) == pytest.approx(float((weight * (y - best).square()).mean()), rel=1e-3)


# Outputs of other shapes

TOKENS = torch.multinomial(torch.tensor([0.6, 0.2, 0.2]), 120 * 7, replacement=True, generator=GENERATOR).view(120, 7)
TOKEN_ENTROPY = entropy(torch.bincount(TOKENS.flatten()).numpy())


class Tagger(nn.Module):
    """Logits for every place of a sequence; with targets it computes the loss itself, as transformers' models do."""

    def __init__(self, words=3):
        super().__init__()
        self.embedding, self.head = nn.Embedding(3, 8), nn.Linear(8, words)

    def forward(self, tokens, labels=None):
        logits = self.head(self.embedding(tokens))
        if labels is None:
            return logits
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return SimpleNamespace(loss=loss, logits=logits)


def sequence_loss(model, batch):
    return functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


def test_sequences_have_one_vector_for_every_place():
    assert baseline(recipe(Tagger, sequence_loss, TOKENS, TOKENS)) == pytest.approx(TOKEN_ENTROPY, rel=1e-3)


def test_batches_may_differ_in_length_and_number():
    given = recipe(Tagger, sequence_loss, TOKENS, TOKENS)
    short = given.with_(batches=[(TOKENS[:30, :2], TOKENS[:30, :2]), (TOKENS[30:40], TOKENS[30:40])])
    one, other = (torch.bincount(t.flatten(), minlength=3).double() for t in (TOKENS[:30, :2], TOKENS[30:40]))
    assert baseline(short) == pytest.approx(entropy((one / one.sum() + other / other.sum()).numpy()), rel=1e-3)


def test_time_may_come_first():
    class TimeFirst(Tagger):
        def forward(self, tokens, labels=None):
            return super().forward(tokens.t()).mean(1)

    labels = LABELS % 3
    given = recipe(TimeFirst, lambda m, b: cross_entropy(m, (b[0].t(), b[1])), TOKENS, labels, size=40)
    assert baseline(given) == pytest.approx(entropy(torch.bincount(labels).numpy()), rel=1e-3)


def test_a_network_that_computes_its_loss_has_its_last_layer_replaced():
    given = recipe(Tagger, lambda m, b: m(b[0], labels=b[1]).loss, TOKENS, TOKENS)
    assert baseline(given) == pytest.approx(TOKEN_ENTROPY, rel=1e-3)


@pytest.mark.parametrize("kind", ["sequence classification", "language model"])
def test_the_models_of_transformers(kind):
    transformers = pytest.importorskip("transformers")
    size = {"vocab_size": 3, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = transformers.GPT2Config(**size, bos_token_id=0, eos_token_id=0, pad_token_id=0, num_labels=4)
    build = transformers.GPT2ForSequenceClassification if kind[0] == "s" else transformers.GPT2LMHeadModel
    labels = LABELS if kind[0] == "s" else TOKENS
    given = recipe(lambda: build(config), lambda m, b: m(input_ids=b[0], labels=b[1]).loss, TOKENS + 0, labels)
    expected = ENTROPY if kind[0] == "s" else entropy(torch.bincount(TOKENS[:, 1:].flatten()).numpy())
    assert baseline(given) == pytest.approx(expected, rel=1e-2)


def test_images_have_one_value_for_every_channel():
    y = torch.randn(24, 2, 5, 5, generator=GENERATOR) + torch.tensor([3.0, -1.0]).view(2, 1, 1)
    given = recipe(lambda: nn.Conv2d(1, 2, 3, padding=1), squared, torch.rand(24, 1, 5, 5), y, size=12)
    expected = float((y.double() - y.double().mean((0, 2, 3), keepdim=True)).square().mean())
    assert baseline(given) == pytest.approx(expected, rel=1e-3)


# Losses with more in them


@pytest.mark.parametrize("penalty", [lambda p: 0.1 * p.square().sum(), lambda p: p.abs().sum()])
def test_a_penalty_on_the_weights_is_not_in_the_baseline(penalty):
    given = CLASSIFIER.with_(loss=lambda m, b: cross_entropy(m, b) + sum(penalty(p) for p in m.parameters()))
    found = measure(given)
    assert found.penalised
    assert found.baseline == pytest.approx(ENTROPY, rel=1e-4)
    assert not measure(CLASSIFIER).penalised


def test_a_penalty_on_gradients_is_no_penalty_on_weights():
    def loss(model, batch):
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return cross_entropy(model, batch) + slope.square().sum()

    found = measure(CLASSIFIER.with_(loss=loss))
    assert not found.penalised
    assert not found.computed
    assert math.isfinite(found.baseline)


def test_a_network_that_is_run_twice_in_a_step():
    given = CLASSIFIER.with_(loss=lambda m, b: cross_entropy(m, b) + (m(b[0]) - m(-b[0])).square().mean())
    assert baseline(given) == pytest.approx(ENTROPY, rel=1e-4)


def test_a_last_batch_of_one_is_no_hindrance_to_batch_normalization():
    def build():
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

    given = recipe(build, squared, X[:41], VALUES[:41])
    y = VALUES[:41].double()
    best = (y[:40].mean(0) + y[40]) / 2
    expected = float(((y[:40] - best).square().mean() + (y[40] - best).square().mean()) / 2)
    assert baseline(given) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("how", [lambda v: v * math.nan, lambda v: v + math.inf])
def test_a_loss_that_is_never_finite_has_no_yardstick(how):
    found = measure(CLASSIFIER.with_(loss=lambda m, b: how(cross_entropy(m, b))))
    assert (found.baseline, found.computed) == (1.0, False)


def test_a_loss_that_does_not_ask_the_network_for_its_output_has_none_that_is_computed():
    given = CLASSIFIER.with_(loss=lambda m, b: functional.cross_entropy(m.body(b[0]), b[1]))
    assert measure(given).baseline > 0


def test_measuring_leaves_randomness_and_batches_alone():
    given = CLASSIFIER
    state, before = torch.get_rng_state(), X.clone()
    first = measure(given)
    assert measure(given) == first or math.isnan(first.floor)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(X, before)


# The floor: what the outputs could reach at best


def floors(given):
    found = measure(given, survey(given, build_model(given)))
    return found.floor, found.bare_floor, found


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_a_softmax_before_cross_entropy_has_a_floor(classes):
    labels = torch.arange(120) % classes
    given = recipe(lambda: Net(classes, lambda z: torch.softmax(z, 1)), cross_entropy, X, labels)
    floor, bare, found = floors(given)
    assert floor == pytest.approx(math.log(math.e + classes - 1) - 1, rel=1e-3)
    assert bare == pytest.approx(0, abs=1e-3)
    assert found.baseline == pytest.approx(math.log(classes), rel=1e-3)
    assert found.output_gap == pytest.approx((floor - bare) / math.log(classes), rel=1e-3)


def test_a_rectifier_on_the_output_cannot_reach_what_is_negative():
    y = VALUES - 7
    given = recipe(lambda: Net(2, torch.relu), squared, X, y)
    floor, bare, _ = floors(given)
    assert floor == pytest.approx(float(y[:40].clamp(max=0).square().mean()), rel=1e-2)
    assert bare == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("end", "loss", "target"),
    [
        (torch.sigmoid, lambda m, b: functional.binary_cross_entropy(m(b[0]).squeeze(1), b[1]), BINARY),
        (torch.tanh, squared, torch.tanh(VALUES - 7) * 0.9),
        (nn.functional.softplus, squared, VALUES.abs() + 0.1),
        (lambda z: torch.log_softmax(z, 1), lambda m, b: functional.nll_loss(m(b[0]), b[1]), LABELS),
    ],
)
def test_an_activation_that_suits_the_loss_costs_nothing(end, loss, target):
    units = {1: 4 if target.dtype is torch.long else 1}.get(target.ndim, 2)
    _, _, found = floors(recipe(lambda: Net(units, end), loss, X, target))
    assert found.output_gap < 0.02


def test_without_an_activation_there_is_no_floor():
    floor, bare, found = floors(CLASSIFIER)
    assert math.isnan(floor)
    assert math.isnan(bare)
    assert found.output_gap == 0.0


# Progress

finite = st.floats(-1e6, 1e6, allow_nan=False)


@for_all(st.floats(1e-6, 1e6), finite, finite)
def test_progress_falls_with_the_loss_and_has_no_unit(base, one, other):
    stick = Yardstick(base, computed=True)
    assert stick.progress(base) == 0.0
    assert stick.progress(0.0) == pytest.approx(1.0)
    assert (stick.progress(one) >= stick.progress(other)) or one > other
    scaled = Yardstick(1000 * base, computed=True)
    assert scaled.progress(1000 * one) == pytest.approx(stick.progress(one))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_no_progress(loss):
    assert Yardstick(1.0, computed=True).progress(loss) == 0.0


def test_losses_below_zero_have_progress_too():
    assert Yardstick(-2.0, computed=True).progress(-3.0) == 0.5
    assert Yardstick(0.0, computed=True).progress(1.0) == 0.0


@for_all(st.lists(st.floats(-100, 100), max_size=20), st.integers(0, 30))
def test_the_smoothed_loss_is_the_mean_of_the_last(losses, window):
    got = smoothed(np.asarray(losses, dtype=np.float64), window)
    tail = losses[-max(1, window) :]
    assert got == (pytest.approx(sum(tail) / len(tail), abs=1e-9) if tail else math.inf)


def test_a_loss_that_is_not_finite_counts_only_within_the_window():
    losses = np.array([np.nan, 1.0, 3.0])
    assert smoothed(losses, 2) == 2.0
    assert smoothed(losses, 3) == math.inf


@pytest.mark.parametrize(
    ("per_epoch", "total", "window"),
    [(100, 1000, 100), (500, 1000, 100), (2, 1000, 8), (10, 40, 8), (3, 5, 5), (1, 1, 1)],
)
def test_the_window_is_an_epoch_within_reason(per_epoch, total, window):
    assert window_of(per_epoch, total) == window
