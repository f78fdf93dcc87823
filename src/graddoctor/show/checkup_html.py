"""The page of a checkup."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import attention as table
from graddoctor.show import charts, time_charts, words
from graddoctor.show._axes import states
from graddoctor.show._page import Detail, Figure, alone, figure, quick, rendered
from graddoctor.show.ledger import ledger
from graddoctor.show.names import readable
from graddoctor.show.palette import PAGE
from graddoctor.show.report import Report
from graddoctor.show.thin import pick, thin_heat, thin_losses, thin_updates


def page(report: Report, detail: Detail) -> str:
    """Give a checkup as a page."""
    report = readable(report)
    with quick():
        figures = alone(list(_figures(report, detail)))
    budget = report.budget
    return rendered(
        "report.html.j2",
        figures,
        report=report,
        words=words,
        attention=table,
        ledger=None if budget is None or not budget.rows else ledger(budget, detail.rows, detail.parts),
    )


def _figures(report: Report, detail: Detail) -> Iterator[Figure]:
    if report.losses is not None and report.losses.steps:
        chart = charts.loss_chart(thin_losses(report.losses, detail.points), report.events[:50], PAGE)
        notes = tuple(f"Step {event.step}: {event.text}" for event in report.events[:50])
        caption = "A network below the dashed line has learned more than a constant answer."
        yield figure("loss", "Loss", chart, f"{words.loss(report.losses)} {caption}", notes=notes)
    if report.heat is not None and report.heat.names and report.heat.steps:
        chart = charts.heat_chart(thin_heat(report.heat, detail.names, detail.steps), PAGE)
        caption = (
            "Depth by step, the loss at the top, the input at the bottom. Even colour means that all layers learn; "
            "a fade towards the bottom means that the first ones do not."
        )
        yield figure("heat", "Gradient over depth and time", chart, caption)
    yield from _through_time(report)
    layers = [report.activations[i] for i in pick(len(report.activations), detail.layers)]
    if any(state.shares for layer in layers for _, state in states(layer)):
        chart = charts.distribution_chart(layers, PAGE)
        caption = (
            "What each layer puts out, at the start and at the end. Heights are roots of densities: tails show too."
        )
        yield figure("distributions", "Activations", chart, caption, narrow=True)
    if any((state.dead, state.saturated) != (None, None) for layer in layers for _, state in states(layer)):
        chart = charts.saturation_chart(layers, PAGE)
        caption = "Saturated values and dead units pass no gradient. Bars when last seen, ticks at the start."
        yield figure("saturation", "Saturated and dead", chart, caption, narrow=True)
    if report.updates is not None and any(value is not None for row in report.updates.values for value in row):
        chart = charts.update_chart(thin_updates(report.updates, detail.names // 2, detail.steps), PAGE)
        low, high = (words.power(edge) for edge in report.updates.band)
        caption = (
            f"How far one step moves each parameter, relative to its size. Most healthy trainings stay between {low} "
            f"and {high}; far below, nothing is learned; far above, nothing is kept."
        )
        yield figure("updates", "Update-to-weight ratio", chart, caption)


def _through_time(report: Report) -> Iterator[Figure]:
    if not any(profile.decades for one in report.through_time for profile in (one.start, one.end) if profile):
        return
    chart = time_charts.lag_chart(report.through_time, PAGE)
    caption = (
        "What is left of a gradient that enters at the last time step, so many steps before it. A line that falls fast "
        "is a network that cannot learn from what lies further back."
    )
    notes = tuple(words.through_time(one) for one in report.through_time[: time_charts.MOST])
    yield figure("lag", "Gradient through time", chart, caption, notes=notes)
    if any(profile.gates for one in report.through_time for profile in (one.start, one.end) if profile):
        chart = time_charts.gate_chart(report.through_time, PAGE)
        caption = "A state is kept as far as the forget gate (LSTM) or the update gate (GRU) is open, step after step."
        yield figure("gates", "Gates over time", chart, caption)
