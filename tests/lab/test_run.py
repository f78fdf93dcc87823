"""Running experiments: all runs, wherever they take place, whatever fails."""

import sys

import pytest
import torch

import graddoctor as gd
from graddoctor import lab
from graddoctor.errors import GraddoctorError
from lab_toys import broken, extra, measure, toy


def test_every_arm_is_run_with_every_seed():
    seen = []
    report = lab.run(toy(), workers=0, progress=lambda *told: seen.append(told))
    (one,) = report.experiments
    assert (one.seeds, one.runs, one.verdict) == (3, 9, "reproduced")
    assert [told[1:3] for told in seen] == [(done, 9) for done in range(10)]
    assert report.exit_code == 0
    quick = lab.run(toy(), quick=True, workers=0)
    assert (quick.experiments[0].seeds, quick.experiments[0].runs) == (2, 4)
    assert lab.run(toy(), quick=True, seeds=4, workers=0).experiments[0].runs == 8


def test_seeds_draw_anew_and_the_callers_state_stays():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (lab.run(toy(), workers=0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.experiments[0].answers == second.experiments[0].answers
    assert len(set(first.experiments[0].answers[1].each)) == 3


def test_processes_give_the_same_numbers():
    here, there = lab.run(toy(), toy("other"), workers=0), lab.run(toy(), toy("other"), workers=2)
    assert [one.answers for one in here.experiments] == [one.answers for one in there.experiments]
    assert [one.charts for one in here.experiments] == [one.charts for one in there.experiments]


def test_an_experiment_that_fails_costs_none_of_the_others():
    report = lab.run(toy(), toy("broken", measure=broken), toy("bare", measure=extra), workers=0)
    sound, failed, bare = report.experiments
    assert sound.verdict == "reproduced"
    assert (failed.verdict, failed.failed) == ("inconclusive", "ValueError: no such depth")
    assert bare.failed == "nothing is installed: run  pip install something"
    assert report.verdict == "different"
    assert report.exit_code == 1


def test_a_question_that_cannot_be_answered_is_told_with_its_experiment():
    wrong = toy("wrong", questions=(lab.Question("What?", lambda table: table.of("lost"), above=0),))
    report = lab.run(wrong, toy(), workers=0)
    assert "must name one arm" in report.experiments[0].failed
    assert report.experiments[1].verdict == "reproduced"


def test_ctrl_c_keeps_what_is_finished():
    def interrupted(**arm):
        raise KeyboardInterrupt

    report = lab.run(toy(), toy("late", measure=interrupted), workers=0)
    assert [one.name for one in report.experiments] == ["toy"]
    assert report.missing == ("late",)
    assert report.exit_code == 1


def test_a_verdict_that_was_not_foreseen_is_told():
    report = lab.run(toy(verdict="not reproduced"), workers=0)
    assert (report.verdict, report.exit_code) == ("different", 1)
    assert "foreseen: not reproduced" in str(
        lab.run(*[toy(f"toy{i}", verdict="not reproduced") for i in range(4)], workers=0)
    )


def test_the_same_experiment_is_run_once():
    assert len(lab.run(toy(), toy(), workers=0).experiments) == 1


@pytest.mark.parametrize("seeds", [1, 0, -3])
def test_one_seed_has_no_interval(seeds):
    with pytest.raises(GraddoctorError, match="at least 2"):
        lab.run(toy(), seeds=seeds, workers=0)


def test_names_are_found_and_others_are_refused(monkeypatch):
    running = sys.modules["graddoctor.lab.run"]
    monkeypatch.setattr(running, "EXPERIMENTS", (toy(), toy("other")))
    assert running.find("Toy ").name == "toy"
    assert [one.name for one in lab.run(workers=0).experiments] == ["toy", "other"]
    with pytest.raises(GraddoctorError, match="no experiment 'toi': did you mean toy"):
        lab.run("toi")


def test_a_measure_of_the_users_own_travels():
    def local(seed, depth, kind):
        return {**measure(seed, depth, kind), "lost": float(len(gd.__version__))}

    (one,) = lab.run(toy(measure=local), workers=1).experiments
    assert one.failed == ""
    assert one.charts[0].marks[0].y == len(gd.__version__)


def test_what_cannot_travel_is_measured_here(tmp_path):
    with (tmp_path / "file").open("w") as file:
        here = toy(measure=lambda seed, depth, kind: {**measure(seed, depth, kind), "lost": file.fileno()})
        assert lab.run(here, workers=2).experiments[0].failed == ""
