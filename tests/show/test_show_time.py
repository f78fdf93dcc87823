"""The gradient through time in every face of a report: what was read, nothing else, and its absence."""

import json
import math
from dataclasses import replace

import pytest
import torch
import vl_convert
from torch import nn

from graddoctor.diagnose.examine import examine
from graddoctor.observe import Probe, probe
from graddoctor.observe import through_time as look_through_time
from graddoctor.recipe import Recipe
from graddoctor.show import from_json, time_charts, to_json, to_markdown, to_text, words
from graddoctor.show.compose import compose
from graddoctor.show.compose_time import through_time
from graddoctor.show.html import to_html
from graddoctor.show.notebook import notebook_html
from graddoctor.show.palette import DARK, LIGHT, PAGE
from graddoctor.show.report import LagProfile, ThroughTime


def loss(net, x):
    return net(x)[0][-1].square().sum()


@pytest.fixture(scope="module")
def looks():
    """A look at the start, and one with the forget gates open."""
    torch.manual_seed(0)
    net, x = nn.LSTM(3, 8, 2, bidirectional=True), torch.randn(30, 4, 3)
    first = probe(net, loss, [x], step=0, through_time=True)
    with torch.no_grad():
        for name, bias in net.named_parameters():
            if name.startswith("bias_ih"):
                bias[8:16] = 4.0
    return first, probe(net, loss, [x], step=50, through_time=True)


@pytest.fixture(scope="module")
def recurrences(looks):
    return tuple(through_time(looks))


@pytest.fixture(scope="module")
def recurrent(recurrences, healthy):
    return replace(healthy, through_time=recurrences)


def test_every_number_is_one_that_was_read(looks, recurrences):
    for one, first, last in zip(recurrences, looks[0].temporal, looks[1].temporal, strict=True):
        assert (one.name, one.kind, one.steps) == (first.name, "lstm", 30)
        assert (one.start.step, one.end.step) == (0, 50)
        assert one.start.total == first.decades == pytest.approx(one.start.decades[-1])
        assert one.end.horizon_1 == last.horizon_1
        assert one.start.lags == tuple(range(30))
        assert one.end.gates == dict(last.gates)


def test_a_long_sequence_is_kept_in_part():
    look = Probe(0, 1.0, None, temporal=look_through_time(nn.GRU(2, 3), loss, torch.randn(900, 1, 2)))
    (one,) = through_time([look])
    assert (one.steps, len(one.start.lags), one.start.lags[-1], one.start.times[-1]) == (900, 400, 899, 899)


def test_probes_that_did_not_look_through_time_show_nothing(looks, healthy):
    assert tuple(through_time([replace(look, temporal=()) for look in looks])) == ()
    for face in (to_text(healthy), to_markdown(healthy), to_html(healthy)):
        assert "hrough time" not in face
    assert json.loads(to_json(healthy))["through_time"] == []


def test_a_report_of_before_has_none(healthy):
    data = json.loads(to_json(healthy))
    del data["through_time"]
    assert from_json(json.dumps(data)).through_time == ()


@pytest.mark.parametrize("palette", [LIGHT, DARK, PAGE])
def test_charts_can_be_drawn(recurrences, palette):
    for chart in (time_charts.lag_chart(recurrences, palette), time_charts.gate_chart(recurrences, palette)):
        assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())


def test_the_lines_and_marks_of_the_lag_chart(recurrences):
    tables = json.loads(time_charts.lag_chart(recurrences[:1]).to_json())["datasets"].values()
    points = [row for table in tables for row in table if "left" in row and "mark" not in row and "lag" in row]
    marks = {(row["when"], row["left"], row["lag"]) for table in tables for row in table if "mark" in row}
    start = [(row["lag"], row["left"]) for row in points if row["when"] == "start"]
    assert start == [(lag, pytest.approx(left, rel=1e-3)) for lag, left in enumerate(recurrences[0].start.decades)]
    assert ("start", -1, recurrences[0].start.horizon_1) in marks
    assert ("start", -3, recurrences[0].start.horizon_3) in marks


def test_what_is_zero_or_not_finite_is_not_drawn():
    profile = LagProfile(0, (0, 1, 2), (0.0, None, None), 0.0, 0.0, 1, 1)
    chart = time_charts.lag_chart([ThroughTime("rnn", "rnn", "rnn_relu", "hidden", 3, profile)])
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())
    empty = LagProfile(0, (0,), (None,), math.nan, 0.0)
    time_charts.lag_chart([ThroughTime("rnn", "rnn", "rnn_relu", "hidden", 1, empty)]).to_dict()


def test_words_say_how_much_is_left_and_what_training_made_of_it(recurrences):
    one = recurrences[0]
    told = words.through_time(one)
    assert told.startswith(f"In lstm layer 0 (LSTM, 30 steps) at the start the gradient loses {-one.start.total:.1f} ")
    assert f"down to a tenth after {one.start.horizon_1}, a thousandth after {one.start.horizon_3} steps" in told
    assert "; at the end" in told
    assert "no lag" in words.through_time(replace(one, start=LagProfile(0, (0,), (0.0,), 0.0, 0.0), end=None))
    assert words.through_time(replace(one, start=None, end=None)).endswith("nothing was measured.")
    noted = replace(one, end=None, start=replace(one.start, notes=("the graph grows",)))
    assert words.through_time(noted).endswith("The graph grows.")


def test_every_face_shows_it(recurrent):
    for face in (to_text(recurrent), to_markdown(recurrent)):
        assert "Through time" in face
        assert face.count("LSTM, 30 steps") == len(recurrent.through_time)
    page = to_html(recurrent)
    assert "Gradient through time" in page
    assert "Gates over time" in page
    assert from_json(to_json(recurrent)) == recurrent


def test_a_module_with_a_number_for_a_name_is_told_with_its_class(recurrent):
    one = replace(recurrent.through_time[1], name="3 layer 1", module="3")
    report = replace(recurrent, through_time=(one,), classes={"3": "LSTM"})
    assert "3 (LSTM) layer 1 (LSTM, 30 steps)" in to_text(report)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def examined(model):
    recipe = Recipe(
        model=model,
        loss=lambda net, batch: nn.functional.cross_entropy(net(batch[0]), batch[1]),
        batches=[(torch.randn(8, 5, 3), torch.randint(0, 2, (8,)))] * 4,
        optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=0.1),
    )
    return compose("net", "healthy", examine(recipe, steps=4, seconds=60, experiments=False))


def test_an_examination_looks_through_time_where_a_state_is_carried():
    (reading,) = examined(Tagger).through_time
    assert (reading.name, reading.kind, reading.steps) == ("rnn", "gru", 5)
    assert (reading.start.step, reading.end.step) == (0, 4)
    assert examined(lambda: nn.Sequential(nn.Flatten(), nn.Linear(15, 2))).through_time == ()


def test_every_face_says_how_much_is_left(recurrent):
    told = "In lstm layer 0 (LSTM, 30 steps) at the start the gradient loses"
    for face in (to_markdown, to_html, notebook_html):
        assert told in face(recurrent)
    assert told in " ".join(to_text(recurrent).split())
