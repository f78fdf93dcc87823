"""The page of the lab."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from graddoctor.show import lab_words as told
from graddoctor.show import words
from graddoctor.show._page import Detail, Figure, figure, quick, rendered
from graddoctor.show.lab import Answer, LabReport, Mark, Tried
from graddoctor.show.lab_charts import lab_chart, panels
from graddoctor.show.palette import PAGE
from graddoctor.show.thin import pick

_ROOM = 100.0  # units across a whisker


@dataclass(frozen=True)
class Whisker:
    """An interval beside its bound, in hundredths of the room that there is."""

    low: float
    mean: float
    high: float
    bound: float


def page(report: LabReport, detail: Detail) -> str:
    """Give experiments as a page."""
    with quick():
        drawn = {one.name: list(_figures(one, detail)) for one in report.experiments}
    figures = [one for several in drawn.values() for one in several]
    return rendered("lab.html.j2", figures, report=report, drawn=drawn, words=words, told=told, whisker=whisker)


def _figures(one: Tried, detail: Detail) -> Iterator[Figure]:
    for place, whole in enumerate(one.charts):
        split = panels(whole)
        for at, (name, chart) in enumerate(split):
            thinned = _thinned(chart.marks, detail.points)
            title = words.begun(f"{name}: {whole.y_title}" if name else whole.y_title)
            caption = (
                "Mean over the seeds; the shade, or the line across a bar, reaches from the lowest to the highest."
            )
            if any(mark.expected is not None for mark in chart.marks):
                caption += " Dashed: what theory expects."
            shown = lab_chart(replace(chart, marks=thinned), whole, PAGE)
            heard = "; ".join(", ".join(row) for row in told.table(chart, 6)[1][:8])
            yield figure(
                f"{one.name}-{place}-{at}", title, shown, caption, told=f"Means: {heard}.", narrow=len(split) > 1
            )


def _thinned(marks: tuple[Mark, ...], points: int) -> tuple[Mark, ...]:
    lines: dict[str, list[Mark]] = {}
    for mark in marks:
        lines.setdefault(mark.by, []).append(mark)
    room = max(points // max(len(lines), 1), 2)
    return tuple(line[i] for line in lines.values() for i in pick(len(line), room))


def whisker(answer: Answer) -> Whisker | None:
    """Place an interval and its bound on a line; nothing where a number is not finite."""
    numbers = [answer.low, answer.mean, answer.high, answer.bound, 0.0]
    if not all(abs(number) < float("inf") for number in numbers):
        return None
    low, high = min(numbers), max(numbers)
    span = (high - low) or 1.0
    return Whisker(*(round(4 + (_ROOM - 8) * (number - low) / span, 2) for number in numbers[:4]))
