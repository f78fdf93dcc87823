"""Charts: valid, in the right order, on the right axes, with nothing in them that was not measured."""

import json
import math
from itertools import pairwise

import pytest
import vl_convert

from graddoctor.show import charts
from graddoctor.show.palette import DARK, LIGHT, PAGE, config
from graddoctor.show.report import (
    ActivationState,
    Event,
    HeatMap,
    LayerActivation,
    LossCurve,
    Row,
    UpdateRatios,
    Waterfall,
)
from graddoctor.terms import Severity


def drawn(chart):
    """Let Vega draw a chart, and give its specification."""
    text = chart.to_json()
    assert "<svg" in vl_convert.vegalite_to_svg(text)
    return json.loads(text)


def tables(spec):
    return list(spec["datasets"].values())


def layers(spec):
    return spec.get("layer") or [spec]


@pytest.mark.parametrize("palette", [LIGHT, DARK, PAGE])
@pytest.mark.parametrize("name", ["sick", "healthy", "cut"])
def test_every_chart_is_valid_and_can_be_drawn(name, palette, request):
    report = request.getfixturevalue(name)
    for chart in (
        charts.budget_chart(report.budget, palette),
        charts.heat_chart(report.heat, palette),
        charts.distribution_chart(report.activations, palette),
        charts.saturation_chart(report.activations, palette),
        charts.update_chart(report.updates, palette),
        charts.loss_chart(report.losses, report.events, palette),
    ):
        drawn(chart)


def test_a_chart_can_be_saved_as_a_picture(sick, tmp_path):
    for suffix, begin in ((".png", b"\x89PNG"), (".svg", b"<svg")):
        path = tmp_path / f"loss{suffix}"
        charts.loss_chart(sick.losses).save(path)
        assert path.read_bytes().startswith(begin)


def test_the_waterfall_runs_from_the_loss_to_the_total(sick):
    rows = tables(drawn(charts.budget_chart(sick.budget)))[0]
    assert [row["name"] for row in rows] == [row.name for row in reversed(sick.budget.rows)]
    assert rows[0]["from"] == 0
    assert all(late["to"] == early["from"] for late, early in pairwise(rows))
    assert rows[-1]["to"] == pytest.approx(sick.budget.total, rel=1e-3)
    assert {row["what"] for row in rows} == {"lost"}


def test_the_signal_stands_beside_only_where_it_was_measured(sick, cut):
    assert len(drawn(charts.budget_chart(sick.budget))["hconcat"]) == 2
    assert "hconcat" not in drawn(charts.budget_chart(cut.budget))


def test_a_cut_is_marked_and_what_lies_behind_it_is_not_called_lost(cut):
    rows = tables(drawn(charts.budget_chart(cut.budget)))[0]
    assert [row["what"] for row in rows] == ["gained", "ends here", ""]


def test_zeros_and_nonfinite_cells_have_colours_of_their_own():
    heat = HeatMap.from_norms(("a", "b"), (0, 1), [[0.0, 1e-3], [math.nan, 1.0]])
    spec = drawn(charts.heat_chart(heat))
    seen, odd = (spec["datasets"][layer["data"]["name"]] for layer in layers(spec))
    assert {(cell["name"], cell["step"], cell["log10"]) for cell in seen} == {("a", 1, -3), ("b", 1, 0)}
    assert {(cell["name"], cell["what"]) for cell in odd} == {("a", "exactly zero"), ("b", "not finite")}


def test_a_heat_map_of_nothing_but_nan_is_still_drawn():
    spec = drawn(charts.heat_chart(HeatMap.from_norms(("a",), (0,), [[math.nan]])))
    assert [cell["what"] for cell in tables(spec)[0]] == ["not finite"]


def test_small_differences_of_the_gradient_look_small(healthy):
    spec = drawn(charts.heat_chart(healthy.heat))
    low, high = layers(spec)[0]["encoding"]["color"]["scale"]["domain"]
    assert high - low >= 4


@pytest.mark.parametrize(
    ("losses", "log"),
    [([2.3, 2.2, 2.1], False), ([2.3, 0.1, 0.001], True), ([5.0, 1.0, -3.0], False), ([1e4, 0.0, 1.0], False)],
)
def test_the_loss_axis_is_logarithmic_when_that_helps_and_can_be(losses, log):
    spec = drawn(charts.loss_chart(LossCurve.from_values(losses)))
    assert (layers(spec)[0]["encoding"]["y"]["scale"].get("type") == "log") is log


def test_the_loss_chart_shows_baseline_events_and_what_is_not_finite(cut):
    spec = drawn(charts.loss_chart(cut.losses, cut.events))
    everything = json.dumps(spec)
    assert "constant predictor" in everything
    assert "first loss that is not finite" in everything
    assert [row for table in tables(spec) for row in table if row.get("what") == "not finite"] == [
        {"step": 4, "last": 6, "what": "not finite"}
    ]
    plain = json.dumps(drawn(charts.loss_chart(LossCurve.from_values([1.0, 0.5]))))
    assert "constant predictor" not in plain
    assert "not finite" not in plain


def test_losses_at_the_end_of_the_number_line_stay_numbers():
    spec = drawn(charts.loss_chart(LossCurve.from_values([1.7975e308, 1.0])))
    assert tables(spec)[0][0]["loss"] == pytest.approx(1.7975e308, rel=1e-3)
    drawn(charts.update_chart(UpdateRatios.from_ratios(("w",), (0,), [[1.7975e308]])))


def test_update_ratios_stand_on_decades_with_the_healthy_band(sick):
    spec = drawn(charts.update_chart(sick.updates))
    band, lines = layers(spec)
    assert lines["encoding"]["y"]["scale"]["type"] == "log"
    low, high = lines["encoding"]["y"]["scale"]["domain"]
    ratios = [value for row in sick.updates.values for value in row]
    assert low <= min(ratios) <= max(ratios) <= high
    assert all(math.log10(tick).is_integer() for tick in lines["encoding"]["y"]["axis"]["values"])
    assert band["encoding"]["color"]["scale"]["domain"] == ["healthy band"]
    assert {"low": 1e-4, "high": 1e-2, "what": "healthy band"} in tables(spec)[0] + tables(spec)[1]


@pytest.mark.parametrize(
    ("steps", "kind"), [((0, 1, 2, 4, 8, 16, 32, 64), "symlog"), (tuple(range(0, 80, 10)), "linear")]
)
def test_doubling_steps_are_spread_out(steps, kind):
    updates = UpdateRatios.from_ratios(("w",), steps, [[1e-3] * len(steps)])
    scale = layers(drawn(charts.update_chart(updates)))[1]["encoding"]["x"]["scale"]
    assert scale.get("type", "linear") == kind


def test_ridges_keep_the_shape_of_their_histogram():
    state = ActivationState(0, edges=(0.0, 1.0, 3.0), shares=(0.5, 0.5))
    layer = LayerActivation("net.act", "tanh", state, None)
    points = tables(drawn(charts.distribution_chart([layer])))[0]
    tops = [point["top"] for point in points]
    assert tops[0] == tops[-1] == 0
    assert max(tops) == tops[1] == 1.4
    assert (tops[1] / tops[2]) ** 2 == pytest.approx(2, rel=1e-2)  # the same share over twice the width
    assert {point["name"] for point in points} == {"net.act tanh"}


def test_layers_without_a_histogram_or_share_are_left_out(cut):
    names = {point["name"] for point in tables(drawn(charts.distribution_chart(cut.activations)))[0]}
    assert len(names) == 1
    rows = tables(drawn(charts.saturation_chart(cut.activations)))[0]
    assert {(row["what"], row["share"]) for row in rows} == {("dead units", 1.0), ("saturated values", 0.7)}


def test_names_with_quotes_and_brackets_do_not_break_an_expression():
    state = ActivationState(0, edges=(0.0, 1.0), shares=(1.0,))
    nasty = "a\"]['\\ </script>\u2028"
    drawn(charts.distribution_chart([LayerActivation(nasty, "relu", state, state)]))
    drawn(charts.budget_chart(Waterfall((Row(nasty, "relu", -1.0),), -1.0)))
    drawn(charts.loss_chart(LossCurve.from_values([1.0, 2.0]), [Event(1, nasty, Severity.WARNING)]))


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_has_the_contrast_of_wcag_aa(palette):
    for name in ("ink", "quiet", "accent", "lost", "gained", "good", "warn", "bad"):
        for ground in ("paper", "card", "soft"):
            assert contrast(getattr(palette, name), getattr(palette, ground)) >= 4.5, (name, ground)


def test_charts_on_the_page_leave_colours_to_its_style_sheet():
    text = json.dumps(config(PAGE))
    assert "#" not in text
    assert "var(--ink)" in text
