"""`check` from end to end: what it leaves alone, what it says twice, how it is bounded, what it writes down."""

import copy
import math
import random
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import graddoctor as gd
from graddoctor.diagnose.logbook import Logbook
from graddoctor.errors import GraddoctorError, RecipeError, RecordingError, SettingsError
from graddoctor.recording import Recording, Stage
from graddoctor.terms import Cause, Condition, Severity
from graddoctor.testing import assert_trainable, patient

SHORT = 24  # steps of a run that is only to be looked at


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batches():
    inputs = drawn(64, 8)
    targets = (inputs @ drawn(8, 1, seed=1)).tanh()
    return [(inputs[k : k + 16], targets[k : k + 16]) for k in range(0, 64, 16)]


def squared(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def recipe(**changes):
    return gd.Recipe(
        **{"model": mlp, "loss": squared, "batches": batches, "optimizer": sgd, "epochs": 30, "name": "small"} | changes
    )


def sick(**changes):
    """Steps that are far too short: found by experiment."""
    return recipe(optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=1e-6), **changes)


# --- Nothing is disturbed


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 16), nn.Parameter(torch.zeros(6, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.blocks(self.tokens(tokens) + self.places, mask=mask, is_causal=True))


def dropout_mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))


def images():
    return [(drawn(16, 1, 8, 8, seed=k), drawn(16, 1, seed=9 + k)) for k in range(4)]


def sentences():
    return [torch.randint(0, 11, (8, 7), generator=torch.Generator().manual_seed(k)) for k in range(4)]


def next_token(model, batch):
    return nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


KINDS = {
    "MLP with dropout": (dropout_mlp, {}),
    "CNN with BatchNorm": (cnn, {"batches": images}),
    "GPT": (Gpt, {"batches": sentences, "loss": next_token}),
    "autocast bfloat16": (mlp, {"precision": torch.bfloat16}),
}


def everything_of(network, optimizer):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for m in network.modules()]
    return state, gradients, flags, copy.deepcopy(optimizer.state_dict())


def assert_same(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    for one, other in zip(before[1], after[1], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    assert before[2] == after[2]
    assert repr(before[3]) == repr(after[3])


@pytest.mark.parametrize("kind", KINDS)
def test_network_optimizer_random_state_and_files_stay_as_they_are(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build, changes = KINDS[kind]
    torch.manual_seed(5)
    network = build()
    optimizer = sgd(network)
    given = recipe(model=lambda: copy.deepcopy(network), **changes)
    given.loss(network, given.batches()[0]).backward()
    optimizer.step()
    before = everything_of(network, optimizer)
    python, numpy, generator = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    checkup = gd.check(given, steps=SHORT)
    assert checkup.outcome.steps == SHORT
    assert_same(before, everything_of(network, optimizer))
    assert random.getstate() == python
    assert repr(np.random.get_state()) == repr(numpy)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()
    assert list(tmp_path.iterdir()) == []


def test_to_use_it_for_the_first_time_draws_no_number():
    program = (
        "import random, graddoctor as gd; s = random.getstate(); gd.check; gd.watch; assert random.getstate() == s"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_loader_and_its_generator_stay_as_they_are():
    generator = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(batches()[0][0], batch_size=4, shuffle=True, generator=generator)
    state = generator.get_state()
    gd.check(recipe(batches=loader, loss=lambda model, batch: model(batch).square().mean()), steps=SHORT)
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_run_is_the_run_without_anybody_looking(kind):
    build, changes = KINDS[kind]
    given = recipe(model=build, **changes)
    alone, checked = gd.train(given, steps=SHORT), gd.check(given, steps=SHORT, experiments=False).outcome
    assert np.array_equal(alone.losses, checked.losses)
    pairs = zip(alone.model.state_dict().values(), checked.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_it_works_where_gradients_are_switched_off():
    with torch.no_grad():
        assert gd.check(recipe()).verdict == "healthy"


# --- The same twice


def test_two_checkups_of_one_recipe_say_the_same():
    torch.manual_seed(1)
    first = gd.check(sick())
    torch.manual_seed(2)
    second = gd.check(sick())
    assert first.verdict == second.verdict == "sick"
    assert repr(first.findings) == repr(second.findings)
    assert first.trials == second.trials
    assert first.budget == second.budget
    assert np.array_equal(first.outcome.losses, second.outcome.losses)


# --- Verdicts


def test_healthy():
    checkup = gd.check(recipe())
    assert (checkup.verdict, checkup.exit_code, checkup.findings, checkup.trials) == ("healthy", 0, (), ())
    assert str(checkup).startswith("HEALTHY")


def test_sick_is_confirmed_by_an_experiment():
    checkup = gd.check(sick())
    assert (checkup.verdict, checkup.exit_code) == ("sick", 1)
    first = checkup.findings[0]
    assert first.condition is Condition.LEARNING_RATE_TOO_LOW
    assert first.causes[0].kind is Cause.LEARNING_RATE
    assert first.causes[0].share > 0.5
    assert first.confirmed
    helped = [trial for trial in checkup.trials if trial.helped]
    assert helped
    assert all(trial.gain > 0.5 for trial in helped)
    assert not set(checkup.ruled_out) & {trial.sentence for trial in helped}


def test_what_cannot_be_learned_is_inconclusive_with_what_was_ruled_out():
    noise = [(drawn(64, 8, seed=k), drawn(64, 1, seed=50 + k)) for k in range(40)]
    checkup = gd.check(recipe(batches=noise, epochs=1))
    assert (checkup.verdict, checkup.exit_code) == ("inconclusive", 1)
    assert not any(finding.confirmed for finding in checkup.findings)
    assert len(checkup.ruled_out) == len(checkup.trials) > 1
    assert not any(trial.helped for trial in checkup.trials)


def test_without_experiments_symptoms_are_told_unconfirmed():
    checkup = gd.check(sick(), experiments=False)
    assert checkup.trials == ()
    assert checkup.verdict == "sick"
    assert not checkup.findings[0].confirmed
    assert {f.severity for f in checkup.findings} == {Severity.WARNING}
    assert Condition.PLATEAU in {f.condition for f in checkup.findings}
    assert gd.check(recipe(), experiments=False).verdict == "healthy"


@pytest.mark.parametrize("ignored", [[Condition.LEARNING_RATE_TOO_LOW], ["learning_rate_too_low"], "plateau"])
def test_what_is_ignored_is_not_told(ignored):
    checkup = gd.check(sick(), ignore=ignored)
    names = {ignored} if isinstance(ignored, str) else {getattr(one, "value", one) for one in ignored}
    told = {c.value for f in checkup.findings for c in (f.condition, *f.consequences)}
    assert not names & told
    assert not names & {note.condition.value for note in checkup.examination.notes}


def test_what_was_found_and_ignored_is_not_called_unknown():
    checkup = gd.check(sick(), ignore=["learning_rate_too_low"])
    assert checkup.verdict == "inconclusive"
    assert checkup.report().headline.endswith("what was found is ignored: learning rate too low.")


def test_an_unknown_condition_is_refused():
    with pytest.raises(SettingsError, match="ignore: no condition 'plato'; did you mean plateau"):
        gd.check(recipe(), ignore=["plato"])


@pytest.mark.parametrize("spoil", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_from_the_first_step_is_a_finding(spoil):
    def times(model, batch):
        return squared(model, batch) * spoil

    def plus(model, batch):
        return squared(model, batch) + spoil

    for loss in (times, plus):
        checkup = gd.check(recipe(loss=loss))
        assert checkup.findings[0].condition is Condition.NON_FINITE
        assert checkup.findings[0].numbers["first_nonfinite_step"] == 0
        assert checkup.exit_code == 1


# --- Bounds


def test_a_long_recipe_is_bounded_by_steps_and_told_so():
    checkup = gd.check(recipe(epochs=100_000), steps=50)
    assert (checkup.outcome.steps, checkup.outcome.total_steps) == (50, 400_000)
    coverage = checkup.report().coverage
    assert (coverage.steps_seen, coverage.steps_total) == (50, 400_000)


def test_a_schedule_is_seen_whole_in_a_short_run():
    rates = []

    def scheduler(optimizer, steps):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def note(_):
        rates.append(True)

    checkup = gd.check(recipe(scheduler=scheduler, epochs=1000, clip=note), steps=40, experiments=False)
    seen = checkup.recording.scalars("lr").values
    assert len(seen) == len(rates) == 40
    assert seen[0] == pytest.approx(0.2)
    assert seen[-1] < 0.002


def test_seconds_abort_and_the_report_says_so():
    def slow(model, batch):
        time.sleep(0.002)
        return squared(model, batch)

    began = time.monotonic()
    checkup = gd.check(sick(loss=slow, epochs=1_000_000), budget=1.0)
    assert time.monotonic() - began < 20  # a machine may be busy
    coverage = checkup.report().coverage
    assert coverage.aborted
    assert "time" in coverage.reason
    assert 0 < coverage.steps_seen < coverage.steps_total == 4_000_000
    assert checkup.verdict in {"inconclusive", "sick"}


@pytest.mark.parametrize("bound", [{"budget": 0}, {"budget": -1.0}, {"budget": math.nan}, {"steps": 0}, {"steps": -3}])
def test_a_bound_that_leaves_nothing_is_refused(bound):
    with pytest.raises(SettingsError, match="expected a budget above 0 seconds and 1 step or more"):
        gd.check(recipe(), **bound)


def test_progress_is_told_with_phase_done_total_and_detail():
    told = []

    def progress(phase, done, total, detail):
        told.append((phase, done, total, detail))

    checkup = gd.check(sick(), progress=progress)
    training = [(done, total) for phase, done, total, _ in told if phase == "training"]
    assert training == sorted(training)
    assert training[-1] == (120, 120)
    experiments = [(done, detail) for phase, done, _, detail in told if phase == "experiment"]
    assert [done for done, _ in experiments] == list(range(1, len(experiments) + 1))
    assert {trial.name for trial in checkup.trials} <= {detail for _, detail in experiments}


# --- Odd recipes


def test_a_network_given_as_it_is_is_copied_for_every_run():
    network = mlp()
    before = everything_of(network, sgd(network))
    checkup = gd.check(recipe(model=network))
    assert checkup.verdict == "healthy"
    assert checkup.outcome.model is not network
    assert_same(before, everything_of(network, sgd(network)))


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(8, 1)
        self.lines = (line for line in ())


def others(_):
    return sgd(mlp())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": Locked()}, "model is a Locked that cannot be copied (TypeError: cannot pickle 'generator' object)"),
        ({"model": "mlp"}, "model: expected a function, as in  model=lambda: Net(), got str 'mlp'"),
        ({"model": lambda: None}, "model must build a torch.nn.Module; it returned NoneType"),
        ({"model": lambda: nn.LazyLinear(1)}, "LazyLinear has lazy layers"),
        ({"optimizer": sgd(mlp())}, "optimizer: expected a function"),
        ({"optimizer": lambda _: None}, "optimizer must return a torch.optim.Optimizer"),
        ({"optimizer": lambda m: torch.optim.LBFGS(m.parameters())}, "LBFGS calls the loss itself"),
        ({"optimizer": others}, "the optimizer holds no parameter of the network"),
        ({"loss": None}, "loss: expected a function"),
        ({"loss": lambda m, b: squared(m, b).item()}, "the loss must be a tensor, got float"),
        ({"loss": lambda m, b: m(b[0]) - b[1]}, "one number, got shape (16, 1)"),
        ({"loss": lambda m, b: m(b[0]).argmax().float()}, "the loss depends on no trainable parameter"),
        ({"batches": 7}, "batches must give an iterable of batches; it gave int"),
        ({"batches": list}, "batches gave no batch at all"),
        ({"batches": iter(batches())}, "is used up after one pass"),
        ({"batches": partial(lambda one: one, iter(batches()))}, "gave the same list_iterator object twice"),
        ({"epochs": 0}, "epochs: expected a whole number from 1 on, got 0"),
        ({"accumulate": 0.5}, "accumulate: expected a whole number from 1 on, got 0.5"),
        ({"scheduler_every": "week"}, "scheduler_every: expected 'batch' or 'epoch', got 'week'"),
        ({"evaluate": lambda _: "well"}, "evaluate must return a number"),
        ({"device": "meta:3"}, "device meta:3 was asked for"),
    ],
)
def test_what_cannot_be_trained_is_one_line(changes, told):
    with pytest.raises(RecipeError) as caught:
        gd.check(recipe(**changes), steps=SHORT)
    message = str(caught.value)
    assert told in message
    assert "\n" not in message


def test_a_loss_that_loses_its_parameters_later_is_one_line_too():
    calls = []

    def loss(model, batch):
        calls.append(1)
        whole = squared(model, batch)
        return whole if len(calls) < 80 else whole.detach()

    with pytest.raises(RecipeError, match="the loss depends on no trainable parameter"):
        gd.check(recipe(loss=loss))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda m: torch.optim.Adafactor(m.parameters(), lr=0.05),  # keeps a pair under the name of a number
        lambda m: torch.optim.Adam(m.parameters(), lr=torch.tensor(0.01)),
        lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01, centered=True),
        lambda m: torch.optim.Rprop(m.parameters()),
    ],
)
def test_optimizers_of_all_kinds(optimizer):
    assert gd.check(recipe(optimizer=optimizer), steps=SHORT, experiments=False).outcome.steps == SHORT


def test_sparse_gradients():
    tokens = torch.arange(64).reshape(4, 16) % 8
    given = recipe(
        model=lambda: nn.EmbeddingBag(8, 1, sparse=True),
        batches=[(row[:, None], (row.float() > 3)[:, None].float()) for row in tokens],
        optimizer=lambda m: torch.optim.SparseAdam(m.parameters(), lr=0.05),
    )
    checkup = gd.check(given)
    assert checkup.verdict == "healthy"
    assert checkup.recording.series("weight", Stage.UPDATE, "norm").values[0] > 0


# --- The recording


def test_every_step_is_recorded():
    def clip(parameters):
        nn.utils.clip_grad_norm_(parameters, 0.01)

    checkup = gd.check(recipe(clip=clip, epochs=10), experiments=False)
    book = checkup.recording
    assert set(book.scalar_names) == {"loss", "lr", "gradient_norm", "clipped_norm"}
    for name in book.scalar_names:
        assert book.scalars(name).steps.tolist() == list(range(40))
    assert book.scalars("loss").values == pytest.approx(checkup.outcome.losses)
    assert (book.scalars("lr").values == 0.2).all()
    assert book.scalars("gradient_norm").values == pytest.approx(checkup.examination.observation.raw_norms)
    assert book.scalars("clipped_norm").values.max() == pytest.approx(0.01, rel=1e-3)
    assert book.metadata["recipe"] == {"name": "small", "seed": 0, "steps": 40}
    assert book.metadata["modules"]["1"] == "Tanh"
    assert "torch" in book.metadata["environment"]


def test_probed_steps_are_recorded_with_stage_and_module():
    checkup = gd.check(recipe(epochs=10), experiments=False)
    book, looks = checkup.recording, checkup.examination.observation.probes
    assert book.steps.tolist() == [0, 1, 2, 4, 5, 8, 16, 32, 40] == [look.step for look in looks]
    tracks = {(track.name, track.stage): track for track in book.tracks}
    stages = {Stage.RAW, Stage.WEIGHT, Stage.UPDATE}
    assert {stage for name, stage in tracks if name == "0.weight"} == stages
    assert tracks["0.weight", Stage.RAW].module == "0"
    assert tracks["0.weight", Stage.RAW].shape == (16, 8)
    assert tracks["1", Stage.ACTIVATION].kind == "tanh"
    assert ("1", Stage.ACTIVATION_GRADIENT) in tracks
    reading = next(p for p in looks[0].parameters if p.name == "2.weight")
    for stage, value in ((Stage.RAW, reading.gradient), (Stage.WEIGHT, reading.norm), (Stage.UPDATE, reading.update)):
        assert book.series("2.weight", stage, "norm").values[0] == pytest.approx(value)
    assert book.series("2.weight", Stage.UPDATE, "norm").steps.tolist() == [0, 1, 2, 4, 5, 8, 16, 32]
    use = looks[0].activations[0]
    assert book.series("1", Stage.ACTIVATION, "saturated").values[0] == pytest.approx(use.saturated)
    size = math.sqrt(math.prod(use.shape))
    assert book.series("1", Stage.ACTIVATION, "norm").values[0] == pytest.approx(use.output_rms * size)
    assert book.series("1", Stage.ACTIVATION_GRADIENT, "norm").values[0] == pytest.approx(use.gradient)


def test_the_recorded_numbers_are_those_of_the_network():
    book = gd.check(recipe(model=seeded), experiments=False).recording
    model = seeded()
    squared(model, batches()[0]).backward()
    total = math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters()))
    assert book.scalars("gradient_norm").values[0] == pytest.approx(total, rel=1e-5)
    weight = model[0].weight
    assert book.series("0.weight", Stage.RAW, "norm").values[0] == pytest.approx(float(weight.grad.norm()), rel=1e-5)
    assert book.series("0.weight", Stage.WEIGHT, "norm").values[0] == pytest.approx(
        float(weight.detach().norm()), rel=1e-5
    )
    first = 0.2 * float(weight.grad.norm())
    assert book.series("0.weight", Stage.UPDATE, "norm").values[0] == pytest.approx(first, rel=1e-4)


def seeded():
    torch.manual_seed(0)
    return mlp()


def test_a_recording_on_disk_is_the_one_in_memory(tmp_path):
    path = tmp_path / "run.sqlite"
    checkup = gd.check(recipe(), recording=path, experiments=False)
    memory = gd.check(recipe(), experiments=False).recording
    assert [file.name for file in tmp_path.iterdir()] == ["run.sqlite"]
    with Recording.open(path) as book:
        for name in memory.scalar_names:
            assert np.array_equal(book.scalars(name).values, memory.scalars(name).values)
        assert book.tracks == memory.tracks
        for stage in (Stage.RAW, Stage.ACTIVATION):
            assert np.array_equal(book.table(stage, "norm").matrix, memory.table(stage, "norm").matrix)
    assert checkup.recording.steps.tolist() == memory.steps.tolist()


def test_an_open_recording_is_written_into_and_stays_open():
    with Recording() as book:
        assert gd.check(recipe(), recording=book, experiments=False).recording is book
        book.log(10_000, loss=1.0)
        assert len(book.scalars("loss").steps) == 121


def test_a_recording_that_is_there_already_is_refused_before_training(tmp_path):
    path = tmp_path / "run.sqlite"
    path.write_bytes(b"something of mine")
    calls = []
    with pytest.raises(RecordingError, match=r"run\.sqlite"):
        gd.check(recipe(loss=lambda m, b: (calls.append(1), squared(m, b))[1]), recording=path)
    assert (calls, path.read_bytes()) == ([], b"something of mine")
    with pytest.raises(GraddoctorError, match="no"):
        gd.check(recipe(), recording=tmp_path / "no" / "run.sqlite")


def test_a_crash_of_the_users_code_leaves_what_was_recorded(tmp_path):
    path, calls = tmp_path / "run.sqlite", []

    def clip(_):
        calls.append(1)
        if len(calls) == 38:
            raise ZeroDivisionError("the user's own")

    with pytest.raises(ZeroDivisionError, match="the user's own"):
        gd.check(recipe(clip=clip), recording=path)
    with Recording.open(path) as book:
        assert book.scalars("loss").steps.tolist() == list(range(37))
        assert book.steps.tolist()[-1] == 32
        assert [(event.step, event.kind, event.message) for event in book.events] == [
            (38, "crash", "ZeroDivisionError: the user's own")
        ]


def test_a_run_that_ends_early_has_an_event():
    checkup = gd.check(recipe(loss=lambda m, b: squared(m, b) * math.nan))
    (event,) = checkup.recording.events
    assert (event.kind, event.message) == ("end", "the training ended here: non-finite")
    assert np.isnan(checkup.recording.scalars("loss").values).all()


def test_a_logbook_takes_the_numbers_that_there_are():
    book = Recording()
    Logbook(book).steps(3, loss=[1.0, 2.0], lr=[0.1])
    assert book.scalars("loss").steps.tolist() == [3, 4]
    assert book.scalars("lr").steps.tolist() == [3]


# --- Ctrl-C


def interrupting(at):
    """A loss that is interrupted at its n-th call."""
    calls = []

    def loss(model, batch):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return squared(model, batch)

    return loss


def test_ctrl_c_while_training_reports_what_was_seen():
    checkup = gd.check(recipe(loss=interrupting(100)))
    assert checkup.exit_code == 130
    assert 0 < checkup.outcome.steps < 120
    assert checkup.trials == ()
    coverage = checkup.report().coverage
    assert (coverage.aborted, coverage.reason) == (True, "interrupted")
    assert len(checkup.recording.scalars("loss").steps) == checkup.outcome.steps
    assert "interrupted" in checkup.recording.events[-1].message


def test_ctrl_c_in_an_experiment_keeps_the_plain_run_and_ends_at_once():
    phases = []
    plain = gd.check(sick(), experiments=False)

    def progress(phase, done, *_):
        phases.append(phase)
        if (phase, done) == ("experiment", 2):
            raise KeyboardInterrupt

    checkup = gd.check(sick(), progress=progress)
    assert checkup.exit_code == 130
    assert phases.count("experiment") == 2
    assert np.array_equal(checkup.outcome.losses, plain.outcome.losses)
    assert checkup.verdict == "inconclusive"


def test_ctrl_c_inside_an_experiments_training_ends_everything():
    experiments, calls = [], []

    def progress(phase, *_):
        experiments.extend([phase] * (phase == "experiment"))

    def loss(model, batch):
        calls.extend([1] * len(experiments[:1]))
        if len(calls) == 40:
            raise KeyboardInterrupt
        return squared(model, batch)

    checkup = gd.check(sick(loss=loss), progress=progress)
    assert checkup.exit_code == 130
    assert len(experiments) == 1
    assert len(calls) == 40, "nothing is trained after it"
    assert checkup.outcome.steps == 120


@pytest.mark.parametrize("more", range(1, 90, 4))
def test_ctrl_c_at_any_time_after_the_plain_run_keeps_it(more):
    evaluated, calls = [], []

    def evaluate(_):
        evaluated.append(1)
        return 0.0

    def loss(model, batch):
        calls.extend([1] * len(evaluated[:1]))
        if len(calls) == more:
            raise KeyboardInterrupt
        return squared(model, batch)

    checkup = gd.check(sick(loss=loss, evaluate=evaluate), recording=(book := Recording()))
    assert checkup.outcome.steps == len(book.scalars("loss").steps) == 120
    assert checkup.exit_code == 130
    assert checkup.report().coverage.reason == "interrupted"


@pytest.mark.parametrize("call", [1, 2])
def test_ctrl_c_before_anything_was_seen_is_ctrl_c(call):
    with pytest.raises(KeyboardInterrupt):
        gd.check(recipe(loss=interrupting(call)))


# --- assert_trainable


def test_a_trainable_recipe_passes():
    assert assert_trainable(patient("sound_unused_head").recipe) is None


def test_one_that_is_sick_fails_with_the_reason():
    with pytest.raises(AssertionError) as caught:
        assert_trainable(sick())
    lines = str(caught.value).splitlines()
    assert lines[0] == "small is sick: 120 steps removed 0% of what a constant answer leaves open."
    assert lines[1].startswith("- learning_rate_too_low")
    assert "cause: learning_rate." in lines[2]
    assert len(lines) < 10


def test_one_that_learns_nothing_for_unknown_reasons_fails_with_what_was_tried():
    noise = [(drawn(64, 8, seed=k), drawn(64, 1, seed=50 + k)) for k in range(40)]
    with pytest.raises(AssertionError, match="is inconclusive: 40 steps removed") as caught:
        assert_trainable(recipe(batches=noise, epochs=1, name=""))
    assert str(caught.value).startswith("the recipe is")
    assert "re-initialised" in str(caught.value)


def test_too_few_steps_are_too_few():
    assert_trainable(recipe())
    with pytest.raises(AssertionError):
        assert_trainable(recipe(), steps=2)
