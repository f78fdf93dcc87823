"""How faces say things: the same words and the same rounding in the terminal, on the page and in Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from graddoctor.show.names import trimmed
from graddoctor.show.report import Coverage, LagProfile, LossCurve, LossShare, Report, Row, ThroughTime, Waterfall
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial
from graddoctor.topics import Topic, about

_KINDS = {"rnn_tanh": "tanh cells", "rnn_relu": "ReLU cells", "lstm": "LSTM", "gru": "GRU", "loop": "a loop by hand"}

VERDICTS = {
    "healthy": "Nothing stands in the way of this training.",
    "sick": "Something stands in the way of this training.",
    "inconclusive": "No cause was confirmed; what was tried stands below.",
}


def title(term: Condition | Cause) -> str:
    """Name a condition or a cause as a heading: ``"Learning rate too high"``."""
    return term.title


def spaced(name: str) -> str:
    """Turn an identifier into words: ``"decades_lost"`` into ``"decades lost"``."""
    return name.replace("_", " ")


def signed(value: float | None, digits: int = 2) -> str:
    """Decades with their sign: ``"-0.85"``, ``"+0.20"``; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def minus(text: str) -> str:
    """Put minus signs in place of the hyphens before numbers, where typography is wanted."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "\N{MINUS SIGN}", text)


def figure(value: float) -> str:
    """Any number in at most four digits: ``"0.0312"``, ``"2.302"``, ``"1.2e-09"``, ``"NaN"``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if float(value).is_integer() and abs(value) < 1e6:  # noqa: PLR2004 - longer ones read better as powers of ten
        return f"{int(value)}"
    return f"{value:.4g}"


def power(value: float) -> str:
    """A power of ten without a padded exponent: ``"1e-4"``."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(share: float | None) -> str:
    """A share as a percentage; empty where there is none."""
    return "" if share is None or not math.isfinite(share) else f"{100 * share:.0f} %"


def shorten(name: str, width: int) -> str:
    """Cut the middle out of a long name: both ends of a module path tell more than its middle."""
    if len(name) <= width:
        return name
    keep = max(width - 3, 2)
    return f"{name[: keep // 3]}...{name[len(name) - (keep - keep // 3) :]}"


def fitted(names: Sequence[str], width: int) -> list[str]:
    """Make names fit one column: first drop the path that all of them share, then the middle of what is still long."""
    if max(map(len, names), default=0) > width:
        paths = [name.split(".") for name in names if "." in name]
        shared = 0
        while len(paths) > 1 and all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
            shared += 1
        prefix = ".".join(paths[0][:shared]) + "." if shared else ""
        names = [name.removeprefix(prefix) for name in names]
    return [shorten(trimmed(name, width), width) for name in names]


def listing(names: Sequence[str], limit: int = 4) -> str:
    """Name the first few and count the rest: ``"a, b, c and 9 more"``."""
    if len(names) <= limit + 1:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def number(count: int, noun: str) -> str:
    """Count things: ``"1 experiment"``, ``"7 experiments"``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def numbers(figures: Mapping[str, float]) -> str:
    """Figures of a finding in one line; what an experiment gained is told with the experiment."""
    return ", ".join(f"{spaced(name)} {figure(value)}" for name, value in figures.items() if name != "gain")


def confirmation(finding: Finding) -> str:
    """Say whether an experiment stands behind a finding; a note needs none."""
    if finding.confirmed:
        return "confirmed by experiment"
    return "" if finding.severity is Severity.NOTE else "not confirmed by experiment"


def headline(finding: Finding, others: int = 0) -> str:
    """Say in one sentence what is wrong and what to change."""
    more = f" And {number(others, 'finding')} more." if others else ""
    if not finding.causes:
        return f"{finding.summary or title(finding.condition) + '.'}{more}"
    first = finding.causes[0]
    return f"{title(finding.condition)}: change the {title(first.kind).lower()}{_place(first.modules)}.{more}"


def _place(modules: Sequence[str]) -> str:
    if len(modules) > 2:  # noqa: PLR2004 - two can be named
        return f" in {len(modules)} modules, first of all in {modules[0]}"
    return f" in {' and '.join(modules)}" if all(modules) and modules else ""


def note(finding: Finding) -> str:
    """Tell what was noticed and does no harm, in a line."""
    where = f" in {listing(finding.modules, 3)}" if finding.modules else ""
    return f"{title(finding.condition)}{where}: {finding.summary or numbers(finding.numbers)}"


def topics_of(report: Report) -> list[Topic]:
    """The topics of what was found: conditions, then causes."""
    conditions: list[Condition | Cause] = [finding.condition for finding in report.findings]
    causes = [blame.kind for finding in report.findings for blame in finding.causes]
    return [about(term) for term in dict.fromkeys([*conditions, *causes])]


def explain(report: Report) -> str:
    """Say how to read more about what was found; empty where nothing was."""
    commands = [f"graddoctor explain {topic.name}" for topic in topics_of(report)]
    return f"What this is: {listing(commands, 3)}" if commands else ""


def consequences(finding: Finding) -> str:
    """Say what a finding takes along when it goes; empty when nothing."""
    if not finding.consequences:
        return ""
    return f"Goes away with it: {', '.join(title(one).lower() for one in finding.consequences)}."


def cause(blame: Blame) -> str:
    """Head one cause: ``"Activation, 91 %"``."""
    share = percent(blame.share)
    return f"{title(blame.kind)}, {share}" if share else title(blame.kind)


def trial(one: Trial) -> str:
    """One experiment in one line."""
    outcome = "helped" if one.helped else "did not help"
    gained = f", {signed(100 * one.gain, 0)} points of progress" if math.isfinite(one.gain) else ""
    return f"{begun(one.name)}: {outcome}{gained} in {number(one.steps, 'step')}"


def begun(sentence: str) -> str:
    """Begin with a capital letter."""
    return sentence[:1].upper() + sentence[1:]


def duration(seconds: float) -> str:
    """Seconds, minutes or hours: ``"9.4 s"``, ``"4 min 05 s"``, ``"2 h 10 min"``."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < _MINUTES:
        return f"{seconds:.1f} s" if seconds < _SECONDS else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < _HOURS else f"{minutes // 60} h {minutes % 60:02d} min"


def coverage(seen: Coverage) -> str:
    """Say how much of the training was looked at, and what that cost."""
    share = f" of {seen.steps_total:,}" if seen.steps_total is not None else ""
    tried = number(seen.experiments, "experiment") if seen.experimented else "experiments switched off"
    parts = [f"{seen.steps_seen:,}{share} steps seen", tried, f"{seen.seconds:.1f} s"]
    if seen.aborted:
        parts.append(f"ended early: {seen.reason}" if seen.reason else "ended early")
    return ", ".join(parts)


def budget(waterfall: Waterfall) -> str:
    """Tell a budget in a sentence or two: how much, who took it, where it ends, what is left of the signal."""
    return " ".join(filter(None, [toll(waterfall), signal(waterfall)]))


def signal(waterfall: Waterfall) -> str:
    """Tell what is left of the signal, or why that is not known; empty where nothing is to be told."""
    if waterfall.signal_total is not None:
        change, amount = "shrink" if waterfall.signal_total < 0 else "grow", abs(waterfall.signal_total)
        return f"On the way forward the differences between samples {change} by {amount:.1f} decades."
    return f"The forward signal was not measured: {waterfall.signal_reason}." if waterfall.signal_reason else ""


def losses(waterfall: Waterfall) -> str:
    """Tell which term of the loss brings how much of the gradient; empty where the loss is one term."""
    if not waterfall.losses:
        return ""
    terms = [f"{_term(one)} {percent(one.share)}" for one in sorted(waterfall.losses, key=lambda one: -one.share)]
    told = f"The gradient at the first layer comes from {number(len(terms), 'term')} of the loss: {', '.join(terms)}."
    against = any(one.share < -_HALF_PERCENT for one in waterfall.losses)
    return f"{told} A negative share works against the others." if against else told


def _term(one: LossShare) -> str:
    return f"{spaced(one.name)} of {listing(one.modules, 2)}" if one.modules else spaced(one.name)


def toll(waterfall: Waterfall) -> str:
    """Tell how much gradient is lost or gained on the way back and who takes it, or where the chain ends."""
    if waterfall.cut is not None:
        return cut(waterfall)
    way, amount = "From the loss back to the first layer", abs(waterfall.total)
    if amount < _LITTLE:
        return f"{way} the gradient keeps its size ({signed(waterfall.total, 1)} decades)."
    lost = waterfall.total < 0
    told = f"{way} {amount:.1f} decades of gradient are {'lost' if lost else 'gained'}"
    takers = [
        (kind, took) for kind, took in by_size(waterfall.by_kind.items()) if (took < 0) == lost and abs(took) > _FEW
    ]
    return f"{told}: {', '.join(f'{kind} {abs(took):.1f}' for kind, took in takers[:3])}." if takers else f"{told}."


def cut(waterfall: Waterfall) -> str:
    """Say which row ends the chain, and how."""
    ending = "is not finite" if waterfall.cut_kind == "nonfinite" else "is exactly zero"
    rest = f"the rows that can be counted add up to {signed(waterfall.total, 1)} decades"
    return f"The chain ends at {waterfall.cut}: from there back to the input the gradient {ending}; {rest}."


def row_value(row: Row, waterfall: Waterfall) -> str:
    """Decades of a row, or how it ends the chain."""
    if row.decades is not None:
        return signed(row.decades)
    return ("NaN" if waterfall.cut_kind == "nonfinite" else "zero") if row.name == waterfall.cut else "-"


def loss(curve: LossCurve) -> str:
    """Tell a loss curve in a sentence."""
    finite = [value for value in curve.smoothed or curve.values if value is not None]
    if not finite:
        return "The loss was never finite."
    sentence = f"The loss went from {figure(finite[0])} to {figure(finite[-1])} in {number(len(curve.steps), 'step')}"
    if curve.baseline is not None:
        sentence += f"; predicting the same for every sample gives {figure(curve.baseline)}"
    if curve.first_nonfinite is not None:
        sentence += f"; it is not finite from step {curve.first_nonfinite} on"
    return f"{sentence}."


def through_time(one: ThroughTime) -> str:
    """Tell what becomes of the gradient of one layer over the lag, and what training made of it."""
    head = f"In {one.name} ({_KINDS.get(one.kind, spaced(one.kind))}, {number(one.steps, 'step')})"
    looks = [(profile, when) for profile, when in ((one.start, "at the start"), (one.end, "at the end")) if profile]
    if not looks:
        return f"{head} nothing was measured."
    told = "; ".join(f"{when} {_lag(profile)}" if len(looks) > 1 else _lag(profile) for profile, when in looks)
    notes = " ".join(
        f"{begun(note)}." for note in dict.fromkeys(note for profile, _ in looks for note in profile.notes)
    )
    return " ".join(filter(None, (f"{head} {told}.", notes)))


def _lag(profile: LagProfile) -> str:
    if not profile.lags[1:]:
        return "there is no lag"
    amount, step = abs(profile.total), f"{signed(profile.per_step, 3)} a step"
    if profile.decades[-1] is None and profile.horizon_3 is None:
        return "the gradient is not finite on its way back"
    if amount < _LITTLE and profile.decades[-1] is None:
        return f"nothing of the gradient is left after {number(profile.horizon_3 or 0, 'step')}"
    if amount < _LITTLE:
        return f"the gradient keeps its size over the longest lag ({signed(profile.total, 1)} decades)"
    change = f"{'loses' if profile.total < 0 else 'gains'} {amount:.1f} decades over the longest lag ({step})"
    horizons = (("a tenth", profile.horizon_1), ("a thousandth", profile.horizon_3))
    left = [f"{share} after {lag}" for share, lag in horizons if lag is not None]
    last = [lag for _, lag in horizons if lag is not None][-1:]
    steps = f"{', '.join(left)} step{'' if last == [1] else 's'}"
    return f"the gradient {change}, and is down to {steps}" if left else f"the gradient {change}"


def by_size(pairs: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Sort by magnitude, largest first."""
    return sorted(pairs, key=lambda pair: -abs(pair[1]))


_HALF_PERCENT = 0.005  # less would be shown as 0 %
_LITTLE = 0.5  # decades that a sound net gains or loses as well
_FEW = 0.05  # decades that would be shown as 0.0 or 0.1: no share worth naming
_SECONDS = 10.0  # seconds from which on tenths of them are not told
_MINUTES, _HOURS = 120.0, 120  # seconds from which on minutes are told, and minutes from which on hours are
