"""From a real examination to its report: every number of the report is one that was observed."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from graddoctor.diagnose.examine import examine
from graddoctor.recipe import Recipe
from graddoctor.show import from_json, to_json, to_text
from graddoctor.show.compose import compose
from graddoctor.show.html import to_html
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity

STEPS = 12


def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(16, 6, generator=generator), torch.randint(0, 3, (16,), generator=generator))] * 4


def build(activation=nn.Sigmoid, bias=0.0, width=8):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 3))
    nn.init.constant_(model[2].bias, bias)
    return model


def examined(model, *, rate=0.1, loss=nn.functional.cross_entropy):
    recipe = Recipe(
        model=model,
        loss=lambda net, batch: loss(net(batch[0]), batch[1]),
        batches=batches,
        optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=rate),
        epochs=3,
    )
    return examine(recipe, steps=STEPS, seconds=60, experiments=False)


@pytest.fixture(scope="module")
def sigmoid():
    return examined(build)


@pytest.fixture(scope="module")
def dead():
    return examined(partial(build, nn.ReLU, -100.0))


@pytest.fixture(scope="module")
def broken():
    return examined(build, loss=lambda logits, labels: nn.functional.cross_entropy(logits, labels) * math.nan)


@pytest.fixture(params=["sigmoid", "dead", "broken"])
def examination(request):
    return request.getfixturevalue(request.param)


def test_the_report_survives_json_and_every_face_can_show_it(examination):
    report = compose("net", "inconclusive", examination)
    assert to_json(from_json(to_json(report))) == to_json(report)
    assert to_text(report).startswith("INCONCLUSIVE  net: ")
    assert "Inconclusive" in to_html(report)


def test_the_budget_is_the_one_that_was_observed(sigmoid):
    budget, told = sigmoid.observation.start.budget, compose("net", "sick", sigmoid).budget
    assert [(row.name, row.decades) for row in told.rows] == [(row.name, row.decades) for row in budget.rows]
    assert told.total == budget.total == pytest.approx(math.fsum(row.decades for row in told.rows), abs=1e-9)
    assert told.signal_total == budget.signal.total
    assert told.by_kind == budget.by_kind()
    assert told.cut is None
    for row in told.rows:
        assert math.fsum(part.decades for part in row.parts) == pytest.approx(row.decades, abs=1e-6)


def test_several_losses_are_told_with_their_shares():
    def both(logits, labels):
        return nn.functional.cross_entropy(logits, labels) + 0.1 * logits.square().mean()

    examination = examined(build, loss=both)
    observed, report = examination.observation.start.budget.losses, compose("net", "sick", examination)
    assert [(one.name, one.share, one.modules) for one in report.budget.losses] == [
        (one.name, one.share, one.modules) for one in observed
    ]
    assert [one.name for one in observed] == ["cross_entropy", "pow"]
    assert f"cross entropy of 4 (Linear) {100 * observed[0].share:.0f} %" in to_text(report, width=200)


def test_numbers_are_told_with_what_they_are(sigmoid):
    blame = Blame(Cause.ACTIVATION, ("1", "3", "5"))
    told = Finding(Condition.VANISHING, Severity.CRITICAL, ("1", "3"), (blame,))
    report = compose("net", "sick", replace(sigmoid, findings=(told,)))
    assert report.classes == {"0": "Linear", "1": "Sigmoid", "2": "Linear", "3": "Sigmoid", "4": "Linear"}
    assert report.findings[0].modules == ("1", "3")
    assert report.headline.endswith("in 3 modules, first of all in 1 (Sigmoid).")
    text = to_text(report)
    assert "1 (Sigmoid), 3 (Sigmoid)" in text
    assert "2 - Linear -> Sigmoid" in text


def test_a_dead_layer_ends_the_chain(dead):
    report = compose("net", "sick", dead)
    cut = next(place for place, row in enumerate(report.budget.rows) if row.name == report.budget.cut)
    assert report.budget.cut_kind == "zero"
    assert [row.decades is None for row in report.budget.rows] == [
        place <= cut for place in range(len(report.budget.rows))
    ]
    assert any(event.text == "no unit is alive any more in 3 (ReLU)" for event in report.events)
    assert {(0, j) for j in range(len(report.heat.steps))} <= set(report.heat.zero_cells)
    assert [layer.start.dead for layer in report.activations] == [pytest.approx(0, abs=0.9), 1.0]


def test_nan_is_told_and_never_drawn(broken):
    report = compose("net", "sick", broken)
    assert report.losses.first_nonfinite == 0
    assert {event.text for event in report.events} >= {
        "first loss that is not finite",
        "first gradient that is not finite",
    }
    assert report.budget is None or report.budget.cut_kind == "nonfinite"


def test_curves_and_tables_are_the_observed_ones(sigmoid):
    report, seen = compose("net", "sick", sigmoid), sigmoid.observation
    assert report.losses.values == tuple(float(loss) for loss in seen.outcome.losses)
    assert report.losses.baseline == seen.yardstick.baseline
    assert report.heat.steps == tuple(look.step for look in seen.probes)
    assert report.heat.names[-1] == "output"
    assert report.heat.values[0][0] == pytest.approx(math.log10(seen.start.budget.rows[0].start_norm))
    first = next(reading for reading in seen.start.parameters if reading.name == "0.weight")
    assert report.updates.values[report.updates.names.index("0.weight")][0] == first.update / first.norm
    assert report.updates.names == ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias")
    assert [layer.kind for layer in report.activations] == ["sigmoid", "sigmoid"]
    assert (report.activations[0].start.step, report.activations[0].end.step) == (0, STEPS)
    assert report.activations[0].start.dead is None
    assert report.coverage.steps_seen == STEPS
    assert not report.coverage.experimented
    assert report.environment["torch"] == torch.__version__


def test_the_headline_goes_with_the_verdict(sigmoid):
    healthy = compose("net", "healthy", sigmoid).headline
    assert healthy.startswith("It learns: ")
    assert "%" in healthy
    assert "no cause was confirmed" in compose("net", "inconclusive", sigmoid).headline


def test_findings_come_most_severe_first(sigmoid):
    mild, bad = (Finding(Condition.PLATEAU, severity) for severity in (Severity.WARNING, Severity.CRITICAL))
    report = compose("net", "sick", replace(sigmoid, findings=(mild, bad), aborted="the time limit"))
    assert report.findings == (bad, mild)
    assert report.headline == "Plateau. And 1 finding more."
    assert report.coverage.aborted
    assert report.coverage.reason == "the time limit"
