"""Names as people read them: beside a name that ends in a number stands what it is.

``nn.Sequential`` names its modules by numbers. In reports they keep those names, under which ``named_modules`` knows
them; every face shows ``"17 · Linear → Tanh"`` for a row and ``"17 (Linear)"`` in running text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from graddoctor.show.cure import Budgets, CureReport
from graddoctor.show.report import HeatMap, LayerActivation, Part, Report, Row, ThroughTime, Waterfall
from graddoctor.terms import Finding

BESIDE, THEN, BECAME, MORE = " · ", " → ", " » ", "…"
_MOST = 3  # classes that a row names

Classes = Mapping[str, str]


def readable(report: Report) -> Report:
    """Give a report whose names say what they stand for: for showing, not for keeping."""
    classes = report.classes
    if not any(map(_numbered, classes)):
        return report
    rows = {} if report.budget is None else {row.name: _title(row, classes) for row in report.budget.rows}
    return replace(
        report,
        findings=tuple(told(finding, classes) for finding in report.findings),
        notes=tuple(told(note, classes) for note in report.notes),
        budget=readable_budget(report.budget, classes),
        heat=None if report.heat is None else _heat(report.heat, rows),
        activations=tuple(_layer(layer, classes) for layer in report.activations),
        through_time=tuple(_recurrence(one, classes) for one in report.through_time),
        attention=tuple(replace(layer, name=_beside(layer.name, classes)) for layer in report.attention),
        classes={},
    )


def readable_cure(report: CureReport) -> CureReport:
    """Give a report of a cure whose names say what they stand for; what was not changed goes by the given network."""
    given = report.checkup.classes
    treated = report.classes or given
    budgets = report.budgets
    return replace(
        report,
        checkup=readable(report.checkup),
        remedies=tuple(
            replace(one, modules=tuple(called(module, given) for module in one.modules)) for one in report.remedies
        ),
        budgets=Budgets(readable_budget(budgets.before, given), readable_budget(budgets.after, treated)),
        classes={},
    )


def readable_budget(budget: Waterfall | None, classes: Classes) -> Waterfall | None:
    """Name the rows of a budget as people read them."""
    if budget is None or not any(map(_numbered, classes)):
        return budget
    return _waterfall(budget, {row.name: _title(row, classes) for row in budget.rows}, classes)


def called(name: str, classes: Classes) -> str:
    """Name a module in running text: ``"17 (Linear)"``; as it is where its name says enough, or nothing is known."""
    return f"{name} ({classes[name]})" if _numbered(name) and name in classes else name


def told(finding: Finding, classes: Classes) -> Finding:
    """Name the modules of a finding as people read them."""

    def names(modules: Sequence[str]) -> tuple[str, ...]:
        return tuple(called(module, classes) for module in modules)

    causes = tuple(replace(blame, modules=names(blame.modules)) for blame in finding.causes)
    return replace(finding, modules=names(finding.modules), causes=causes)


def trimmed(name: str, width: int) -> str:
    """Say less beside a name that is too long: ``"17 · Linear → …"``, or nothing; the name itself stays whole."""
    head, beside, rest = name.partition(BESIDE)
    before, changed, after = rest.partition(BECAME)
    if changed and len(name) > width:
        name = head + BESIDE + MORE + BECAME + after
    kinds = before.removesuffix(THEN + MORE).split(THEN) if beside else []
    while kinds and len(name) > width:
        kinds.pop()
        name = head + BESIDE + THEN.join([*kinds, MORE]) if kinds else head
    return name


def became(before: str | None, after: str | None) -> str:
    """Name the same row of two budgets: ``"17 · Linear → Sigmoid » ReLU"`` where its classes have changed."""
    if before is None or after is None or before == after:
        return before or after or ""
    one, other = (name.partition(BESIDE)[2].split(THEN) for name in (before, after))
    changed = [new for old, new in zip(one, other, strict=True) if old != new] if len(one) == len(other) else other
    return before + BECAME + THEN.join(changed)


def _numbered(name: str) -> bool:
    return name.rpartition(".")[2].isdecimal()


def _title(row: Row, classes: Classes) -> str:
    """Name a row: what its own module is, and what follows that one in the row."""
    own = re.sub(r" \(\d+\)$", "", row.name)  # a module that runs again has a number behind its name
    if not _numbered(own) or own not in classes:
        return row.name
    places = {name: place for place, name in enumerate(classes)}
    after = [name for name in row.modules if places.get(name, -1) > places[own] and not name.startswith(f"{own}.")]
    kinds = [classes[own], *(classes[name] for name in sorted(after, key=places.__getitem__))]
    return row.name + BESIDE + THEN.join([*kinds[:_MOST], *([MORE] if len(kinds) > _MOST else [])])


def _beside(name: str, classes: Classes) -> str:
    return f"{name}{BESIDE}{classes[name]}" if _numbered(name) and name in classes else name


def _waterfall(budget: Waterfall, titles: Mapping[str, str], classes: Classes) -> Waterfall:
    return replace(
        budget,
        rows=tuple(
            replace(
                row,
                name=titles[row.name],
                modules=tuple(called(module, classes) for module in row.modules),
                parts=tuple(_part(part, classes) for part in row.parts),
            )
            for row in budget.rows
        ),
        cut=None if budget.cut is None else titles.get(budget.cut, budget.cut),
        losses=tuple(
            replace(one, modules=tuple(called(module, classes) for module in one.modules)) for one in budget.losses
        ),
    )


def _part(part: Part, classes: Classes) -> Part:
    return replace(part, name=_beside(part.name, classes), parts=tuple(_part(inner, classes) for inner in part.parts))


def _heat(heat: HeatMap, titles: Mapping[str, str]) -> HeatMap:
    return replace(heat, names=tuple(titles.get(name, name) for name in heat.names))


def _recurrence(one: ThroughTime, classes: Classes) -> ThroughTime:
    behind = one.name.removeprefix(one.module)
    return replace(one, name=called(one.module, classes) + behind) if one.module else one


def _layer(layer: LayerActivation, classes: Classes) -> LayerActivation:
    return replace(layer, name=_beside(layer.name, classes))
