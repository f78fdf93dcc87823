"""The training loop does what a plain loop would, the same way every time, and touches nothing that is not its own."""

import copy
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from graddoctor.errors import RecipeError
from graddoctor.randomness import kept_random_state
from graddoctor.train import build_model, evaluate, train
from train_recipes import Looker, data, drawn_when_asked, generated, loss, net, pairs, recipe, sgd, shuffled, state


def test_a_plain_loop_gives_the_same_losses_and_weights():
    outcome = train(recipe())
    with kept_random_state():
        torch.manual_seed(0)
        model = net()
        optimizer = sgd(model)
        torch.manual_seed(1)
        losses = []
        for _ in range(2):
            for batch in pairs():
                optimizer.zero_grad()
                value = loss(model, batch)
                value.backward()
                optimizer.step()
                losses.append(float(value.detach()))
    assert outcome.losses.tolist() == losses
    assert torch.equal(state(outcome), torch.cat([v.flatten().double() for v in model.state_dict().values()]))
    assert (outcome.steps, outcome.total_steps, outcome.steps_per_epoch, outcome.ended) == (12, 12, 6, "complete")
    assert outcome.first_nonfinite is None
    assert outcome.evaluation is None
    assert outcome.seconds > 0


@pytest.mark.parametrize("batches", [pairs, shuffled, generated, drawn_when_asked])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_training_is_bit_deterministic_for_a_seed(batches, precision):
    recipes = recipe(batches=batches, precision=precision)
    first = train(recipes)
    torch.rand(3)
    np.random.rand(2)  # noqa: NPY002
    random.random()  # noqa: S311
    again = train(recipes)
    assert first.losses.tolist() == again.losses.tolist()
    assert torch.equal(state(first), state(again))
    other = train(recipes.with_(seed=1))
    assert other.losses.tolist() != first.losses.tolist()


def test_a_builder_with_a_seed_is_given_it():
    seeds = []

    def build(seed):
        seeds.append(seed)
        return net()

    train(recipe(model=build, seed=9), steps=1)
    assert seeds == [9]


def global_states():
    return torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def test_the_callers_random_state_stays():
    seen = [data()[0]]
    before = global_states()
    train(recipe(batches=drawn_when_asked, evaluate=lambda _: float(torch.rand(()))))
    build_model(recipe())
    after = global_states()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert torch.equal(seen[0], data()[0])


def own_generators():
    """Recipes that draw from a generator that the user made once, and that generator."""
    g = torch.Generator().manual_seed(3)
    rng = np.random.default_rng(3)
    loader = DataLoader(TensorDataset(*data()), batch_size=4, shuffle=True, generator=g)

    def build():
        model = net()
        with torch.no_grad():
            model[0].weight.normal_(0, 0.5, generator=g)
        return model

    def permuted():
        x, y = data()
        for rows in torch.randperm(24, generator=g).split(4):
            yield x[rows], y[rows]

    def noisy(model, batch):
        return loss(model, (batch[0] + torch.randn(batch[0].shape, generator=g), batch[1]))

    def ordered():
        x, y = data()
        rows = torch.tensor(rng.permutation(24))
        return list(zip(x[rows].split(4), y[rows].split(4), strict=True))

    return {
        "a loader": (recipe(batches=loader), g),
        "a function that returns one loader": (recipe(batches=lambda: loader), g),
        "a generator function": (recipe(batches=permuted), g),
        "a builder": (recipe(model=build), g),
        "a loss": (recipe(loss=noisy), g),
        "a NumPy generator": (recipe(batches=ordered), rng),
    }


@pytest.mark.parametrize("where", own_generators().keys())
def test_a_users_generator_is_put_back_and_every_run_is_the_same(where):
    given, generator = own_generators()[where]
    read = generator.get_state if isinstance(generator, torch.Generator) else lambda: generator.bit_generator.state
    before = copy.deepcopy(read())
    outcomes = [train(given) for _ in range(2)]
    build_model(given)
    assert str(read()) == str(before)
    assert not isinstance(before, torch.Tensor) or torch.equal(read(), before)
    assert outcomes[0].losses.tolist() == outcomes[1].losses.tolist()


def test_the_callers_batches_and_files_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batches = pairs()
    before = copy.deepcopy(batches)
    train(recipe(batches=batches))
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(a, b) for x, y in zip(batches, before, strict=True) for a, b in zip(x, y, strict=True))


def test_an_observer_is_told_everything_in_order_and_changes_nothing():
    looker = Looker()
    watched, plain = train(recipe(epochs=4), observer=looker), train(recipe(epochs=4))
    assert watched.losses.tolist() == plain.losses.tolist()
    per_step = ["before_step", "after_backward", "before_update", "after_step"]
    assert looker.calls == [("built", 24), *((name, k) for k in range(24) for name in per_step)]
    assert sum(looker.lengths) == 24


def test_the_metric_is_taken_in_eval_mode_without_gradients():
    def metric(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.rand(3)
        return np.float32(0.5)

    outcome = train(recipe(evaluate=metric))
    assert outcome.evaluation == 0.5
    assert outcome.model.training


def test_modules_that_were_frozen_in_eval_mode_stay_so():
    model = net()
    model[2].eval()
    evaluate(recipe(evaluate=lambda _: 1.0), model)
    assert [m.training for m in model] == [True, True, False, True]


@pytest.mark.parametrize(
    ("value", "says"), [(None, "NoneType"), (torch.ones(2), r"Tensor of shape \(2,\)"), ("high", "str")]
)
def test_a_metric_that_is_no_number_is_refused(value, says):
    with pytest.raises(RecipeError, match=f"evaluate must return a number; it returned {says}"):
        train(recipe(evaluate=lambda _: value))


def test_an_error_in_the_users_metric_is_the_users():
    with pytest.raises(TypeError, match="NoneType"):
        train(recipe(evaluate=lambda _: None + 1))
