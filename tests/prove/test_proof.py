"""What pairs of outcomes say: the verdict, its error, the interval, and what counts as a pair."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from graddoctor.prove.proof import BETTER, ERROR, WORSE, interval, prove, sign_flip
from graddoctor.prove.task import Result

SEEDS = range(101, 200)


def result(value, metric=None, *, digest=None, **more):
    digest = f"{value} {metric}" if digest is None else digest
    return Result(
        **{"progress": value, "loss": 0.1, "metric": metric, "steps": 10, "seconds": 1.0, **more}, digest=digest
    )


def lost(metric=None, ended="non-finite", digest="lost"):
    return Result(loss=math.inf, metric=metric, ended=ended, steps=10, seconds=1.0, digest=digest)


def proof_of(differences, start=0.2, **more):
    before = [result(start + k * 1e-3) for k in range(len(differences))]
    after = [result(b.progress + d) for b, d in zip(before, differences, strict=True)]
    return prove(before, after, SEEDS[: len(before)], **more)


def by_metric(before, after):
    results = [
        [one if isinstance(one, Result) else result(0.5, one, digest=f"{side} {k}") for k, one in enumerate(ones)]
        for side, ones in enumerate((before, after))
    ]
    return prove(*results, SEEDS[: len(before)])


# --- the verdict


def test_five_gains_of_five_are_better():
    proof = proof_of([0.3, 0.4, 0.2, 0.5, 0.3])
    assert proof.verdict == "better"
    assert proof.error == 1 / 32
    assert proof.mean == pytest.approx(0.34)
    assert proof.low > 0
    assert proof.distinct == 5
    assert [pair.seed for pair in proof.pairs] == list(range(101, 106))
    assert proof.sentence == "All 5 pairs gained."


@pytest.mark.parametrize("spoilt", [-0.1, 0.0, -1e-9])
def test_one_that_does_not_gain_leaves_it_open(spoilt):
    proof = proof_of([0.3, 0.4, 0.2, 0.5, spoilt])
    assert proof.verdict == "no difference shown"
    assert proof.error == 2 / 32
    what = "lost" if spoilt == -0.1 else "did not differ"
    assert proof.sentence == f"Of 5 pairs, 4 gained, 1 {what}."


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_than_five_prove_nothing_and_say_so(count):
    proof = proof_of([0.8] * count, planned=5)
    assert proof.verdict == "no difference shown"
    assert "Fewer than 5 distinct pairs prove nothing." in proof.sentence
    assert proof.planned == 5


def test_worse_takes_six():
    five, six = proof_of([-0.1] * 5), proof_of([-0.1, -0.12] * 3)
    assert (five.verdict, six.verdict) == ("no difference shown", "worse")
    assert "that takes 6" in five.sentence
    assert six.error == 1 / 64


def test_the_shares_of_the_error_add_up_for_any_number_of_pairs():
    assert pytest.approx(ERROR) == BETTER + WORSE
    for count in range(1, 12):
        signs = np.array(list(itertools.product((-1, 1), repeat=count)))
        sizes = np.arange(1, count + 1) / 100
        claimed = [proof_of(list(row)).verdict != "no difference shown" for row in signs * sizes]
        assert np.mean(claimed) <= ERROR


def test_no_pair_at_all():
    proof = prove([], [], [])
    assert proof.verdict == "no difference shown"
    assert math.isnan(proof.mean)
    assert proof.distinct == 0
    assert proof.sentence == "No pair was run."


def test_a_pair_that_misses_a_side_is_left_out():
    before = [result(0.1), None, result(0.12)]
    after = [result(0.5), result(0.6), result(0.7)]
    assert [pair.seed for pair in prove(before, after, [7, 8, 9]).pairs] == [7, 9]


# --- what is compared


def test_the_metric_decides_where_every_network_has_one():
    before = [result(0.1 + k / 100, 0.9 + k / 1000) for k in range(5)]
    after = [result(0.9 + k / 100, 0.5 + k / 1000) for k in range(5)]
    assert prove(before, after, range(5)).measure == "metric"
    assert prove(before, after, range(5)).mean == pytest.approx(-0.4)
    mixed = [*before[:4], result(0.14)]
    assert prove(mixed, after, range(5)).measure == "progress"
    with_lost = [*before[:4], lost()]
    assert prove(with_lost, after, range(5)).measure == "metric"


def test_all_lost_is_no_difference_of_progress():
    proof = prove([lost()] * 5, [lost(ended="failed")] * 5, range(5))
    assert (proof.measure, proof.verdict, proof.mean) == ("progress", "no difference shown", 0.0)


def test_a_metric_that_never_is_a_number_leaves_progress():
    proof = prove([result(0.1 + k / 1000, math.nan) for k in range(5)], [result(0.9, math.nan)] * 5, range(5))
    assert (proof.measure, proof.mean) == ("progress", pytest.approx(0.798))


def test_runs_that_diverged_count_as_the_worst():
    proof = prove([lost() for _ in range(5)], [result(0.01 + k / 1000) for k in range(5)], range(5))
    assert proof.verdict == "better"
    assert proof.mean == pytest.approx(0.012)
    assert "5 of 5 runs as given gave no usable network." in proof.sentence


@pytest.mark.parametrize(
    "gone", [lost(), lost(math.nan), lost(0.1), lost(0.95), result(0.5, math.nan), result(0.5, -math.inf)]
)
def test_a_lost_metric_is_below_every_other(gone):
    proof = by_metric([gone] * 5, [0.9, 0.901, 0.902, 0.3, 0.9])
    assert proof.measure == "metric"
    assert all(pair.difference >= 0 for pair in proof.pairs)
    assert min(pair.difference for pair in proof.pairs) == {0.1: pytest.approx(0.2), 0.95: 0.0}.get(gone.metric, 0.3)


def test_a_lost_metric_is_worst_where_metrics_are_negative():
    proof = by_metric([lost()] * 5, [-3.0, -2.5, -2.0, -1.0, -0.5])
    assert min(pair.difference for pair in proof.pairs) == 3.0
    assert proof.verdict == "better"


def test_two_lost_runs_do_not_differ_whatever_their_metric():
    proof = by_metric([lost(0.1), 0.5, 0.6], [lost(0.4), 0.7, 0.8])
    assert proof.pairs[0].difference == 0.0


# --- what counts as a pair


def test_identical_runs_do_not_differ():
    same = result(0.5, 0.7, digest="same")
    proof = prove([same] * 5, [replace(same, metric=0.8)] * 5, range(5))
    assert [pair.difference for pair in proof.pairs] == [0.0] * 5
    assert (proof.distinct, proof.verdict) == (1, "no difference shown")


def test_seeds_that_drew_the_same_count_once():
    before, after = [result(0.1)] * 5, [result(0.5)] * 5
    proof = prove(before, after, range(5))
    assert (proof.distinct, proof.error, proof.verdict) == (1, 0.5, "no difference shown")
    assert "4 drew the same as another and count once with it." in proof.sentence
    assert math.isinf(proof.high)
    twice = prove([result(0.1 + k / 100) for k in (0, 1, 2, 3, 4, 4)], [result(0.5)] * 6, range(6))
    assert (twice.distinct, twice.verdict) == (5, "better")
    assert "1 drew the same as another and counts once with it." in twice.sentence


def test_cost_and_size():
    before = [result(0.1 + k / 10, seconds=s, parameters=50) for k, s in enumerate((1.0, 2.0, 4.0))]
    after = [result(0.2 + k / 10, seconds=3.0, steps=20, parameters=70) for k in range(3)]
    proof = prove(before, after, range(3))
    assert proof.cost == pytest.approx(0.75)
    assert (proof.parameters_before, proof.parameters_after) == (50, 70)
    assert math.isnan(prove([lost()], [replace(lost(), steps=0)], [0]).cost)


# --- the statistics, by others

MANY = st.lists(st.integers(-1024, 1024).map(lambda k: k / 1024), min_size=2, max_size=9)  # sums without rounding


@given(MANY)
def test_the_error_is_that_of_a_permutation_test(differences):
    d = np.array(differences)
    exact = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", alternative="greater", n_resamples=1 << 10, vectorized=True
    )
    assert sign_flip(d) == pytest.approx(exact.pvalue)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_the_interval_is_that_of_a_t_test(differences):
    d = np.array(differences)
    assume(d.std() > 1e-6)
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert interval(d) == pytest.approx((d.mean(), low, high), abs=1e-9)


def test_many_pairs_are_drawn_and_the_same_each_time():
    rng = np.random.default_rng(3)
    d = rng.normal(0.4, 1, 30)
    assert sign_flip(d) == sign_flip(rng.permutation(d))
    assert sign_flip(d) == pytest.approx(stats.ttest_1samp(d, 0, alternative="greater").pvalue, abs=0.02)


# --- what must hold whatever the numbers

VALUES = st.floats(0.0, 1.0).map(lambda x: round(x, 3))
OUTCOMES = st.builds(  # what drew the same came out the same
    lambda value, metric, gone, draw: (
        lost(digest=f"lost {draw}") if gone else result(value, metric, digest=f"{value} {metric} {draw}")
    ),
    VALUES, VALUES, st.integers(0, 5).map(lambda k: k == 0), st.integers(0, 10**6),
)  # fmt: skip
PAIRS = st.lists(st.tuples(OUTCOMES, OUTCOMES), min_size=1, max_size=8)


@given(PAIRS)
def test_exchanging_the_sides_turns_every_sign(pairs):
    before, after = zip(*pairs, strict=True)
    one, other = prove(before, after, range(len(pairs))), prove(after, before, range(len(pairs)))
    assert [p.difference for p in one.pairs] == [-p.difference for p in other.pairs]
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    assert (one.error, one.distinct, one.measure) == (other.error, other.distinct, other.measure)
    if one.verdict == "worse":
        assert other.verdict == "better"
    if one.verdict == "better":
        assert other.verdict == ("worse" if one.error <= WORSE else "no difference shown")


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_seeds_says_nothing(pairs, rng):
    mixed = rng.sample(pairs, len(pairs))
    one, other = (prove(*zip(*rows, strict=True), range(len(rows))) for rows in (pairs, mixed))
    assert (one.verdict, one.error, one.distinct) == (other.verdict, other.error, other.distinct)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), nan_ok=True)


@given(PAIRS, st.floats(1e-3, 1e3))
def test_the_interval_scales_with_the_metric(pairs, scale):
    assume(any(not r.lost for pair in pairs for r in pair))

    def scaled(one):
        return replace(one, metric=None if one.metric is None else scale * one.metric)

    one = prove(*zip(*pairs, strict=True), range(len(pairs)))
    other = prove(*zip(*[map(scaled, pair) for pair in pairs], strict=True), range(len(pairs)))
    assert (one.verdict, one.distinct) == (other.verdict, other.distinct)
    assert one.error == other.error
    expected = [scale * value for value in (one.mean, one.low, one.high)]
    assert (other.mean, other.low, other.high) == pytest.approx(expected, rel=1e-6, abs=1e-9 * scale)


@pytest.mark.parametrize("count", [5, 6, 8])
def test_of_simulated_nulls_no_more_are_claimed_than_stated(count):
    rng = np.random.default_rng(count)
    rounds = 2000
    claimed = 0
    for _ in range(rounds):
        before, after = rng.normal(0.5, 0.1, (2, count))
        claimed += by_metric(before, after).verdict != "no difference shown"
    assert claimed / rounds <= ERROR + 2 * math.sqrt(ERROR * (1 - ERROR) / rounds)
    assert claimed / rounds >= 0.02  # a test that never claims anything would pass too
