"""A slab holds what slicing would give, and moves over all samples and positions."""

from __future__ import annotations

import pytest
import torch

from graddoctor.observe.slab import slab


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((64, 100), (16, 1, 32)),
        ((4, 3), (4, 1, 3)),
        ((8, 128, 256), (4, 2, 32)),
        ((128, 16, 32, 32), (4, 2, 16)),
        ((5,), (5, 1, 1)),
        ((1, 1), (1, 1, 1)),
        ((2, 3, 4, 5, 6), (2, 2, 3)),
    ],
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed", "sliced"])
def test_values_come_from_the_right_samples_and_units(shape, size, layout):
    sample = torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    axis = 1 if len(shape) >= 4 else len(shape) - 1
    unit = torch.arange(shape[axis]).reshape(*[-1 if i == axis else 1 for i in range(len(shape))]).expand(shape)
    tensor = (sample * 1000 + (unit if axis else 0)).float().contiguous()
    if layout == "channels_last" and len(shape) == 4:
        tensor = tensor.to(memory_format=torch.channels_last)
    elif layout == "transposed" and len(shape) > 1:
        tensor = tensor.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "sliced":
        tensor = torch.cat([torch.full((1, *shape[1:]), -1.0), tensor])[1:]
    plan = slab(tensor)
    assert plan is not None
    assert plan.size == size
    samples = set()
    for turn in (0.0, 0.37, 0.5, 0.999):
        values = plan.cut(tensor, turn).reshape(size)
        rows, units = values.div(1000, rounding_mode="floor"), values % 1000
        assert (rows == rows[:, :1, :1]).all()
        assert (units == units[:1, :1, :]).all()
        assert len(rows[:, 0, 0].unique()) == size[0]
        assert len(units[0, 0, :].unique()) == size[2]
        samples |= set(rows[:, 0, 0].tolist())
    assert len(samples) >= size[0]
    if shape[0] > size[0]:
        assert len(samples) > size[0]


def test_all_values_lie_inside_the_tensor():
    for shape in ((7, 5), (33, 9, 3), (9, 3, 5, 7), (130, 33)):
        storage = torch.full((3 * torch.Size(shape).numel(),), float("nan"))
        n = torch.Size(shape).numel()
        storage[n : 2 * n] = 1.0
        tensor = storage[n : 2 * n].view(shape)
        for step in range(50):
            assert not slab(tensor).cut(tensor, step / 50).isnan().any()


def test_whole_rows_for_softmax():
    plan = slab(torch.zeros(8, 4, 16, 100), whole_rows=True)
    assert plan.size == (4, 2, 100)


def test_nothing_to_sample():
    assert slab(torch.tensor(1.0)) is None
    assert slab(torch.zeros(0, 4)) is None
