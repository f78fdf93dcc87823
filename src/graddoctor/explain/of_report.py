"""A saved checkup or cure, explained to who has trained the network, with its own numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graddoctor.errors import GraddoctorError
from graddoctor.explain.figures import sentences
from graddoctor.explain.of_topic import subject
from graddoctor.show import AnyReport, CureReport, Report, cure_words, words
from graddoctor.show._marks import codes, plain
from graddoctor.show.cure import Prescription
from graddoctor.show.explanation import Explanation, Level, Passage, Subject
from graddoctor.show.names import readable, readable_cure
from graddoctor.terms import Blame, Finding
from graddoctor.topics import about, recognised

_MEANING = {
    "healthy": "The training did what can be expected of it, and nothing was found that stands in its way.",
    "sick": "The training stops short of what this network can do, and the reason was found.",
    "inconclusive": "The training stops short of what could be expected, and no single change made it better.",
}


def explained(report: AnyReport, level: Level | None = None) -> Explanation:
    """Explain what a check or a fix has found.

    Parameters
    ----------
    report
        What ``check --out checkup.json`` or ``fix --out cure.json`` has written, loaded.
    level
        ``"student"`` or ``"engineer"``; both if left out.

    Raises
    ------
    GraddoctorError
        It is a report of another kind.
    """
    if isinstance(report, CureReport):
        report = readable_cure(report)
        subjects = [*_checkup(report.checkup), *(_prescription(report, one) for one in report.remedies)]
    elif isinstance(report, Report):
        subjects = [*_checkup(report)]
    else:
        message = f"expected the report of a check or a fix, got one of kind {getattr(report, 'kind', '')!r}"
        raise GraddoctorError(f"{message}: make one with graddoctor check FILE --out checkup.json")
    kept = tuple(_at(one, level) for one in _named_once(subjects))
    return Explanation(report.title, report.verdict, report.headline, kept, dict(report.environment))


def _named_once(subjects: Sequence[Subject]) -> Iterator[Subject]:
    """Let the first of several that are about one topic have its name, and with it the anchor."""
    seen: set[str] = set()
    for one in subjects:
        yield replace(one, name="") if one.name in seen else one
        seen.add(one.name)


def _at(one: Subject, level: Level | None) -> Subject:
    return replace(one, passages=tuple(passage for passage in one.passages if level in {None, passage.level}))


def _checkup(report: Report) -> Iterator[Subject]:
    report = readable(report)
    yield _network(report)
    for finding in report.findings:
        yield _finding(finding, report)
    for note in report.notes:
        yield _note(note)


def _network(report: Report) -> Subject:
    return Subject("", "network", f"Your network: {plain(report.title)}", "", tuple(_seen(report)))


def _seen(report: Report) -> Iterator[Passage]:
    yield Passage("What the verdict means", f"**{report.verdict.capitalize()}.** {_meaning(report)}", "student")
    if report.losses is not None and report.losses.steps:
        yield Passage("How far it got", plain(words.loss(report.losses)), "student")
    if report.budget is not None and report.budget.rows:
        told = plain(words.toll(report.budget))
        if report.verdict == "healthy" and report.budget.cut is None and report.budget.total <= -1:
            told += " That does no harm here: the network learns all the same."
        yield Passage("Where the gradient goes", told, "student")
        if signal := words.signal(report.budget):
            yield Passage("The signal", plain(signal), "engineer")
    if report.through_time:
        yield Passage("Through time", plain(" ".join(map(words.through_time, report.through_time))), "engineer")
    if report.ruled_out:
        listed = "\n".join(f"- {plain(words.begun(sentence))}" for sentence in report.ruled_out)
        yield Passage("What was ruled out", listed, "engineer")


def _meaning(report: Report) -> str:
    if report.verdict != "healthy" and not report.coverage.experimented:
        return "The training stops short of what could be expected. No experiment was made: causes are suspected only."
    return _MEANING[report.verdict]


def _finding(finding: Finding, report: Report) -> Subject:
    found = about(finding.condition)
    passages = [*_plainly(finding), *_deeply(finding, report)]
    return Subject(found.name, "finding", found.title, found.sentence, tuple(passages), finding.severity.name.lower())


def _note(note: Finding) -> Subject:
    found = about(note.condition)
    here = _here(note)
    passages = [
        *([Passage("In your network", here, "student")] if here else []),
        Passage("Why it is no alarm", "It was noticed, and does no harm that could be shown.", "student"),
        *_where(note),
    ]
    return Subject(found.name, "note", found.title, found.sentence, tuple(passages), "note")


def _here(finding: Finding) -> str:
    """What was measured, in sentences; what the condition is stands above it already."""
    summary = finding.summary.removeprefix(finding.condition.sentence).strip()
    return plain(" ".join(filter(None, [summary, *sentences(finding.numbers)])))


def _where(finding: Finding) -> Iterator[Passage]:
    if finding.modules:
        yield Passage("Where", codes(finding.modules, 12), "engineer")
    if figures := finding.detail or words.numbers(finding.numbers):
        yield Passage("Figures", plain(figures), "engineer")


def _plainly(finding: Finding) -> Iterator[Passage]:
    found = about(finding.condition)
    yield Passage("What it is", found.part("What it is"), "student")
    if told := _here(finding):
        yield Passage("In your network", told, "student")
    if finding.causes:
        yield Passage("What causes it", "\n".join(f"- {_blamed(blame)}" for blame in finding.causes), "student")
        first = about(finding.causes[0].kind)
        yield Passage("What to do", first.part("What to do"), "student")
    yield Passage(
        "What else undoes it" if finding.causes else "What undoes it", found.part("What undoes it"), "student"
    )
    yield Passage("What does not", found.part("What does not"), "student")
    if finding.consequences:
        others = ", ".join(one.title.lower() for one in finding.consequences)
        yield Passage("What goes away with it", f"{words.begun(others)}.", "student")


def _blamed(blame: Blame) -> str:
    share = ""
    if math.isfinite(blame.share):
        share = f" Undoing it, and nothing else, gave back {words.percent(blame.share)} of what was missing."
    return f"**{blame.kind.title}.** {plain(blame.sentence or blame.kind.sentence)}{share}"


def _deeply(finding: Finding, report: Report) -> Iterator[Passage]:
    found = about(finding.condition)
    yield Passage("Why", found.part("Why"), "engineer")
    yield from _where(finding)
    yield Passage("How it is measured", found.part("How it is measured here"), "engineer")
    if finding.trials:
        listed = "\n".join(f"- {plain(words.trial(trial))}" for trial in finding.trials)
        yield Passage("What was tried", listed, "engineer")
    else:
        tried = "Nothing that helped: see what was ruled out." if report.trials else "Nothing: no experiment was made."
        yield Passage("What was tried", f"{tried} It follows from the symptom, and is not confirmed.", "engineer")
    for blame in finding.causes:
        yield Passage(f"{blame.kind.title}, told apart", about(blame.kind).part("How it is told apart"), "engineer")
    listed = "\n".join(_remedies(finding))
    if listed:
        yield Passage("Remedies", listed, "engineer")
    yield Passage("Papers", found.part("Papers"), "engineer")


def _remedies(finding: Finding) -> Iterator[str]:
    for name in dict.fromkeys(remedy for blame in finding.causes for remedy in blame.remedies):
        found = recognised(name)
        if found is None:
            yield f"- **{plain(name)}**"
        else:
            told = [f"costs {found.costs}", found.source, found.topic.part("Code")]
            yield f"- **{plain(name)}**: {'; '.join(one for one in told if one != 'none')}"


def _prescription(report: CureReport, remedy: Prescription) -> Subject:
    found = recognised(remedy.name)
    against = ", ".join(cause.title.lower() for cause in remedy.causes)
    passages = [Passage("Why it was chosen", plain(cure_words.why(remedy)), "student")] if remedy.causes else []
    if found is not None:
        passages += [one for one in subject(found.topic).passages if one.label != "Against"]
    if report.proof is not None and report.proof.sentence:
        passages.append(Passage("What fresh seeds say", plain(report.proof.sentence), "student"))
    if remedy.modules:
        passages.append(Passage("Where", codes(remedy.modules, 12), "engineer"))
    sentence = f"Changed against: {against}." if against else ""
    name = "" if found is None else found.topic.name
    return Subject(name, "remedy", plain(words.begun(remedy.name)), sentence, tuple(passages))
