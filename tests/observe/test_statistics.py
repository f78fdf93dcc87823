"""Statistics against slow float64 twins, and the laws they must obey."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graddoctor.observe.statistics import LOWEST_OCTAVE, OCTAVES, measure, measure_many, merge, norms

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
lists = st.lists(numbers, min_size=1, max_size=40)


def twin(values):
    """Element by element, in Python's exact integers and floats."""
    finite = [value for value in values if math.isfinite(value)]
    histogram = [0] * OCTAVES
    for value in finite:
        if value:
            octave = math.frexp(abs(value))[1] - 1
            histogram[min(max(octave - LOWEST_OCTAVE, 0), OCTAVES - 1)] += 1
    return {
        "count": len(values),
        "sum": math.fsum(finite),
        "norm": math.hypot(*finite),
        "absmax": max(map(abs, finite), default=0.0),
        "zeros": finite.count(0.0),
        "nonfinite": len(values) - len(finite),
    }, histogram


def check(statistics, values, rel=1e-12):
    expected, histogram = twin(values)
    got = statistics.numbers()
    spread = math.fsum(map(abs, filter(math.isfinite, values)))
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=rel, abs=1e-12 * spread if name == "sum" else 0), name
    assert statistics.histogram.tolist() == histogram


@given(lists)
@settings(max_examples=100, deadline=None)
def test_measure_agrees_with_its_twin(values):
    check(measure(torch.tensor(values, dtype=torch.float32)), values)


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_nonfinite_elements_are_counted_and_left_out(values):
    check(measure(torch.tensor(values)), values)


@given(lists, st.integers(-20, 20))
@settings(max_examples=60, deadline=None)
def test_scale_equivariance(values, power):
    tensor = torch.tensor(values, dtype=torch.float64)
    plain, scaled = measure(tensor).numbers(), measure(tensor * 2.0**power).numbers()
    for name in ("sum", "norm", "absmax"):
        assert scaled[name] == plain[name] * 2.0**power
    assert scaled["zeros"] == plain["zeros"]


@given(lists, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_permutation_invariance(values, random):
    shuffled = random.sample(values, len(values))
    check(measure(torch.tensor(shuffled)), values)


@given(lists, st.data())
@settings(max_examples=60, deadline=None)
def test_split_then_merge_is_the_whole(values, data):
    cut = data.draw(st.integers(0, len(values)))
    tensor = torch.tensor(values)
    check(merge(measure(tensor[:cut]), measure(tensor[cut:])), values)


@pytest.mark.parametrize("size", [1e-45, 1e-25, 1e25, 3e38])
def test_extreme_magnitudes_keep_their_norm(size):
    value = torch.tensor(size).item()
    tensor = torch.full((100,), value)
    assert measure(tensor).norm.item() == pytest.approx(10 * value, rel=1e-9)
    assert norms([tensor]).item() == pytest.approx(10 * value, rel=1e-9)


def test_float64_beyond_the_range_of_squares():
    tensor = torch.tensor([3e200, 4e200], dtype=torch.float64)
    assert measure(tensor).norm.item() == pytest.approx(5e200)
    assert norms([tensor]).item() == pytest.approx(5e200)
    tensor = torch.tensor([3e-300, 4e-300], dtype=torch.float64)
    assert measure(tensor).norm.item() == pytest.approx(5e-300)


def test_half_precision_does_not_overflow():
    half = torch.full((100_000,), 255.0, dtype=torch.float16)
    assert measure(half).norm.item() == pytest.approx(255 * math.sqrt(100_000))
    assert norms([half]).item() == pytest.approx(255 * math.sqrt(100_000))


def test_large_tensors_do_not_lose_digits():
    tensor = torch.randn(3_000_000, generator=torch.Generator().manual_seed(0)) + 1
    assert norms([tensor]).item() == pytest.approx(tensor.double().norm().item(), rel=1e-7)


def test_sparse_gradients_are_coalesced_and_count_their_zeros():
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[0, 0, 2]]), torch.tensor([1.0, 2.0, 4.0]), (5,), check_invariants=True
    )
    check(measure(sparse), [3.0, 0.0, 4.0, 0.0, 0.0])
    assert norms([sparse, torch.ones(4)]).tolist() == [5.0, 2.0]


def test_a_sparse_tensor_that_stores_nothing():
    sparse = torch.sparse_coo_tensor(torch.zeros(1, 0, dtype=torch.long), torch.zeros(0), (5,), check_invariants=True)
    check(measure(sparse), [0.0] * 5)


def test_complex_tensors_are_measured_by_magnitude():
    check(measure(torch.tensor([3 + 4j, 0j])), [5.0, 0.0])


def test_empty_tensor_is_the_neutral_element_of_merge():
    part = measure(torch.tensor([1.0, -2.0]))
    for whole in (merge(measure(torch.zeros(0)), part), merge(part, measure(torch.zeros(0)))):
        check(whole, [1.0, -2.0])


def test_meta_tensors_are_skipped_with_the_reason():
    statistics = measure(torch.zeros(3, device="meta"))
    assert "meta" in (statistics.skipped or "")
    assert statistics.count.item() == 0


def test_integers_and_booleans():
    check(measure(torch.tensor([1, -2, 0])), [1.0, -2.0, 0.0])
    check(measure(torch.tensor([True, False])), [1.0, 0.0])


def test_measure_many_is_measure_for_each():
    tensors = [torch.randn(7), torch.zeros(3), torch.zeros(2, device="meta"), torch.tensor([math.inf, 1.0])]
    many = measure_many(tensors)
    for index, tensor in enumerate(tensors):
        one = measure(tensor)
        for name in ("count", "sum", "norm", "absmax", "zeros", "nonfinite"):
            assert getattr(many, name)[index].item() == getattr(one, name).item()
    assert many.skipped is not None
    assert "tensor 2" in many.skipped


def test_measure_many_wants_something():
    with pytest.raises(ValueError, match="at least one"):
        measure_many([])


def test_mean_and_standard_deviation():
    tensor = torch.tensor([1.0, 2.0, 3.0, math.nan])
    assert measure(tensor).mean.item() == pytest.approx(2.0)
    assert measure(tensor).std.item() == pytest.approx(math.sqrt(2 / 3))


@given(st.lists(lists, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_norms_agree_with_measure(many):
    tensors = [torch.tensor(values) for values in many]
    for got, tensor in zip(norms(tensors).tolist(), tensors, strict=True):
        assert got == pytest.approx(measure(tensor).norm.item(), rel=1e-5)


def test_norm_of_something_not_finite_is_infinite():
    assert norms([torch.tensor([1.0, math.nan]), torch.tensor([math.inf])]).tolist() == [math.inf, math.inf]
