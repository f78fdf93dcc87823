"""Watching: what is read is right, and nothing it does changes a bit of the training."""

from __future__ import annotations

import copy
import functools
import io
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from graddoctor.errors import RecipeError, RecordingError
from graddoctor.observe import collector as collector_module
from graddoctor.observe.stream import Stream
from graddoctor.recording import Recording, Stage
from graddoctor.watch import watch


def mlp(depth=3, width=16, activation=nn.Tanh, dropout=0.1):
    layers = [nn.Linear(8, width)]
    for _ in range(depth):
        layers += [activation(), nn.Dropout(dropout), nn.Linear(width, width)]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 16, 3),
    )


def gpt():
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  # slow to import

    size = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 64, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))


def batches(kind, steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        if kind == "gpt":
            yield torch.randint(0, 64, (4, 16), generator=generator), None
        else:
            shape = (16, 1, 8, 8) if kind == "cnn" else (16, 8)
            yield torch.randn(shape, generator=generator), torch.randint(0, 3, (16,), generator=generator)


def loss_of(model, batch):
    x, y = batch
    return model(input_ids=x, labels=x).loss if y is None else functional.cross_entropy(model(x), y)


def plain_step(model, optimizer, batch, _step):
    optimizer.zero_grad()
    loss_of(model, batch).backward()
    optimizer.step()


def clipped_step(model, optimizer, batch, _step):
    optimizer.zero_grad()
    loss_of(model, batch).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()


def amp_step(model, optimizer, batch, _step):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()


def accumulating_step(model, optimizer, batch, step):
    (loss_of(model, batch) / 4).backward()
    if step % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()


def closure_step(model, optimizer, batch, _step):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    optimizer.step(closure)


def no_set_to_none_step(model, optimizer, batch, _step):
    optimizer.zero_grad(set_to_none=False)
    loss_of(model, batch).backward()
    optimizer.step()


adam = functools.partial(torch.optim.AdamW, lr=1e-2)
sgd = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
lbfgs = functools.partial(torch.optim.LBFGS, lr=0.1, max_iter=4)


def train(build, kind, make_optimizer, step, *, steps=50, watching=None):
    torch.manual_seed(0)
    model = build()
    optimizer = make_optimizer(model.parameters())
    if watching is None:
        for index, batch in enumerate(batches(kind, steps)):
            step(model, optimizer, batch, index)
        return model, torch.get_rng_state(), None
    with watching(model, optimizer) as observed:
        for index, batch in enumerate(batches(kind, steps)):
            step(model, optimizer, batch, index)
    return model, torch.get_rng_state(), observed


def assert_same(one, other):
    ours, theirs = one[0].state_dict(), other[0].state_dict()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert torch.equal(one[1], other[1])  # random state


@pytest.mark.parametrize(
    ("build", "kind", "optimizer", "step"),
    [
        (mlp, "mlp", adam, plain_step),
        (mlp, "mlp", sgd, clipped_step),
        (mlp, "mlp", lbfgs, closure_step),
        (mlp, "mlp", sgd, closure_step),
        (mlp, "mlp", sgd, accumulating_step),
        (mlp, "mlp", adam, no_set_to_none_step),
        (cnn, "cnn", sgd, plain_step),
        (cnn, "cnn", adam, amp_step),
        (gpt, "gpt", adam, plain_step),
        (gpt, "gpt", adam, amp_step),
    ],
)
def test_weights_are_bit_identical_with_and_without(build, kind, optimizer, step):
    without = train(build, kind, optimizer, step)
    observed = train(build, kind, optimizer, step, watching=watch)
    assert observed[2].fault is None
    assert_same(without, observed)
    recorded = observed[2].recording
    assert len(recorded.steps) == (12 if step is accumulating_step else 50)
    norms = recorded.table(Stage.CLIPPED, "norm").matrix
    assert np.isfinite(norms).all()
    assert (recorded.table(Stage.ACTIVATION, "count").matrix > 0).all()


def hooks_of(model, optimizer):
    counts = [len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)]
    for module in model.modules():
        counts += [len(module._forward_hooks), len(module._forward_pre_hooks)]
    counts += [len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()]
    return sum(counts)


def test_everything_is_undone_at_exit_also_after_an_exception():
    model = mlp()
    optimizer = sgd(model.parameters())
    with pytest.raises(ZeroDivisionError), watch(model, optimizer) as observed:  # noqa: PT012  # the loop that fails
        plain_step(model, optimizer, next(batches("mlp", 1)), 0)
        assert hooks_of(model, optimizer) > 0
        raise ZeroDivisionError
    assert hooks_of(model, optimizer) == 0
    assert observed.recording.steps.tolist() == [0]
    observed.close()


def test_two_watches_see_the_same():
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as outer:
        for index, batch in enumerate(batches("mlp", 6)):
            if index == 3:
                inner = watch(model, optimizer)
            plain_step(model, optimizer, batch, index)
        inner.close()
    ours, theirs = (one.recording.table(Stage.RAW, "norm").matrix for one in (outer, inner))
    np.testing.assert_array_equal(ours[3:], theirs)
    assert hooks_of(model, optimizer) == 0


def test_norms_are_those_of_the_gradients():
    model, expected, clipped = mlp(dropout=0.0), [], []
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        for batch in batches("mlp", 20):
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            observed.log(loss=loss)
            loss.backward()
            expected.append([p.grad.double().norm().item() for p in model.parameters()])
            nn.utils.clip_grad_norm_(model.parameters(), 0.2)
            clipped.append([p.grad.double().norm().item() for p in model.parameters()])
            optimizer.step()
    recorded = observed.recording
    np.testing.assert_allclose(recorded.table(Stage.RAW, "norm").matrix, expected, rtol=1e-5)
    np.testing.assert_allclose(recorded.table(Stage.CLIPPED, "norm").matrix, clipped, rtol=1e-5)
    np.testing.assert_allclose(recorded.scalars("gradient_norm").values, np.linalg.norm(expected, axis=1), rtol=1e-5)
    np.testing.assert_allclose(recorded.scalars("clipped_norm").values, np.linalg.norm(clipped, axis=1), rtol=1e-5)
    assert len(recorded.scalars("loss").values) == 20
    assert recorded.table(Stage.RAW, "norm").names == tuple(name for name, _ in model.named_parameters())


def test_weights_updates_and_samples_are_right_where_all_elements_fit():
    model = mlp(depth=1, width=4, activation=nn.ReLU, dropout=0.0)
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        for batch in batches("mlp", 3):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            before = [p.detach().double().clone() for p in model.parameters()]
            gradients = [p.grad.double() for p in model.parameters()]
            optimizer.step()
            after = [p.detach().double() for p in model.parameters()]
    recorded = observed.recording
    moved = [(b - a).norm().item() for a, b in zip(before, after, strict=True)]
    np.testing.assert_allclose(recorded.table(Stage.UPDATE, "norm").matrix[-1], moved, rtol=1e-4)
    weight = {name: recorded.table(Stage.WEIGHT, name).matrix[-1] for name in ("norm", "sum", "absmax", "count")}
    np.testing.assert_allclose(weight["norm"], [b.norm().item() for b in before], rtol=1e-6)
    np.testing.assert_allclose(weight["sum"], [b.sum().item() for b in before], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(weight["absmax"], [b.abs().max().item() for b in before], rtol=1e-6)
    np.testing.assert_array_equal(weight["count"], [b.numel() for b in before])
    zeros = recorded.table(Stage.RAW, "zeros").matrix[-1]
    np.testing.assert_array_equal(zeros, [(g == 0).sum().item() for g in gradients])


def test_activations_and_their_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        model[0].bias[:3] = -100.0  # half of the units are dead
    optimizer = sgd(model.parameters())
    kept, gradients = [], []

    def keep(_module, args, output):
        kept.append((args[0].detach().clone(), output.detach().clone()))
        output.register_hook(lambda gradient: gradients.append(gradient.norm().item()))

    model[1].register_forward_hook(keep)
    with watch(model, optimizer) as observed:
        for batch in batches("mlp", 20):
            plain_step(model, optimizer, batch, 0)
    reading = observed.readings().activations[0]
    assert (reading.name, reading.kind, reading.shape) == ("1", "relu", (16, 6))
    assert reading.dead == 0.5
    assert reading.samples == 320
    newest = kept[-16:]
    assert reading.zeros == pytest.approx(np.mean([(y == 0).float().mean().item() for _, y in newest]), abs=1e-6)
    assert reading.slope == pytest.approx(np.mean([(y > 0).float().mean().item() for _, y in newest]), abs=1e-6)
    rms = np.mean([x.square().mean().sqrt().item() for x, _ in newest])
    assert reading.input_rms == pytest.approx(rms, rel=1e-5)
    spread = np.mean([((y - y.mean(0)).norm() / math.sqrt(y.numel())).item() for _, y in newest])
    assert reading.spread == pytest.approx(spread, rel=1e-5)
    estimates = observed.recording.series("1", Stage.ACTIVATION_GRADIENT, "norm").values
    np.testing.assert_allclose(estimates, gradients, rtol=1e-5)  # the whole tensor fits into a slab
    exact = observed.recording.series("1", Stage.ACTIVATION_GRADIENT, "exact")
    np.testing.assert_allclose(exact.values, np.array(gradients)[exact.steps], rtol=1e-5)
    assert exact.steps.tolist() == [0, 1, 2, 4, 8, 15, 16]


def test_a_sampled_estimate_is_near_the_truth():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 400), nn.Tanh(), nn.Linear(400, 400), nn.Tanh(), nn.Linear(400, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with watch(model, optimizer) as observed:
        for batch in batches("mlp", 30):
            plain_step(model, optimizer, batch, 0)
    estimates = observed.recording.series("2.weight", Stage.WEIGHT, "norm").values
    assert estimates.mean() == pytest.approx(model[2].weight.norm().item(), rel=0.05)
    reading = next(one for one in observed.readings().parameters if one.name == "2.weight")
    assert reading.std == pytest.approx(model[2].weight.std().item(), rel=0.1)


def test_saturation_is_seen():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Sigmoid(), nn.Linear(16, 3))
    with torch.no_grad():
        model[0].bias.fill_(50.0)
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        for batch in batches("mlp", 3):
            plain_step(model, optimizer, batch, 0)
    reading = observed.readings().activations[0]
    assert reading.saturated == 1.0
    assert reading.slope < 1e-6


def test_every_nth_step():
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer, every=3) as observed:
        for batch in batches("mlp", 10):
            plain_step(model, optimizer, batch, 0)
    assert observed.recording.steps.tolist() == [0, 3, 6, 9]
    assert np.isfinite(observed.recording.table(Stage.RAW, "norm").matrix).all()


def test_accumulation_reads_the_sum_once_a_step():
    model = mlp(dropout=0.0)
    optimizer = sgd(model.parameters())
    expected = []
    with watch(model, optimizer) as observed:
        for step, batch in enumerate(batches("mlp", 8)):
            (loss_of(model, batch) / 4).backward()
            if step % 4 == 3:
                expected.append([p.grad.norm().item() for p in model.parameters()])
                optimizer.step()
                optimizer.zero_grad()
    np.testing.assert_allclose(observed.recording.table(Stage.RAW, "norm").matrix, expected, rtol=1e-5)
    assert observed.recording.events == ()


def test_a_step_that_never_came_is_told_and_counted():
    model = mlp(dropout=0.0)
    optimizer = sgd(model.parameters())
    expected = []
    with watch(model, optimizer) as observed:
        for step, batch in enumerate(batches("mlp", 4)):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            expected.append([p.grad.norm().item() for p in model.parameters()])
            if step != 1:
                optimizer.step()
    recorded = observed.recording
    np.testing.assert_allclose(recorded.table(Stage.RAW, "norm").matrix, expected, rtol=1e-5)
    assert np.isnan(recorded.table(Stage.CLIPPED, "norm").matrix[1]).all()
    assert [(event.step, event.kind) for event in recorded.events] == [(1, "skipped step")]
    outputs = recorded.table(Stage.ACTIVATION, "norm").matrix
    assert np.isfinite(outputs[[0, 2, 3]]).all()  # the forward pass after a lost step has replaced its activations
    assert np.isnan(outputs[1]).all()


def test_a_gradient_that_does_not_come_is_none_and_zero_is_zero():
    model = nn.ModuleDict({"used": nn.Linear(8, 3), "unused": nn.Linear(8, 3)})
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        for x, _ in batches("mlp", 3):
            optimizer.zero_grad()
            (model["used"](x).sum() * 0.0).backward()
            optimizer.step()
    gradients = {reading.name: reading.gradient for reading in observed.readings().parameters}
    assert gradients == {"used.weight": 0.0, "used.bias": 0.0, "unused.weight": None, "unused.bias": None}
    assert observed.readings().layers[0].name == "used"  # although the root was never called


def test_not_finite_gradients_are_infinite_and_counted():
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        optimizer.zero_grad()
        (model(torch.ones(4, 8)).sum() * math.nan).backward()
        optimizer.step()
    assert all(math.isinf(reading.gradient) for reading in observed.readings().parameters)
    assert all(reading.gradient_nonfinite > 0 for reading in observed.readings().parameters)


def test_tiny_gradients_do_not_underflow():
    model = mlp(dropout=0.0)
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        optimizer.zero_grad()
        (model(torch.ones(4, 8)).sum() * 1e-25).backward()
        expected = [p.grad.double().norm().item() for p in model.parameters()]
        optimizer.step()
    np.testing.assert_allclose(observed.recording.table(Stage.RAW, "norm").matrix[0], expected, rtol=1e-5)
    assert 0 < observed.readings().activations[0].gradient < 1e-23


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant):
        super().__init__()
        self.first, self.block, self.last = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, x):
        return self.last(checkpoint(self.block, self.first(x), use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_modules_are_counted_once(reentrant):
    build = functools.partial(Checkpointed, reentrant=reentrant)
    without = train(build, "mlp", sgd, plain_step, steps=10)
    observed = train(build, "mlp", sgd, plain_step, steps=10, watching=watch)
    assert_same(without, observed)
    names = observed[2].recording.table(Stage.ACTIVATION, "norm").names
    assert names == ("first", "block.0", "block.1", "last")
    assert np.isfinite(observed[2].recording.table(Stage.ACTIVATION_GRADIENT, "norm").matrix).all()


def test_a_module_used_twice_has_two_taps():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.act, self.head = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.act(self.layer(self.act(self.layer(x)))))

    observed = train(Twice, "mlp", sgd, plain_step, steps=4, watching=watch)[2]
    names = observed.recording.table(Stage.ACTIVATION, "norm").names
    assert names == ("layer", "act", "layer#2", "act#2", "head")


def test_evaluation_is_not_read():
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        for batch in batches("mlp", 4):
            plain_step(model, optimizer, batch, 0)
            model.eval()
            with torch.no_grad():
                model(batch[0] * 1e6)
            model(batch[0] * 1e6)
            model.train()
    assert observed.recording.table(Stage.ACTIVATION, "norm").matrix.max() < 1e4
    assert len(observed.recording.steps) == 4


def test_copies_do_not_report():
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        plain_step(model, optimizer, next(batches("mlp", 1)), 0)
        twin, shallow = copy.deepcopy(model), copy.copy(model)
        for batch in batches("mlp", 3):
            loss_of(twin, (batch[0] * 1e6, batch[1])).backward()
            shallow.training = True
    assert len(observed.recording.steps) == 1
    assert observed.recording.table(Stage.ACTIVATION, "norm").matrix.max() < 1e4


def test_a_watched_model_can_be_saved():
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer):
        plain_step(model, optimizer, next(batches("mlp", 1)), 0)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        pickle.dumps(optimizer)
        copy.deepcopy(optimizer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    loss_of(loaded, next(batches("mlp", 1))).backward()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


def test_autograd_grad_still_works_and_is_no_step():
    model = mlp(dropout=0.0)
    optimizer = sgd(model.parameters())
    expected = []
    with watch(model, optimizer) as observed:
        for batch in batches("mlp", 3):
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            penalty = sum(
                g.square().sum() for g in torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
            )
            (loss + penalty).backward()
            expected.append([p.grad.norm().item() for p in model.parameters()])
            torch.autograd.grad(loss_of(model, batch), list(model.parameters()))
            optimizer.step()
    np.testing.assert_allclose(observed.recording.table(Stage.RAW, "norm").matrix, expected, rtol=1e-5)


def test_functional_transforms_pass_through():
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        parameters = dict(model.named_parameters())

        def loss(parameters, x):
            return torch.func.functional_call(model, parameters, (x,)).sum()

        torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, torch.ones(5, 8))
        plain_step(nn.Sequential(model), optimizer, (torch.ones(4, 8), torch.zeros(4, dtype=torch.long)), 0)
    assert observed.fault is None
    assert len(observed.recording.steps) == 1


@pytest.mark.parametrize("place", ["read_gradients", "read_weights", "read_clipped", "table", "fingerprint"])
@pytest.mark.parametrize("when", [0, 3])
def test_a_fault_inside_stops_the_watching_and_not_the_training(monkeypatch, place, when):
    original, calls = getattr(collector_module.Collector, place), []

    def faulty(self, *args, **kwargs):
        calls.append(place)
        if len(calls) > when:
            raise ArithmeticError("injected")
        return original(self, *args, **kwargs)

    without = train(mlp, "mlp", adam, plain_step)
    monkeypatch.setattr(collector_module.Collector, place, faulty)
    if place == "table" and when:
        monkeypatch.setattr("graddoctor.observe.stream._CAPACITY", 4)
    with pytest.warns(RuntimeWarning, match="stopped watching.*injected") as caught:
        observed = train(mlp, "mlp", adam, plain_step, watching=watch)
    assert len(caught) == 1
    assert_same(without, observed)
    assert isinstance(observed[2].fault, ArithmeticError)
    assert [event.kind for event in observed[2].recording.events] == ["fault"]
    assert hooks_of(observed[0], torch.optim.SGD(observed[0].parameters())) == 0


def test_a_fault_in_a_tap_and_warnings_as_errors(monkeypatch):
    def faulty(*_args):
        raise ArithmeticError("injected")

    without = train(mlp, "mlp", adam, plain_step, steps=5)
    monkeypatch.setattr("graddoctor.observe.taps.slab", faulty)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observed = train(mlp, "mlp", adam, plain_step, steps=5, watching=watch)
    assert_same(without, observed)
    assert observed[2].fault is not None


def test_a_full_disk_does_not_stop_the_training(tmp_path, monkeypatch):
    def full(*_args):
        raise RecordingError("disk full")

    monkeypatch.setattr("graddoctor.recording.sqlite.SqliteStore.write", full)
    with pytest.warns(RuntimeWarning, match="disk full"):
        train(mlp, "mlp", adam, plain_step, watching=functools.partial(watch, path=tmp_path / "run.gd"))


def test_into_a_file_that_others_read(tmp_path):
    path = tmp_path / "run.gd"
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer, path=path) as observed:
        for index, batch in enumerate(batches("mlp", 40)):
            plain_step(model, optimizer, batch, index)
            if index == 20:
                reader = Recording.open(path)
                assert len(reader.steps) >= 16
    assert reader.steps.tolist() == list(range(40))
    reader.close()
    watch(model, optimizer, path=tmp_path / "other.gd").close()
    assert sorted(file.name for file in tmp_path.iterdir() if "other" in file.name) == ["other.gd"]
    reader = Recording.open(path)
    assert reader.metadata["modules"]["0"] == "Linear"
    assert observed.readings().step == 39
    assert len(observed.findings()) >= 0
    with pytest.raises(RecordingError, match="overwrite=True"):
        watch(model, optimizer, path=path)
    watch(model, optimizer, path=path, overwrite=True).close()


def test_parameters_that_are_unfrozen_or_replaced_are_found():
    model = mlp(dropout=0.0)
    model[0].requires_grad_(False)
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        for step, batch in enumerate(batches("mlp", 140)):
            if step == 10:
                model[0].requires_grad_(True)
            plain_step(model, optimizer, batch, step)
    steps = observed.recording.series("0.weight", Stage.RAW, "norm").steps
    assert 10 <= steps[0] <= 74
    assert steps[-1] == 139
    assert observed.recording.series("3.weight", Stage.RAW, "norm").steps.tolist() == list(range(140))


def test_batches_may_change_their_size():
    model = mlp()
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        for index, (x, y) in enumerate(batches("mlp", 40)):
            size = 16 if index % 3 else 5
            plain_step(model, optimizer, (x[:size], y[:size]), index)
    matrix = observed.recording.table(Stage.ACTIVATION, "norm").matrix
    assert matrix.shape[0] == 40
    assert np.isfinite(matrix).all()


def test_tied_sparse_complex_and_double_parameters():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 8, sparse=True)
            self.complex = nn.Parameter(torch.randn(8, dtype=torch.complex64))
            self.wide = nn.Linear(8, 8).double()
            self.twin = self.wide
            self.empty = nn.Parameter(torch.zeros(0))

        def forward(self, x):
            hidden = self.embed(x.abs().long().clamp(max=19)).mean(1) * self.complex.real
            return self.wide(hidden.double()).float() + self.empty.sum()

    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as observed:
        for x, _ in batches("mlp", 4):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert observed.fault is None
    readings = {reading.name: reading for reading in observed.readings().parameters}
    assert readings["wide.weight"].aliases == ("twin.weight",)
    assert all(readings[name].gradient > 0 for name in ("embed.weight", "complex", "wide.weight"))
    assert readings["embed.weight"].gradient == pytest.approx(model.embed.weight.grad.coalesce().values().norm().item())


def test_symmetry_is_seen():
    model = mlp(depth=1, dropout=0.0)
    nn.init.constant_(model[0].weight, 0.1)
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        plain_step(model, optimizer, next(batches("mlp", 1)), 0)
    identical = {reading.name: reading.identical for reading in observed.readings().parameters}
    assert identical["0.weight"] == 1.0
    assert identical["3.weight"] == 0.0


def test_a_loss_scaler_shows_between_raw_and_clipped():
    model = mlp(dropout=0.0)
    optimizer = sgd(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with watch(model, optimizer) as observed:
        for step, batch in enumerate(batches("mlp", 6)):
            optimizer.zero_grad()
            loss = loss_of(model, batch) * (math.inf if step == 2 else 1.0)
            scaler.scale(loss).backward()
            if step > 3:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            scaler.step(optimizer)
            scaler.update()
    recorded = observed.recording
    raw, clipped = (recorded.table(stage, "norm").matrix for stage in (Stage.RAW, Stage.CLIPPED))
    np.testing.assert_allclose(raw[:2] / clipped[:2], 1024.0, rtol=1e-5)
    np.testing.assert_allclose(raw[3] / clipped[3], 512.0, rtol=1e-5)
    assert np.isinf(raw[2]).all()
    assert np.isnan(clipped[2]).all()
    np.testing.assert_allclose(recorded.scalars("clipped_norm").values[4:], 1e-3, rtol=1e-3)
    assert [(event.step, event.kind) for event in recorded.events] == [(2, "skipped step")]


def test_bfloat16_updates_below_the_resolution():
    torch.manual_seed(0)
    model = mlp(dropout=0.0).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    with watch(model, optimizer) as observed:
        for x, y in batches("mlp", 3):
            plain_step(model, optimizer, (x.bfloat16(), y), 0)
    assert all(reading.unchanged > 0.8 for reading in observed.readings().parameters if reading.name.endswith("weight"))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("compiled_first", [True, False])
def test_compiled_models_keep_one_graph(backend, compiled_first):
    torch._dynamo.reset()
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend(backend)(graph, inputs)

    torch.manual_seed(0)
    model = mlp(dropout=0.0)
    optimizer = sgd(model.parameters())
    if compiled_first:
        compiled = torch.compile(model, backend=counting)
        observed = watch(compiled, optimizer)
    else:
        observed = watch(model, optimizer)
        compiled = torch.compile(model, backend=counting)
    for batch in batches("mlp", 20):
        plain_step(compiled, optimizer, batch, 0)
    observed.close()
    assert observed.fault is None
    assert len(graphs) == 1
    norms = observed.recording.table(Stage.RAW, "norm")
    assert norms.names == tuple(name for name, _ in model.named_parameters())
    assert np.isfinite(norms.matrix).all()
    assert norms.matrix.shape[0] == 20
    assert [event.kind for event in observed.recording.events] == ["silent taps"]
    torch._dynamo.reset()


def test_bad_arguments():
    model = mlp()
    optimizer = sgd(model.parameters())
    with pytest.raises(RecipeError, match="got Adam"):
        watch(torch.optim.Adam(model.parameters()), optimizer)
    with pytest.raises(RecipeError, match="from 1 on, got 0"):
        watch(model, optimizer, every=0)
    with pytest.raises(RecipeError, match="trains no parameter of this model"):
        watch(mlp(), optimizer)
    with pytest.raises(RecipeError, match="requires a gradient"):
        watch(model.requires_grad_(False), optimizer)


def test_cost_does_not_grow_with_the_history():
    model = mlp(depth=1, width=4)
    optimizer = sgd(model.parameters())
    with watch(model, optimizer) as observed:
        stream = observed._stream
        for batch in batches("mlp", 200):
            plain_step(model, optimizer, batch, 0)
        waiting = len(stream._steps) + len(stream._scalars) + len(stream._handles) + len(stream._parameter_handles)
    assert isinstance(stream, Stream)
    assert waiting < 16 + 3 * 16 + 10 + 10
