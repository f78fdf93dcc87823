"""The collector's table against brute force over the very elements it sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from graddoctor.observe.collector import SAMPLES, Collector, watched
from graddoctor.recording import Stage


def columns(collector, table, name, stage):
    start = 0
    for track in collector.tracks:
        if track.key == (name, stage):
            return dict(zip(track.statistics, table[:, start : start + len(track.statistics)].T, strict=True))
        start += len(track.statistics)
    raise KeyError(name)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(200, 64), nn.Linear(7, 2, bias=False))
    return made.to(memory_format=torch.channels_last)


def test_what_is_sampled_is_summed_up(model):
    collector = Collector(watched(model), 4, Stage.RAW)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * (torch.rand_like(parameter) > 0.3)
    collector.move(0.4)
    before = [p.detach().clone() for p in model.parameters()]
    collector.read_gradients(0)
    with torch.no_grad():
        collector.read_weights(0, after=False)
        for parameter in model.parameters():
            parameter.sub_(0.1 * parameter.grad)
        collector.read_weights(0, after=True)
    starts, entries = list(collector._starts), collector.entries
    table = collector.table(2)
    for entry, start, old in zip(entries, starts, before, strict=True):
        assert entry.samples == min(old.numel(), SAMPLES)

        def sampled(tensor, entry=entry, start=start):
            return torch.as_strided(tensor, (entry.samples,), (entry.stride,), start).double()

        gradient = sampled(entry.parameter.grad)
        got = columns(collector, table, entry.name, Stage.RAW)
        assert got["norm"][0] == pytest.approx(entry.parameter.grad.double().norm().item(), rel=1e-6)
        assert got["sum"][0] == pytest.approx(gradient.sum().item(), rel=1e-5, abs=1e-6)
        assert got["absmax"][0] == pytest.approx(gradient.abs().max().item(), rel=1e-6)
        assert got["zeros"][0] == (gradient == 0).sum().item()
        assert np.isnan(got["norm"][1])
        moved = sampled(entry.parameter.detach()) - sampled(old)
        scale = (old.numel() / entry.samples) ** 0.5
        update = columns(collector, table, entry.name, Stage.UPDATE)["norm"][0]
        assert update == pytest.approx(moved.norm().item() * scale, rel=1e-4)


def test_samples_are_spread_over_the_rows_and_columns_of_a_matrix():
    entry = watched(nn.Linear(512, 512, bias=False))[0]
    places = torch.arange(512 * 512).view(512, 512).as_strided((entry.samples,), (entry.stride,))
    assert len((places // 512).unique()) > 200
    assert len((places % 512).unique()) > 200


def test_moving_never_leaves_the_tensor(model):
    collector = Collector(watched(model), 2, Stage.RAW)
    for turn in (0.0, 0.3, 0.999999):
        collector.move(turn)
        for entry, start in zip(collector.entries, collector._starts, strict=True):
            assert start >= 0
            assert start + (entry.samples - 1) * entry.stride < entry.parameter.numel()


def test_a_table_empties_the_ring(model):
    collector = Collector(watched(model), 2, Stage.RAW)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    collector.read_gradients(0)
    collector.read_clipped(0, changed=False, scale=torch.tensor(2.0))
    first = collector.table(1)
    got = columns(collector, first, "0.weight", Stage.CLIPPED)["norm"][0]
    assert got == pytest.approx(model[0].weight.numel() ** 0.5 / 2)
    assert collector.totals(first)["clipped_norm"][0] == pytest.approx(
        sum(p.numel() for p in model.parameters()) ** 0.5 / 2
    )
    assert np.isnan(collector.table(1)).all()


def test_lazy_meta_and_frozen_parameters_are_left_out():
    frozen = nn.Linear(2, 2)
    frozen.weight.requires_grad_(False)
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(2, 2, device="meta"), frozen)
    assert [entry.name for entry in watched(model)] == ["2.bias"]
