"""The charts of a cure: valid, on one scale where two are compared, and of nothing that was not measured."""

import json
import math
from dataclasses import replace

import pytest
import vl_convert
from cures import LEAKY

from graddoctor.show import cure_charts as charts
from graddoctor.show.cure import Curves, Entry, Race, Rung
from graddoctor.show.palette import DARK, LIGHT, PAGE
from graddoctor.show.report import LossCurve


def drawn(chart):
    """Let Vega draw a chart, and give its specification and its tables."""
    text = chart.to_json()
    assert "<svg" in vl_convert.vegalite_to_svg(text)
    spec = json.loads(text)
    return spec, [row for table in spec.get("datasets", {}).values() for row in table]


@pytest.mark.parametrize("palette", [LIGHT, DARK, PAGE])
def test_every_chart_is_valid_and_can_be_drawn(palette, cured):
    drawn(charts.race_chart(cured.race, 40, palette))
    drawn(charts.outcomes_chart(cured.proof, palette))
    drawn(charts.difference_chart(cured.proof, palette))
    drawn(charts.curves_chart(cured.curves, palette))
    drawn(charts.budgets_chart(*cured.budgets.both, palette))


def test_odd_names_and_curves_can_be_drawn(not_cured, crowded, interrupted):
    drawn(charts.race_chart(interrupted.race, 40))
    drawn(charts.race_chart(not_cured.race, 40))
    drawn(charts.curves_chart(crowded.curves))


def test_both_budgets_share_one_scale_and_add_up(cured):
    spec, _ = drawn(charts.budgets_chart(*cured.budgets.both))
    domains, totals = [], []
    for panel in spec["hconcat"]:
        domains.append(panel["layer"][0]["encoding"]["x"]["scale"]["domain"])
        rows = spec["datasets"][panel.get("data", panel["layer"][0].get("data"))["name"]]
        assert [row["name"] for row in rows] == [row.name for row in reversed(cured.budgets.before.rows)]
        totals.append(rows[-1]["to"])
    assert domains[0] == domains[1]
    assert domains[0][0] <= cured.budgets.before.total + 0.01
    assert domains[0][1] >= cured.budgets.after.total - 0.01
    assert totals == pytest.approx([cured.budgets.before.total, cured.budgets.after.total], rel=1e-2)
    assert [panel["title"] for panel in spec["hconcat"]] == ["as given: −11.9 decades", "as treated: +0.5 decades"]  # noqa: RUF001


def test_rows_of_the_same_name_are_not_drawn_over_each_other(crowded):
    spec, _ = drawn(charts.budgets_chart(*crowded.budgets.both))
    for rows in spec["datasets"].values():
        names = [row["name"] for row in rows]
        assert len(names) == len(set(names)) <= charts.ROWS


def test_a_chain_that_ends_says_where(cured, cut):
    spec, _ = drawn(charts.budgets_chart(cut.budget, cured.budgets.after))
    assert spec["hconcat"][0]["title"] == "as given: ends at net.relu"


def test_outcomes_are_those_that_were_measured(not_cured):
    _, rows = drawn(charts.outcomes_chart(not_cured.proof))
    ends = {(row["name"], row["side"]): row["value"] for row in rows if "side" in row}
    assert len(ends) == 7
    assert ("seed 103", "as treated") not in ends
    assert ends["seed 101", "as given"] == 0.614
    assert {row["name"]: row["change"] for row in rows if "change" in row} == {
        "seed 101": "up",
        "seed 102": "down",
        "seed 104": "up",
    }
    assert [row["what"] for row in rows if "what" in row] == ["no number as treated"]


def test_the_difference_has_its_interval_and_a_line_at_zero(cured, not_cured):
    spec, rows = drawn(charts.difference_chart(cured.proof))
    (mean,) = (row for row in rows if row.get("name") == "mean")
    assert (mean["low"], mean["high"]) == (0.79, 0.91)
    assert {"value": 0.0} in rows
    assert spec["layer"][0]["mark"]["type"] == "rule"
    _, rows = drawn(charts.difference_chart(not_cured.proof))
    (mean,) = (row for row in rows if row.get("name") == "mean")
    assert mean["low"] < 0 < mean["high"]


def test_without_an_interval_the_mean_is_a_point(cured):
    _, rows = drawn(charts.difference_chart(replace(cured.proof, low=math.nan, high=math.nan)))
    (mean,) = (row for row in rows if row.get("name") == "mean")
    assert mean["low"] == mean["high"] == mean["value"]
    _, rows = drawn(charts.difference_chart(replace(cured.proof, mean=math.nan)))
    assert "mean" not in {row.get("name") for row in rows}


def test_a_race_is_drawn_from_rung_to_rung_with_its_winner_on_top(cured):
    spec, rows = drawn(charts.race_chart(cured.race, 40))
    stops = [row for row in rows if "place" in row and "to" not in row]
    links = [row for row in rows if "to" in row]
    assert {(row["place"], row["score"], row["what"]) for row in stops if row["name"] == LEAKY} == {
        (1, "41 %", "winner"),
        (2, "66 %", "winner"),
        (3, "84 %, won", "winner"),
    }
    assert {(row["place"], row["to"]) for row in links if row["name"] == "SELU"} == {(1, 2), (2, 3)}
    assert not [row for row in links if row["name"] in {"LSUV", "tuned", "as given"}]
    assert {row["what"] for row in stops if row["name"] == "tuned"} == {"lost"}
    order = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert order[0] == LEAKY
    assert order[-1] == "as given"
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["winner", "kept", "left out", "lost"]


def test_a_race_of_one_rung_and_one_candidate_is_a_race():
    _, rows = drawn(charts.race_chart(Race((Rung(64, (Entry("one", math.nan),)),)), 40))
    assert [row["score"] for row in rows if "score" in row] == ["-"]


def test_forty_candidates_have_a_line_each(crowded):
    spec, rows = drawn(charts.race_chart(crowded.race, 40))
    assert len({row["name"] for row in rows}) == 40
    assert spec["height"] >= 40 * 15
    _, rows = drawn(charts.race_chart(crowded.race, 12))
    assert len({row["name"] for row in rows}) == 12


@pytest.mark.parametrize(
    ("losses", "log"), [([2.3, 1.0], True), ([2.31, 2.29], False), ([1.0, 0.0], False), ([1.0, -2.0], False)]
)
def test_losses_stand_on_decades_where_they_can(losses, log):
    curve = LossCurve.from_values(losses)
    spec, _ = drawn(charts.curves_chart(Curves(curve, curve)))
    assert (spec["layer"][0]["encoding"]["y"]["scale"].get("type") == "log") is log


def test_where_a_loss_is_not_finite_is_marked_on_its_side(not_cured):
    _, rows = drawn(charts.curves_chart(not_cured.curves))
    assert [row["what"] for row in rows if "what" in row] == ["as treated: not finite from step 2 on"]
    assert {row["series"] for row in rows if "series" in row} == {"as given", "as treated"}
