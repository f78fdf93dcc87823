"""What a report of a cure holds, and how its numbers are told."""

import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
from cures import CURES

from graddoctor.cli import main
from graddoctor.errors import GraddoctorError
from graddoctor.show import cure_words as told
from graddoctor.show import save, to_text, words
from graddoctor.show.cure import Budgets, Effort, Entry, Prescription, Race, Rung
from graddoctor.show.html import to_html
from graddoctor.show.names import readable_cure
from graddoctor.show.report import Row, Waterfall


@pytest.mark.parametrize("name", CURES)
def test_a_report_is_frozen_and_its_verdict_is_known(name, request):
    report = request.getfixturevalue(name)
    with pytest.raises(FrozenInstanceError):
        report.title = "other"
    with pytest.raises(GraddoctorError, match="sound, cured, not cured, interrupted, got 'better'"):
        replace(report, verdict="better")


def test_budgets_are_two_or_one_or_none():
    full, empty = Waterfall((Row("a", "", -1.0),), -1.0), Waterfall((), 0.0)
    assert Budgets(full, full).both == (full, full)
    assert Budgets(full, full).single is None
    for one in (Budgets(full), Budgets(None, full), Budgets(full, empty)):
        assert one.both is None
        assert one.single is full
    assert Budgets(empty, None).both is Budgets(empty, None).single is Budgets().single is None


@pytest.mark.parametrize(
    ("value", "measure", "shown"),
    [
        (0.744, "progress", "74 %"),
        (-0.2, "progress", "-20 %"),
        (math.nan, "progress", "-"),
        (-math.inf, "progress", "-infinite"),
        (0.91234567, "metric", "0.9123"),
        (3, "metric", "3"),
        (math.nan, "metric", "-"),
    ],
)
def test_an_outcome_is_told_in_its_measure(value, measure, shown):
    assert told.measured(value, measure) == shown


@pytest.mark.parametrize(
    ("value", "measure", "shown"),
    [
        (0.744, "progress", "+74"),
        (-0.744, "progress", "-74"),
        (0.0044, "progress", "+0.4"),
        (0.0, "progress", "0.0"),
        (math.nan, "progress", "-"),
        (0.0123456, "metric", "+0.0123"),
        (-1234.0, "metric", "-1.23e+03"),
        (0.0, "metric", "0"),
        (math.inf, "metric", "-"),
    ],
)
def test_a_difference_has_a_sign(value, measure, shown):
    assert told.gained(value, measure) == shown


def test_the_proof_is_told_with_what_is_known_of_it(cured, not_cured, crowded):
    assert told.difference(cured.proof) == "Mean difference +87 points of progress, 95 % interval +79 to +91."
    assert told.difference(not_cured.proof) == "Mean difference -0.142 of the metric, 95 % interval -0.63 to +0.35."
    assert told.difference(replace(cured.proof, low=math.nan)).endswith("without an interval.")
    assert told.difference(crowded.proof) == "No difference could be measured."
    assert "3.1 % of all proofs" in told.chance(cured.proof)
    assert told.chance(crowded.proof) == ""


def test_seeds_that_are_missing_or_alike_are_said(cured, not_cured):
    assert told.seeds(cured.proof) == "5 fresh seeds"
    assert told.seeds(not_cured.proof) == "4 fresh seeds of 5 planned"
    assert told.seeds(replace(cured.proof, distinct=3)) == "5 fresh seeds, 3 of them distinct"


def test_the_cost_is_told_where_it_was_measured(cured, not_cured):
    assert told.cost(cured.proof) == "Cost: 1.04 × the time of a step, 54,410 trainable parameters as before."
    assert told.cost(not_cured.proof) == "Cost: 54,410 → 55,000 trainable parameters (+1.1 %)."
    bare = replace(cured.proof, cost_per_step=math.nan, parameters_before=0, parameters_after=0)
    assert told.cost(bare) == ""


def test_endings_are_told_by_side(not_cured, cured):
    assert told.endings(not_cured.proof.pairs[2]) == "as treated: the loss was not finite any more"
    assert told.endings(cured.proof.pairs[0]) == ""
    assert told.ending("melted") == "melted"


def test_the_race_is_told_from_the_winner_down(cured):
    runs = told.runs(cured.race)
    assert runs[0].wins
    assert (runs[0].scores, runs[0].steps, runs[0].stage, runs[0].fate) == (
        "41 % → 66 % → 84 %",
        2000,
        "first choice",
        "won",
    )
    assert [run.name for run in runs[2:]] == ["SELU", "BatchNorm", "skip connections", "LSUV", "tuned", "as given"]
    assert runs[-2].fate == "lost: ended non-finite"
    assert told.race(cured.race) == f"8 candidates on 5 rungs: {cured.race.winner} won."


def test_a_race_of_lost_candidates_has_an_order_and_no_winner():
    entries = (Entry("a", math.nan), Entry("b", -math.inf), Entry("c", 0.1, lost="raised"), Entry("d", -0.5))
    race = Race((Rung(64, entries),))
    assert [run.name for run in told.runs(race)][:2] == ["d", "b"]
    assert told.race(race) == "4 candidates on 1 rung, and nobody won."


def test_effort_and_an_early_end_are_told(cured, not_cured):
    assert told.effort(cured.effort) == "48,200 training steps (24.1 × the plain training), 2 min 21 s, 2 workers"
    assert told.effort(Effort(1, 3.0, math.nan, 0, 2)) == "1 training step, 3.0 s, one process with 2 threads each"
    assert told.ended_early(cured) == ""
    assert told.ended_early(not_cured).startswith("Ended early: the time was used up. ")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(9.44, "9.4 s"), (61.0, "61 s"), (141.7, "2 min 21 s"), (7800.0, "2 h 10 min"), (math.nan, "-")],
)
def test_durations(seconds, shown):
    assert words.duration(seconds) == shown


def test_a_minus_sign_stands_before_numbers_only():
    assert words.minus("-0.5 (-1 to +2), 1e-4, non-finite, a -b") == "−0.5 (−1 to +2), 1e-4, non-finite, a -b"  # noqa: RUF001


def test_curves_are_told_in_a_sentence(cured, not_cured, crowded):
    assert told.curves(cured.curves).startswith("Training loss under seed 101: 2.3")
    assert "2.3 → 9, then not finite, as treated" in told.curves(not_cured.curves)
    assert "never finite as given" in told.curves(crowded.curves)


def test_names_that_are_numbers_say_what_they_are_on_both_sides(cured, sick):
    row = Row("3", "", -1.0, ("3", "4"))
    report = replace(
        cured,
        checkup=replace(sick, classes={"3": "Linear", "4": "Sigmoid"}),
        classes={"3": "Linear", "4": "ReLU"},
        remedies=(Prescription("ReLU", modules=("4", "head")),),
        budgets=Budgets(Waterfall((row,), -1.0), Waterfall((row,), -1.0)),
    )
    shown = readable_cure(report)
    assert shown.remedies[0].modules == ("4 (Sigmoid)", "head")
    assert shown.budgets.before.rows[0].name == "3 · Linear → Sigmoid"
    assert shown.budgets.after.rows[0].name == "3 · Linear → ReLU"
    assert readable_cure(shown) == shown
    assert readable_cure(replace(report, classes={})).budgets.after.rows[0].name == "3 · Linear → Sigmoid"


def test_a_saved_cure_is_shown_again_on_the_command_line(cured, tmp_path, capsys):
    path = save(cured, tmp_path / "cure.json")
    assert main(["report", str(path), "--out", str(tmp_path / "cure.html")]) == 0
    assert capsys.readouterr().out == to_text(cured, width=100)
    assert (tmp_path / "cure.html").read_text(encoding="utf-8") == to_html(cured)
    assert main(["report", str(path), "--json"]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")


def test_showing_a_saved_cure_does_not_wait_for_torch(cured, tmp_path):
    path = save(cured, tmp_path / "cure.json")
    program = (
        f"import sys; from graddoctor.show import load; str(load({str(path)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
