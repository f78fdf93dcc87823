"""The stream under data parallelism, and where the order of hooks matters."""

from __future__ import annotations

import multiprocessing
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from graddoctor.observe.latest import latest
from graddoctor.observe.stream import Stream
from graddoctor.recording import Recording, Stage


def train_part(rank, size, folder):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    torch.manual_seed(1)
    x, y = torch.randn(5, 32, 8), torch.randint(0, 3, (5, 32))
    if size > 1:
        warnings.simplefilter("ignore")
        meeting = f"file://{folder / 'meeting'}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recording = Recording()
    stream = Stream(model, optimizer, recording)
    part = slice(rank * 32 // size, (rank + 1) * 32 // size)
    for step in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[step][part]), y[step][part]).backward()
        optimizer.step()
    stream.close()
    assert stream.fault is None
    table = recording.table(Stage.REDUCED if size > 1 else Stage.RAW, "norm")
    outputs = recording.table(Stage.ACTIVATION, "norm")
    np.savez(
        folder / f"{size}-{rank}.npz", norms=table.matrix, outputs=outputs.matrix, names=table.names + outputs.names
    )
    if size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking spares each process the import of torch
def test_under_ddp_every_rank_reads_the_reduced_gradients_of_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    train_part(0, 1, tmp_path)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=train_part, args=(rank, 2, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    alone, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("1-0", "2-0", "2-1"))
    assert first["names"].tolist() == alone["names"].tolist()
    np.testing.assert_allclose(first["norms"], alone["norms"], rtol=1e-5)
    np.testing.assert_array_equal(first["norms"], second["norms"])
    assert np.isfinite(first["outputs"]).all()


def run(model, loss, steps=4, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recording = Recording()
    stream = Stream(model, optimizer, recording, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    stream.close()
    assert stream.fault is None
    return recording


def test_a_rate_that_is_a_tensor_and_one_that_is_scheduled():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.5))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    recording = Recording()
    stream = Stream(model, optimizer, recording)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        scheduler.step()
    stream.close()
    assert recording.scalars("lr").values.tolist() == [0.5, 0.25, 0.125]


def test_gradients_replaced_between_backward_and_step_are_what_the_optimizer_got():
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recording = Recording()
    stream = Stream(model, optimizer, recording)
    model(torch.ones(2, 4)).sum().backward()
    model.weight.grad = torch.full_like(model.weight, 3.0)
    optimizer.step()
    stream.close()
    assert recording.series("weight", Stage.RAW, "norm").values.tolist() == [4.0]
    assert recording.series("weight", Stage.CLIPPED, "norm").values.tolist() == [6.0]


def test_a_backward_pass_that_fails_leaves_the_next_one_readable():
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            return x.clone()

        @staticmethod
        def backward(_ctx, _gradient):
            raise ZeroDivisionError

    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recording = Recording()
    stream = Stream(model, optimizer, recording)
    for fails in (False, True, False):
        optimizer.zero_grad()
        hidden = model[1](model[0](torch.ones(2, 4)))
        output = model[2](Fails.apply(hidden) if fails else hidden).sum()
        try:
            output.backward()
            optimizer.step()
        except ZeroDivisionError:
            continue
    stream.close()
    assert stream.fault is None
    assert np.isfinite(recording.table(Stage.RAW, "norm").matrix[[0, -1]]).all()


def test_outputs_may_be_nested_and_recurrent():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.attention = nn.LSTM(4, 8, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            h, state = self.rnn(x)
            return {"out": self.attention(h, h, h)[0], "state": [state]}

    recording = run(Net(), lambda model: model(torch.ones(3, 5, 4))["out"].square().sum())
    assert {"rnn", "attention"} <= set(recording.table(Stage.ACTIVATION, "norm").names)
    assert np.isfinite(recording.table(Stage.ACTIVATION_GRADIENT, "norm").matrix).all()


def test_modules_that_were_never_called_are_told():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.forgotten = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            return self.used(x)

    recording = run(Net(), lambda model: model(torch.ones(3, 4)).sum())
    assert [(event.kind, event.message) for event in recording.events] == [
        ("silent taps", "1 modules gave no activation to read: forgotten")
    ]


def test_latest_of_a_recording_without_anything():
    readings = latest(Recording())
    assert readings.step == -1
    assert readings.parameters == readings.activations == ()


def test_latest_knows_tensors_of_other_writers_are_none_of_its_own():
    recording = Recording()
    recording.add(0, "w", Stage.RAW, norm=1.0)
    assert latest(recording).parameters == ()
