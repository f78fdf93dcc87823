"""`fix` from end to end: what it cures and what it leaves alone, what it says when nothing helps, how it ends early."""

import functools
import hashlib
import math
import random
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import graddoctor as gd
import treat_recipes
from graddoctor.errors import GraddoctorError, MissingExtraError, RecipeError, SettingsError, TrialsError
from graddoctor.prove import run_task, serial
from graddoctor.prove.fresh import fresh
from graddoctor.prove.store import TrialStore
from graddoctor.remedies.pharmacy import KEEPABLE
from graddoctor.terms import Cause
from graddoctor.treat.treatment import PROOF, RACE
from treat_recipes import (
    accuracy,
    hopeless,
    inputs,
    mlp,
    pairs,
    recipe,
    slow,
    sound,
    targets,
    tiny_start,
    unscaled,
)

SICK = {
    unscaled: Cause.INPUT_SCALE,
    slow: Cause.LEARNING_RATE,
    tiny_start: Cause.INITIALIZATION,
    treat_recipes.swallowed: Cause.CLIPPING,
}


@functools.cache
def cure_of(make, **changes):
    return gd.fix(make(**changes))


def fixed(make=unscaled, **options):
    """Fix a recipe after a checkup that is made once."""
    return gd.fix(make(), checkup=cure_of(make).checkup, **options)


def record(cure):
    return [(task.key, result.digest) for task, result in cure.trials]


def names(remedies):
    return [remedy.name for remedy in remedies]


def plain_loop(treated):
    """Train as anybody would who was given the parts; their losses."""
    random.seed(treated.seed)
    np.random.seed(treated.seed % 2**32)  # noqa: NPY002
    torch.manual_seed(treated.seed)
    source = treated.batches() if callable(treated.batches) else treated.batches
    torch.manual_seed(treated.seed)
    model = treated.model().train()
    optimizer = treated.optimizer(model)
    scheduler = treated.scheduler(optimizer) if treated.scheduler else None
    torch.manual_seed(treated.seed + 1)
    losses = []
    for _ in range(treated.epochs):
        for batch in source:
            optimizer.zero_grad()
            loss = treated.loss(model, batch)
            loss.backward()
            if treated.clip:
                treated.clip([p for p in model.parameters() if p.grad is not None])
            optimizer.step()
            if scheduler:
                scheduler.step()
            losses.append(float(loss.detach().double()))
    return losses


# --- what it cures


@pytest.mark.parametrize("make", SICK, ids=lambda make: make.__name__)
def test_a_sick_recipe_is_cured_and_any_loop_gets_what_was_proven(make):
    cure = cure_of(make)
    assert (cure.verdict, cure.exit_code, cure.aborted) == ("cured", 0, "")
    assert SICK[make] in cure.remedies[0].causes
    assert 1 <= len(cure.remedies) <= 2
    assert cure.proof.verdict == "better"
    assert (cure.proof.distinct, cure.proof.low > 0.1) == (5, True)
    pair = cure.proof.pairs[2]
    losses = plain_loop(cure.apply(fresh(make(), pair.seed)))
    assert hashlib.sha256(np.array(losses).tobytes()).hexdigest()[:32] == pair.after.digest
    elsewhere = plain_loop(cure.apply(make(seed=12345)))
    assert np.mean(elsewhere[-12:]) < 1.5 * max(pair.after.loss for pair in cure.proof.pairs) + 0.01
    assert not np.mean(plain_loop(make(seed=12345))[-12:]) < 2 * np.mean(elsewhere[-12:])  # it may be no number


def test_the_report_says_what_was_done():
    cure = cure_of(unscaled)
    report = cure.report()
    assert report.verdict == "cured"
    assert report.headline == "Cured by inputs standardised: better on all 5 fresh seeds."
    assert [one.name for one in report.remedies] == ["inputs standardised"]
    assert report.race.winner == "inputs standardised"
    assert len(report.proof.pairs) == 5
    assert report.effort.steps == sum(result.steps for _, result in cure.trials)
    assert "def treat_model" in report.source
    assert cure.source() == report.source
    assert str(cure).startswith("CURED")
    assert "CURED" in cure._repr_mimebundle_()["text/plain"]
    assert '"verdict": "cured"' in cure.to_json()


def test_it_is_saved_as_whatever_is_asked_for(tmp_path):
    cure = cure_of(unscaled)
    for suffix in (".html", ".json", ".md", ".txt", ".py"):
        cure.save(tmp_path / f"cure{suffix}")
        assert (tmp_path / f"cure{suffix}").stat().st_size > 300
    assert (tmp_path / "cure.py").read_text() == cure.source()
    with pytest.raises(GraddoctorError, match="docx"):
        cure.save(tmp_path / "cure.docx")


def test_a_metric_decides_where_there_is_one():
    cure = cure_of(slow, evaluate=accuracy)
    assert cure.verdict == "cured"
    assert cure.proof.measure == "metric"
    assert cure.proof.mean > 0.3
    assert cure.report().race.measure == "metric"


# --- what it leaves alone


def test_a_sound_recipe_is_handed_back():
    given = sound()
    cure = gd.fix(given)
    assert (cure.verdict, cure.exit_code, cure.remedies, cure.trials, cure.proof) == ("sound", 0, (), (), None)
    assert cure.recipe is given
    assert cure.apply(given) is given
    assert cure.report().headline.startswith("It learns as it is")
    assert "Nothing is changed" in cure.source()
    assert cure.diff() == ""


def test_where_nothing_helps_that_is_said_and_what_was_tried_is_shown():
    given = hopeless()
    cure = gd.fix(given)
    assert (cure.verdict, cure.exit_code, cure.remedies) == ("not cured", 1, ())
    assert cure.recipe is given
    report = cure.report()
    assert "it stays as it is" in report.headline
    tried = {entry.name for rung in report.race.rungs for entry in rung.entries}
    assert len(tried) > 5
    assert "as given" in tried
    assert all(name in str(cure) for name in sorted(tried)[:3])


def kept_architecture(given, treated):
    def plan(one):
        return [(name, type(module), repr(module)) for name, module in one.model().named_modules() if name]

    return plan(given) == plan(treated)


def kept_weights(given, treated):
    def weights(one):
        torch.manual_seed(0)
        return one.model().state_dict()

    old, new = weights(given), weights(treated)
    return all(new[name].equal(value) for name, value in old.items())


def kept_optimizer(given, treated):
    def options(one):
        optimizer = one.optimizer(one.model())
        groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        return type(optimizer), groups, one.clip, one.scheduler

    return options(given) == options(treated)


def kept_loss(given, treated):
    return treated.loss is given.loss


def kept_data(given, treated):
    if treated.batches is not given.batches:
        return False
    net, other = given.model(), treated.model()
    assert not set(net.state_dict()) - set(other.state_dict())
    return "input_mean" not in dict(other.named_buffers())


def relu_output():
    return nn.Sequential(*mlp(), nn.ReLU())


def penalised(model, batch):
    return treat_recipes.squared(model, batch) + 10 * sum(p.square().sum() for p in model.parameters())


FORBIDDEN = {
    "architecture": (lambda: recipe(model=relu_output), kept_architecture),
    "weights": (tiny_start, kept_weights),
    "optimizer": (slow, kept_optimizer),
    "loss": (lambda: recipe(loss=penalised), kept_loss),
    "data": (unscaled, kept_data),
}


@functools.cache
def checkup_of(make):
    return cure_of(make).checkup if make in SICK else gd.check(make())


@pytest.mark.parametrize("part", KEEPABLE)
def test_what_is_to_be_kept_is_kept_in_every_trial(part):
    make, kept = FORBIDDEN[part]
    given = make()
    cure = gd.fix(given, keep=[part], checkup=checkup_of(make))
    tried = {task.remedy.name: task.remedy for task, _ in cure.trials if task.remedy}
    assert tried or cure.verdict == "sound"
    assert all(kept(given, remedy(given)) for remedy in tried.values())
    assert kept(given, cure.recipe)


@pytest.mark.parametrize("part", KEEPABLE)
def test_what_may_be_changed_would_have_been(part):
    """Without `keep` the same recipes are changed just there: the test before this one can fail."""
    make, kept = FORBIDDEN[part]
    given = make()
    cure = gd.fix(given, checkup=checkup_of(make)) if make not in SICK else cure_of(make)
    assert not all(kept(given, task.remedy(given)) for task, _ in cure.trials if task.remedy)


def test_one_part_to_keep_may_be_a_word():
    with pytest.raises(SettingsError, match=r"keep: .* got 'wieghts'; did you mean weights"):
        gd.fix(slow(), keep="wieghts")
    assert names(fixed(slow, keep="data").remedies) == names(cure_of(slow).remedies)


class Watched(DataLoader):
    """A loader with a generator of its own."""

    def __init__(self):
        data = TensorDataset(300 * inputs() + 900, targets())
        super().__init__(data, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(3))


def test_nothing_of_the_callers_is_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net, loader = mlp(), Watched()
    given = recipe(model=net, batches=loader)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    order = loader.generator.get_state()
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    with torch.no_grad():
        cure = gd.fix(given)
        str(cure)
        cure.source()
        assert not torch.is_grad_enabled()
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert cure.verdict == "cured"
    assert loader.generator.get_state().equal(order)
    assert all(value.equal(weights[name]) for name, value in net.state_dict().items())
    assert net.training
    assert not net._forward_pre_hooks
    assert cure.treatment.given is given
    assert list(tmp_path.iterdir()) == []


def test_everything_computes_with_the_threads_that_are_asked_for():
    seen, before = set(), torch.get_num_threads()

    def loss(model, batch):
        seen.add(torch.get_num_threads())
        return treat_recipes.squared(model, batch)

    cure = gd.fix(unscaled(loss=loss), threads=3)
    cure.report()
    assert torch.get_num_threads() == before
    assert seen == {3}
    assert cure.threads == 3


# --- the same again


def test_the_same_recipe_has_the_same_cure_twice():
    again = gd.fix(unscaled())
    assert record(again) == record(cure_of(unscaled))
    assert names(again.remedies) == names(cure_of(unscaled).remedies)
    assert again.proof.mean == cure_of(unscaled).proof.mean
    assert again.source() == cure_of(unscaled).source()


def test_a_checkup_that_is_there_is_used():
    checkup = gd.check(unscaled())
    phases = set()
    cure = gd.fix(unscaled(), checkup=checkup, progress=lambda phase, *_: phases.add(phase))
    assert cure.checkup is checkup
    assert phases == {RACE, PROOF}
    assert record(cure) == record(cure_of(unscaled))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_give_the_same_bits(workers):
    cure = fixed(workers=workers)
    assert record(cure) == record(cure_of(unscaled))
    assert names(cure.remedies) == names(cure_of(unscaled).remedies)
    assert cure.workers == workers


# --- it goes on where it stopped


def stopped_at(number, *of):
    def tell(phase, *_):
        tell.seen += phase in (of or (RACE, PROOF))
        if tell.seen == number:
            raise KeyboardInterrupt

    tell.seen = 0
    return tell


@pytest.fixture
def counted(monkeypatch):
    """Names of the trials that are really run."""
    ran = []

    def counting(setting, task, within=math.inf):
        ran.append(task.name)
        return run_task.run_task(setting, task, within)

    monkeypatch.setattr(serial, "run_task", counting)
    return ran


@pytest.mark.parametrize("number", [1, 4, 16])
def test_what_was_interrupted_goes_on_with_the_same_result(number, tmp_path, counted):
    path = tmp_path / "trials.sqlite"
    first = fixed(trials=path, progress=stopped_at(number))
    assert (first.verdict, first.exit_code) == ("interrupted", 130)
    assert first.recipe is first.treatment.given
    assert len(counted) == len(first.trials) == number - 1
    assert path.exists() == (number > 1)
    if number > 1:
        assert first.aborted == f"interrupted; run again, it goes on where it stopped ({path})"
        assert str(path) in " ".join(str(first).split())
    second = fixed(trials=path)
    assert record(second) == record(cure_of(unscaled))
    assert second.proof.mean == cure_of(unscaled).proof.mean
    assert len(counted) == len(second.trials)  # of both: none was run twice
    third = fixed(trials=path)
    assert record(third) == record(second)
    assert len(counted) == len(second.trials)


def test_what_led_is_said():
    race = fixed(progress=stopped_at(9))
    assert race.report().headline.startswith("Interrupted: it stays as it is. Inputs standardised")
    assert " led so far, with " in race.report().headline
    proof = fixed(progress=stopped_at(len(cure_of(unscaled).trials) - 3))
    assert "Inputs standardised won the race, and was tried on 3 fresh seeds of 5." in proof.report().headline
    assert len(proof.report().proof.pairs) == 3


@pytest.mark.parametrize("phase", ["training", "experiment"])
def test_ctrl_c_during_the_check(phase, tmp_path):
    cure = gd.fix(unscaled(), progress=stopped_at(1, phase), trials=tmp_path / "trials")
    assert (cure.verdict, cure.exit_code, cure.trials) == ("interrupted", 130, ())
    assert cure.recipe is cure.treatment.given
    assert cure.report().headline == "Interrupted: it stays as it is."
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_workers_are_called(monkeypatch):
    def called(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["graddoctor.fix"], "executor", called)
    assert fixed().verdict == "interrupted"


def test_the_trials_of_another_recipe_are_refused_before_training(tmp_path):
    path = tmp_path / "trials.sqlite"
    fixed(trials=path, progress=stopped_at(3))
    told = []
    with pytest.raises(
        TrialsError, match=r"trials of another recipe: epochs: expected 20, got 21; delete it, or choose"
    ):
        gd.fix(unscaled(epochs=21), trials=path, progress=lambda *said: told.append(said))
    assert told == []
    with TrialStore(path, unscaled()) as store:
        assert len(store) == 2


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\x00" + 200 * b"rubbish"])
def test_a_damaged_file_of_trials_is_one_clear_error(tmp_path, content):
    (tmp_path / "trials").write_bytes(content)
    with pytest.raises(TrialsError, match="trials"):
        gd.fix(unscaled(), trials=tmp_path / "trials")
    assert (tmp_path / "trials").read_bytes() == content


def test_time_that_runs_out_is_said(tmp_path):
    def loss(model, batch):
        time.sleep(0.001)
        return treat_recipes.squared(model, batch)

    cure = gd.fix(unscaled(loss=loss), budget=3.0, trials=tmp_path / "trials")
    assert cure.verdict == "not cured"
    assert cure.recipe is cure.treatment.given
    again = "run again with a longer budget, it goes on where it stopped"
    assert cure.aborted == f"the time was used up; {again} ({tmp_path / 'trials'})"


# --- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 0}, "seeds: expected 1 or more, got 0"),
        ({"threads": 0}, "threads: expected 1 or more, got 0"),
        ({"workers": -1}, "workers: expected 0 or more, got -1"),
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"budget": 0}, "budget: expected seconds above 0, got 0"),
        ({"budget": math.nan}, "budget: expected seconds above 0, got nan"),
        ({"keep": ["loss", "optimiser"]}, "got 'optimiser'; did you mean optimizer?"),
        ({"keep": [None]}, "got None"),
    ],
)
def test_what_leaves_nothing_to_run_is_refused(options, said):
    with pytest.raises(SettingsError) as raised:
        gd.fix(slow(), **options)
    assert said in str(raised.value)


def test_too_few_seeds_are_warned_of_and_prove_nothing():
    with pytest.warns(UserWarning, match="3 seeds can prove nothing, whatever they show: 5 are the fewest"):
        cure = fixed(seeds=3)
    assert (cure.verdict, cure.exit_code) == ("not cured", 1)
    assert cure.report().headline == (
        "Nothing is proven, which takes 5 fresh seeds that differ: it stays as it is. "
        "Inputs standardised won the race, and was tried on 3 fresh seeds."
    )


def test_what_cannot_be_sent_is_trained_here_with_a_warning(counted):
    lock = threading.Lock()

    def loss(model, batch):
        with lock:
            return treat_recipes.squared(model, batch)

    with pytest.warns(UserWarning, match="cannot be sent to other processes .* trained in this process") as said:
        cure = gd.fix(unscaled(loss=loss), workers=2)
    assert said[0].filename == __file__
    assert len(said) == 1
    assert record(cure) == record(cure_of(unscaled))
    assert len(counted) == len(cure.trials)
    assert cure.workers == 0


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there_is_told_before_training(address):
    pytest.importorskip("ray")
    with pytest.raises(TrialsError, match=f"no Ray cluster can be reached at '{address}'"):
        gd.fix(unscaled(loss=None.__class__), ray=address)


def test_ray_that_is_not_installed_is_told_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "graddoctor\[ray\]"'):
        gd.fix(unscaled(loss=None.__class__), ray=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batches": list}, "an epoch must have at least one"),
        ({"batches": iter(pairs(inputs(), targets()))}, "used up after one pass"),
        ({"loss": lambda model, batch: model(batch[0])}, "take its mean or sum"),
        ({"model": lambda: mlp().requires_grad_(False)}, "requires a gradient"),
        ({"model": functools.cache(mlp)}, "the same object twice"),
        ({"optimizer": lambda _: torch.optim.SGD(mlp().parameters(), lr=0.1)}, "build it from the argument"),
        ({"evaluate": lambda _: "good"}, "evaluate must return a number"),
    ],
)
def test_a_recipe_that_cannot_be_trained(changes, said, tmp_path):
    with pytest.raises(RecipeError, match=said):
        gd.fix(unscaled(**changes), trials=tmp_path / "trials")
    assert list(tmp_path.iterdir()) == []


def test_what_the_users_code_raises_is_handed_on():
    with pytest.raises(ValueError, match="empty parameter list"):
        gd.fix(unscaled(optimizer=lambda _: torch.optim.SGD([], lr=0.1)))
    with pytest.raises(ZeroDivisionError):
        gd.fix(unscaled(evaluate=lambda _: 1 / 0))


def test_a_metric_that_never_is_a_number_leaves_the_loss_to_decide():
    cure = gd.fix(unscaled(evaluate=lambda _: math.nan))
    assert names(cure.remedies) == ["inputs standardised"]
    assert cure.proof.measure == "progress"


def test_a_metric_that_fails_now_and_then_costs_those_trials():
    def evaluate(model):
        value = accuracy(model)
        if value > 0.8 and int(1e4 * model[0].weight[0, 0].abs()) % 3 == 0:
            raise ValueError("such weights\nwill not do")
        return value

    cure = gd.fix(slow(evaluate=evaluate))
    failed = cure.treatment.failed
    assert failed
    assert all(why.startswith("ValueError: such weights") for _, why in failed)
    assert [(one.name, one.reason) for one in cure.report().failed] == list(failed)
    lost = {result.digest for _, result in cure.trials if result.failed}
    assert all(pair.difference <= 0 for pair in cure.proof.pairs if pair.after.digest in lost)
    assert cure.verdict == ("cured" if all(pair.difference > 0 for pair in cure.proof.pairs) else "not cured")


def test_a_builder_with_a_memory_does_no_harm():
    """Every network is another one: hidden state that nobody can put back."""
    built = []

    def build():
        built.append(1)
        width = 8 + len(built) % 3
        return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 1))

    cure = gd.fix(unscaled(model=build))
    assert cure.verdict in {"cured", "not cured"}
    str(cure)


def test_a_loss_that_is_not_finite_from_the_start():
    cure = gd.fix(unscaled(loss=lambda model, batch: treat_recipes.squared(model, batch) * math.nan), budget=60)
    assert (cure.verdict, cure.remedies) == ("not cured", ())
    assert cure.report().race is not None


def test_a_report_is_not_lost_because_the_source_cannot_be_written(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by what?")

    cure = fixed()
    monkeypatch.setattr(sys.modules["graddoctor.fix"], "write_source", broken)
    monkeypatch.setattr(sys.modules["graddoctor.fix"], "diff_of", broken)
    report = cure.report()
    assert report.verdict == "cured"
    assert report.source == "# It cannot be written down: ZeroDivisionError: by what?\n"
    with pytest.raises(ZeroDivisionError):
        cure.source()


def test_drawn_anew_every_time_is_no_proof():
    """Ten runs that all drew the same are one pair."""

    def build():
        net = mlp()
        for k, parameter in enumerate(net.parameters()):
            parameter.data = torch.sin(torch.arange(float(parameter.numel())) + k).reshape(parameter.shape)
        return net

    cure = gd.fix(unscaled(model=build))
    assert (cure.proof.distinct, len(cure.proof.pairs)) == (1, 5)
    assert cure.verdict == "not cured"
    assert cure.report().headline.startswith("Nothing is proven, which takes 5 fresh seeds that differ")
