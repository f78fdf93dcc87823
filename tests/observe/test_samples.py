import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graddoctor.observe._inputs import column
from graddoctor.observe._samples import batch_size, by_sample, norm, rms, spread, square


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 60000), exponent=st.integers(-30, 30), seed=st.integers(0, 99))
def test_norms_are_those_of_float64(size, exponent, seed):
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent
    exact = float(values.double().square().sum().sqrt())
    assert float(norm(values)) == pytest.approx(exact, rel=1e-6)
    assert float(square(values)) == pytest.approx(exact**2, rel=1e-6)
    assert float(rms(values)) == pytest.approx(exact / math.sqrt(size), rel=1e-6)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_norms_show_what_is_not_finite(bad):
    for size in (10, 50000):
        values = torch.ones(size)
        values[3] = bad
        assert not math.isfinite(float(norm(values)))


def test_norms_of_other_layouts():
    values = torch.randn(300, 200)
    assert float(norm(values.T)) == pytest.approx(float(values.double().norm()), rel=1e-7)
    assert float(norm(values.bfloat16())) == pytest.approx(float(values.bfloat16().double().norm()), rel=1e-9)
    assert float(norm(torch.zeros(0))) == 0


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(2, 9), width=st.integers(1, 20), mean=st.floats(-100, 100), seed=st.integers(0, 99))
def test_spread_is_the_distance_from_the_mean_sample(samples, width, mean, seed):
    values = torch.randn(samples, width, generator=torch.Generator().manual_seed(seed)) + mean
    exact = values.double()
    expected = float((exact - exact.mean(0)).norm()) / math.sqrt(values.numel())
    assert float(spread(values, samples)) == pytest.approx(expected, rel=1e-5)


def test_equal_samples_have_no_spread_and_last_bits_count():
    values = torch.full((4, 3), 0.1)
    assert float(spread(values, 4)) == 0
    values[2, 1] = torch.nextafter(values[2, 1], torch.tensor(1.0))
    exact = values.double()
    expected = float((exact - exact.mean(0)).norm()) / math.sqrt(12)
    assert float(spread(values, 4)) == pytest.approx(expected, rel=1e-6)


def test_no_spread_without_samples():
    assert spread(torch.randn(1, 3), 1) is None
    assert spread(torch.randn(5, 3), 0) is None
    assert spread(torch.tensor(1.0), 4) is None
    assert spread(torch.randn(5, 3), 4) is None


def test_samples_are_found_on_any_axis():
    values = torch.arange(24.0).view(2, 3, 4)
    assert by_sample(values, 2).shape == (2, 12)
    assert torch.equal(by_sample(values, 3)[1], values[:, 1].reshape(-1))
    assert by_sample(values.view(6, 4), 2).shape == (2, 12)  # batch · time unfolded
    assert by_sample(values, 5) is None


def test_the_batch_axis_is_the_size_that_tensors_share():
    assert batch_size([(8, 3), (8,)]) == 8
    assert batch_size([(5, 8, 3), (8,)]) == 8  # time first
    assert batch_size([()]) == 0
    assert batch_size([]) == 0
    assert batch_size([(7, 2), (3,)]) == 7


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.integers(1, 12), min_size=1, max_size=4), mean=st.floats(-1e4, 1e4), seed=st.integers(0, 99))
def test_inputs_merge_as_one_tensor(parts, mean, seed):
    generator = torch.Generator().manual_seed(seed)
    values = (torch.randn(sum(parts), 3, generator=generator) * torch.tensor([1.0, 20.0, 0.0])).double() + mean
    found = column("x", "input", values)
    for piece in values.split(parts):
        found.add(piece)
    reading = found.reading()
    stds = values.std(0, correction=0)
    assert reading.mean == pytest.approx(float(values.mean()), rel=1e-9, abs=1e-9)
    assert reading.std == pytest.approx(float(values.std(correction=0)), rel=1e-7, abs=1e-9)
    assert reading.absmax == float(values.abs().max())
    if len(values) > 1:
        assert reading.feature_std == pytest.approx((float(stds[0]), float(stds[1])), rel=1e-7)


def test_features_of_images_are_channels():
    values = torch.randn(4, 3, 5, 5) * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1)
    found = column("x", "input", values)
    found.add(values)
    assert found.reading().feature_std == pytest.approx(
        (float(values[:, 0].std(correction=0)), float(values[:, 2].std(correction=0))), rel=1e-5
    )


def test_an_empty_input_reads_as_nothing():
    found = column("x", "input", torch.zeros(0, 3))
    found.add(torch.zeros(0, 3))
    assert math.isnan(found.reading().mean)
