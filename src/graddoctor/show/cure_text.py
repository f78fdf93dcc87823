"""The terminal's face of a cure: the verdict in the first line, what is changed, the proof, and what to paste."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from graddoctor.show import checkup_text, words
from graddoctor.show import cure_words as told
from graddoctor.show._terminal import QUIET, Page
from graddoctor.show.checkup_text import GAINED, LOST, ROWS
from graddoctor.show.cure import Budgets, CureReport, Evidence, PairedOutcome, Prescription, Race
from graddoctor.show.names import readable_cure
from graddoctor.show.report import Row, Waterfall
from graddoctor.show.thin import RowPair, pair_name, pair_rows

CANDIDATES = 20
"""Candidates of the race that a terminal shows; the rest fell on the first rung."""

_STYLES = {
    "sound": "bold green",
    "cured": "bold green",
    "not cured": "bold red",
    "interrupted": "bold yellow",
    "better": "bold green",
    "worse": "bold red",
    "no difference shown": "bold yellow",
}
_VALUE = 8

_FIRST_OWN = "\ndef treat_model("  # helpers stand before it


def lay_out(page: Page, report: CureReport) -> None:
    """Lay a cure out."""
    report = readable_cure(report)
    page.say((report.verdict.upper(), _STYLES[report.verdict]), f"  {report.title}: ", report.headline)
    page.say((f"{told.effort(report.effort)}.", QUIET))
    if report.aborted:
        page.say((told.ended_early(report), _STYLES["interrupted"]))
    _remedies(page, report)
    if report.proof is not None:
        _proof(page, report.proof)
    if report.race is not None and report.race.rungs:
        _race(page, report.race)
    page.sentences("Could not be trained", [f"{one.name}: {one.reason}" for one in report.failed])
    _budgets(page, report.budgets)
    if report.curves is not None:
        page.gap()
        page.say(told.curves(report.curves))
    _checkup(page, report)
    _code(page, report)


def _heading(page: Page, title: str, beside: str = "") -> None:
    page.gap()
    page.say((title, "bold"), f"  {beside}" if beside else "")


def _remedies(page: Page, report: CureReport) -> None:
    _heading(page, "What is changed")
    if not report.remedies:
        page.say(told.UNCHANGED[report.verdict], indent=3)
    for place, one in enumerate(report.remedies, start=1):
        _remedy(page, place, one)


def _remedy(page: Page, place: int, one: Prescription) -> None:
    page.hanging(f"{place:>3}. ", one.name, "bold")
    if one.causes:
        page.labelled("against", told.causes(one))
        page.say((told.why(one), QUIET), indent=11)
    if one.modules:
        page.labelled("where", page.names(one.modules))
    if one.source:
        page.labelled("source", one.source)
    page.labelled("cost", one.cost or "nothing")


def _proof(page: Page, proof: Evidence) -> None:
    _heading(page, "Proof", f"{told.seeds(proof)}; {proof.measure}, higher is better")
    page.say((words.begun(proof.verdict), _STYLES[proof.verdict]), f": {proof.sentence}" if proof.sentence else "")
    if proof.name:
        page.labelled("of", proof.name)
    if proof.pairs:
        page.table(
            ("seed", told.GIVEN, told.TREATED, told.gain(proof.measure), ""),
            [_pair(pair, proof) for pair in proof.pairs],
            numbers=(0, 1, 2, 3),
        )
    for sentence in filter(None, (told.difference(proof), told.chance(proof), told.cost(proof))):
        page.say(sentence, indent=3)


def _pair(pair: PairedOutcome, proof: Evidence) -> Sequence[str | tuple[str, str]]:
    style = "green" if pair.difference > 0 else "red" if pair.difference < 0 else ""
    return (
        f"{pair.seed}",
        told.measured(pair.before, proof.measure),
        told.measured(pair.after, proof.measure),
        (told.gained(pair.difference, proof.measure), style),
        (told.endings(pair), QUIET),
    )


# --- the race --------------------------------------------------------------------------------------------------------


def _race(page: Page, race: Race) -> None:
    _heading(page, "Race", told.race(race))
    runs = told.runs(race)
    page.table(
        ("candidate", f"{race.measure} by rung", "steps", "stage", ""),
        [_run(run) for run in runs[:CANDIDATES]],
        numbers=(2,),
    )
    if len(runs) > CANDIDATES:
        page.say((f"and {len(runs) - CANDIDATES} more, which got no further", QUIET), indent=3)


def _run(run: told.Run) -> Sequence[str | tuple[str, str]]:
    style = "bold green" if run.wins else ""
    return (
        (run.name, style),
        (run.scores, style),
        (f"{run.steps:,}", style),
        (run.stage, QUIET),
        (run.fate, style or QUIET),
    )


# --- the budgets -----------------------------------------------------------------------------------------------------


def _budgets(page: Page, budgets: Budgets) -> None:
    if budgets.single is not None:
        page.gap()
        checkup_text.budget(page, budgets.single)
    if budgets.both is None:
        return
    before, after = budgets.both
    _heading(page, "Gradient budget", "decades gained (+) or lost (-), from the loss back to the input")
    page.say(told.budgets(budgets))
    _beside(page, pair_rows(before.rows, after.rows, ROWS)[::-1], before, after)


def _beside(page: Page, pairs: Sequence[RowPair], before: Waterfall, after: Waterfall) -> None:
    names = list(map(pair_name, pairs))
    names = [page.clean(name) for name in words.fitted(names, max(page.width // 3, 16))]
    width = max(map(len, names))
    room = max((page.width - width - 4 - 2 * (_VALUE + 2)) // 2, 0)
    scale = max((abs(row.decades) for pair in pairs for row in pair if row and row.decades), default=1.0)
    side = _VALUE + 1 + room
    page.console.print(Text(f"  {'':<{width}}{told.GIVEN:>{_VALUE + 1}}".ljust(width + 3 + side), QUIET), end="")
    page.console.print(Text(f"{told.TREATED:>{_VALUE + 2}}", QUIET), soft_wrap=True)
    for name, (one, other) in zip(names, pairs, strict=True):
        line = Text(f"  {name:<{width}} ")
        line.append_text(_side(page, one, before, room, scale)).pad_right(max(width + 4 + side - len(line), 0))
        line.append_text(_side(page, other, after, room, scale)).rstrip()
        page.console.print(line, soft_wrap=True)
    totals = [words.signed(one.total) for one in (before, after)]
    total = f"  {'total':<{width}} {totals[0]:>{_VALUE}}".ljust(width + 4 + side) + f"{totals[1]:>{_VALUE}}"
    page.console.print(Text(total, "bold"), soft_wrap=True)


def _side(page: Page, row: Row | None, waterfall: Waterfall, room: int, scale: float) -> Text:
    if row is None:
        return Text(f"{'':>{_VALUE}}")
    cuts = row.name == waterfall.cut
    side = Text(f"{words.row_value(row, waterfall):>{_VALUE}} ", "bold red" if cuts else "")
    if row.decades is not None:
        side.append(page.bar(abs(row.decades) / scale * room), LOST if row.decades < 0 else GAINED)
    return side


# --- the end ---------------------------------------------------------------------------------------------------------


def _checkup(page: Page, report: CureReport) -> None:
    checkup = report.checkup
    _heading(page, "The checkup before", f"{checkup.verdict}: {checkup.headline}")
    checkup_text.findings(page, checkup)


def _code(page: Page, report: CureReport) -> None:
    """The patch, and what the functions that it calls do; their helpers stand in the file that is written."""
    if report.diff.strip():
        _heading(page, "What to change in your file")
        page.code(report.diff, "diff")
    if report.source.strip():
        _heading(page, "The treated parts, as plain PyTorch (--out treated.py writes all of it)")
        page.code(report.source[max(0, report.source.find(_FIRST_OWN)) :].lstrip(), "python")
