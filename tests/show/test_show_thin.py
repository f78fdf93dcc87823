"""Fewer rows and points, and still the truth."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from graddoctor.show.report import HeatMap, LossCurve, Row, UpdateRatios
from graddoctor.show.thin import fold, pair_rows, pick, thin_heat, thin_losses, thin_updates

decades = st.lists(st.floats(-3, 3), min_size=1, max_size=80)


@given(decades, st.integers(3, 40))
def test_folding_keeps_the_sum_the_order_and_the_largest(values, limit):
    rows = [Row(f"r{i}", "linear", value, (f"r{i}",), signal_decades=value / 2) for i, value in enumerate(values)]
    folded = fold(rows, limit)
    assert len(folded) <= limit
    assert math.isclose(sum(row.decades for row in folded), sum(values), abs_tol=1e-9)
    assert math.isclose(sum(row.signal_decades for row in folded), sum(values) / 2, abs_tol=1e-9)
    assert [module for row in folded for module in row.modules] == [row.name for row in rows]
    assert max(map(abs, values)) in {abs(row.decades) for row in folded if row.kind != "several"} or len(rows) == 1


def test_the_row_that_ends_the_chain_is_never_folded():
    rows = [Row(f"r{i}", "relu", None) for i in range(50)] + [Row(f"s{i}", "linear", 1.0) for i in range(50)]
    folded = fold(rows, 9)
    assert "r49" in [row.name for row in folded]
    assert folded[0].name == "49 smaller rows"
    assert folded[0].decades is None


names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


def rows_of(names):
    return tuple(Row(f"{name} · Linear", "linear", 0.1 * place) for place, name in enumerate(names))


@given(names, names)
def test_rows_of_two_budgets_stand_side_by_side_by_name(before, after):
    pairs = pair_rows(rows_of(before), rows_of(after), 40)
    assert [one for one, _ in pairs if one is not None] == list(rows_of(before))
    assert [other for _, other in pairs if other is not None] == list(rows_of(after))
    assert all(one is None or other is None or one.name == other.name for one, other in pairs)
    assert (None, None) not in pairs
    if before == after:
        assert all(None not in pair for pair in pairs)


def test_what_stands_beside_a_name_does_not_keep_rows_apart():
    before, after = Row("3 · Linear → Sigmoid", "", -1.0), Row("3 · Linear → ReLU", "", 0.0)
    assert pair_rows((before,), (after,), 5) == ((before, after),)


@given(decades, st.integers(3, 40))
def test_folding_two_budgets_keeps_both_sums(values, limit):
    before = [Row(f"r{i}", "linear", value) for i, value in enumerate(values)]
    after = [Row(f"r{i}", "linear", value / 3) for i, value in enumerate(values) if i % 5]
    folded = pair_rows(before, after, limit)
    assert len(folded) <= limit
    for side, total in zip(zip(*folded, strict=True), (values, [row.decades for row in after]), strict=True):
        assert math.isclose(sum(row.decades for row in side if row), sum(total), abs_tol=1e-9)


@given(st.integers(0, 500), st.integers(1, 60))
def test_picking_spreads_evenly_between_both_ends(count, limit):
    picked = pick(count, limit)
    assert len(picked) == min(count, limit)
    assert picked == sorted(set(picked))
    if count > 1 and limit > 1:
        assert (picked[0], picked[-1]) == (0, count - 1)
        gaps = [b - a for a, b in pairwise(picked)]
        assert max(gaps) - min(gaps) <= 1


def test_a_thinned_table_holds_the_same_cells():
    names, steps = tuple(f"n{i}" for i in range(30)), tuple(range(0, 400, 10))
    norms = [[0.0 if i == 29 else math.nan if j == 39 else 10.0 ** (i - j) for j in range(40)] for i in range(30)]
    heat = HeatMap.from_norms(names, steps, norms)
    thin = thin_heat(heat, 7, 5)
    assert (len(thin.names), len(thin.steps)) == (7, 5)
    for i, name in enumerate(thin.names):
        for j, step in enumerate(thin.steps):
            old = names.index(name), steps.index(step)
            assert thin.values[i][j] == heat.values[old[0]][old[1]]
            assert ((i, j) in thin.zero_cells) == (old in heat.zero_cells)
            assert ((i, j) in thin.nonfinite_cells) == (old in heat.nonfinite_cells)
    updates = thin_updates(UpdateRatios(names, steps, heat.values, (1e-5, 1e-1)), 7, 5)
    assert updates.values == thin.values
    assert updates.band == (1e-5, 1e-1)


@given(st.lists(st.floats(-10, 10) | st.just(math.nan), min_size=1, max_size=400), st.integers(6, 90))
def test_a_thinned_curve_keeps_its_extremes_and_its_first_nan(losses, limit):
    curve = LossCurve.from_values(losses)
    thin = thin_losses(curve, limit)
    assert len(thin.steps) <= max(limit, 3)
    assert list(thin.steps) == sorted(thin.steps)
    assert all(curve.values[step] == value for step, value in zip(thin.steps, thin.values, strict=True))
    assert thin.first_nonfinite == curve.first_nonfinite
    finite = [loss for loss in losses if not math.isnan(loss)]
    if finite:
        kept = [value for value in thin.values if value is not None]
        assert (min(kept), max(kept)) == (min(finite), max(finite))
