"""The zoo's truth on a handful of patients, and what holds for all of them. The whole: benchmarks/zoo_truth.py."""

import inspect
import math

import pytest
import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing import Patient, names, patient, zoo
from graddoctor.testing._data import blobs, circles, digits, pairs, recall, tabular, teacher
from graddoctor.testing._patient import batches, plain_loss, score
from graddoctor.testing._sequences import adding, average, bits, order, ragged, recent, rows, shown, spelled, waves

QUICK_SICK = (
    "init_normal_tiny",
    "init_bias_kills_layer",
    "act_sigmoid_mlp",
    "input_loader_bytes",
    "output_relu_regression",
    "rate_sgd_low",
    "schedule_decays_at_once",
    "clip_parameter_hook",
    "loss_broadcast",
    "precision_autocast_half",
    "graph_detached_body",
    "numeric_constant_column",
    "batch_sorted_labels",
    "recurrent_matrix_small",
    "recurrent_loop_default",
)
QUICK_SOUND = ("sound_unused_head", "sound_log_softmax_twice", "sound_clipped_always", "sound_accumulated")


def train(recipe, seed=0):
    """Return final loss (mean of the last 20 steps, infinite if one is not finite) and score."""
    torch.manual_seed(seed)
    model = recipe.model(seed=seed)
    optimizer = recipe.optimizer(model)
    seeded = "seed" in inspect.signature(recipe.batches).parameters
    data = recipe.batches(seed=seed) if seeded else recipe.batches()
    scheduler = recipe.scheduler(optimizer) if recipe.scheduler else None
    losses = []
    for _ in range(recipe.epochs):
        for step, batch in enumerate(data):
            with torch.autocast("cpu", recipe.precision or torch.bfloat16, enabled=recipe.precision is not None):
                loss = recipe.loss(model, batch)
            (loss / recipe.accumulate).backward()
            losses.append(float(loss.detach()))
            if (step + 1) % recipe.accumulate:
                continue
            if recipe.clip is not None:
                recipe.clip([p for p in model.parameters() if p.grad is not None])
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()
        if not math.isfinite(losses[-1]):
            break
    tail = losses[-20:]
    final = sum(tail) / len(tail) if all(map(math.isfinite, losses)) else math.inf
    return final, recipe.evaluate(model) if recipe.evaluate else None


@pytest.mark.parametrize("name", QUICK_SICK)
def test_a_sick_patient_loses_to_its_twin(name):
    one = patient(name)
    _, sick_score = train(one.recipe)
    _, twin_score = train(one.twin)
    assert twin_score - sick_score >= 0.10


@pytest.mark.parametrize("name", QUICK_SOUND)
def test_a_sound_patient_learns(name):
    _, found = train(patient(name).recipe)
    assert found > 0.85


def test_training_is_deterministic_for_a_seed():
    recipe = patient("sound_heavy_dropout").recipe.with_(epochs=2)
    assert train(recipe, 3) == train(recipe, 3)
    assert train(recipe, 3) != train(recipe, 4)


@pytest.mark.parametrize("one", zoo(), ids=names())
def test_every_patient_is_well_formed(one):
    assert one.recipe.name == one.name
    assert one.story.endswith(".")
    assert one.sick == bool(one.conditions) == bool(one.causes) == (one.twin is not None)
    assert (Condition.DEGRADATION in one.conditions) <= (one.family in {"depth", "attention"})
    of_time = {Condition.RECURRENT_VANISHING, Condition.RECURRENT_EXPLODING} & one.conditions
    assert bool(of_time) <= (one.family == "recurrent")
    assert one.recipe.epochs >= 1


@pytest.mark.parametrize("one", [one for one in zoo() if one.modules], ids=lambda one: one.name)
def test_the_modules_at_fault_exist(one):
    held = {name for name, _ in one.recipe.model(seed=0).named_modules()}
    assert set(one.modules) <= held


@pytest.mark.parametrize("one", zoo(kind="sick"), ids=lambda one: one.name)
def test_a_twin_differs_from_its_patient_in_something(one):
    parts = ("model", "loss", "batches", "optimizer", "scheduler", "clip", "precision", "epochs")
    assert any(getattr(one.recipe, part) is not getattr(one.twin, part) for part in parts)


def test_builders_follow_the_seed_and_leave_nothing_behind():
    build = patient("init_normal_tiny").recipe.model
    first, again, other = build(seed=0), build(seed=0), build(seed=1)
    assert first is not again
    assert torch.equal(first.fc1.weight, again.fc1.weight)
    assert not torch.equal(first.fc1.weight, other.fc1.weight)


def test_kinds_select_and_an_unknown_one_is_refused():
    assert {one.sick for one in zoo(kind="sick")} == {True}
    assert {one.sick for one in zoo(kind="sound")} == {False}
    assert len(zoo()) == len(zoo(kind="sick")) + len(zoo(kind="sound"))
    assert {one.family for one in zoo(kind="graph")} == {"graph"}
    with pytest.raises(ValueError, match="no patients of kind 'grahp'"):
        zoo(kind="grahp")
    with pytest.raises(KeyError, match="no patient 'nobody'"):
        patient("nobody")


def test_names_are_unique_and_the_zoo_is_wide():
    assert len(set(names())) == len(names()) >= 150
    assert len(zoo(kind="sound")) >= 50
    assert set().union(*(one.causes for one in zoo())) == set(Cause)
    assert isinstance(zoo()[0], Patient)


SEQUENCES = (adding, average, bits, order, ragged, recent, rows, shown, spelled, waves)


@pytest.mark.parametrize("task", [digits, circles, blobs, teacher, tabular, pairs, recall, *SEQUENCES])
def test_tasks_are_finite_and_split_without_overlap_in_count(task):
    data = task()
    assert len(data.train[0]) > len(data.test[0]) > 300
    assert all(torch.isfinite(column.float()).all() for column in (*data.train, *data.test))


def test_what_decides_a_sequence_is_where_the_task_says():
    steps, labels = shown(30).train
    assert torch.equal(steps[:, 0].argmax(1), labels)
    assert float((steps[:, 5].argmax(1) == labels).float().mean()) < 0.35
    tokens, first = spelled(12).train
    assert torch.equal(tokens[:, 0], first)
    assert int(tokens[:, 1:].min()) >= 4
    padded, lengths, _ = ragged().train
    assert all(not row[length:].any() for row, length in zip(padded, lengths, strict=True))


def test_batches_are_shuffled_anew_each_epoch_and_equal_for_a_seed():
    loader, twin = batches(circles, 50)(seed=1), batches(circles, 50)(seed=1)
    first, second = next(iter(loader)), next(iter(loader))
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[0], next(iter(twin))[0])
    assert len(list(loader)) == len(loader) == len(circles().train[0]) // 50


def test_the_score_is_accuracy_and_r_squared_cut_at_zero():
    class Answer(nn.Module):
        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def forward(self, _):
            return self.answer

    labels = circles().test[-1]
    right = nn.functional.one_hot(labels, 2).float()
    assert score(circles)(Answer(right)) == 1.0
    assert score(circles)(Answer(1 - right)) == 0.0
    target = teacher().test[-1]
    assert score(teacher)(Answer(target)) == pytest.approx(1.0)
    assert score(teacher)(Answer(target.mean() + 0 * target)) == pytest.approx(0.0, abs=1e-6)
    assert score(teacher)(Answer(target - 9)) == 0.0


def test_the_usual_loss_is_torchs():
    output, target = torch.randn(5, 1), torch.randn(5, 1)
    found = plain_loss("real")(nn.Identity(), (output, target))
    assert float(found) == pytest.approx(float(((output - target).double() ** 2).mean()), rel=1e-6)


def test_without_scikit_learn_a_stand_in_of_the_same_shape_comes(monkeypatch):
    import sys  # noqa: PLC0415 - only this test hides a module

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits.cache_clear()
    task = digits()
    digits.cache_clear()
    assert task.train[0].shape == (1400, 64)
    assert set(task.train[1].tolist()) == set(range(10))
