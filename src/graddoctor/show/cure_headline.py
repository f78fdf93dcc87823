"""The headline of a cure: in one or two sentences what came of it, or what had done best when it ended early."""

from __future__ import annotations

from graddoctor.prove.proof import FEWEST, Proof
from graddoctor.show import words
from graddoctor.treat.race import Entry
from graddoctor.treat.treatment import Treatment

UNCHANGED = "it stays as it is"


def headline(treatment: Treatment) -> str:
    """Say what came of a treatment; where nothing could be proven, why, and what did best."""
    if treatment.verdict == "sound":
        return "It learns as it is: nothing was changed."
    if treatment.verdict == "cured":
        assert treatment.proof is not None  # noqa: S101 - nothing is cured without one
        names = ", ".join(remedy.name for remedy in treatment.remedies)
        return f"Cured by {names}: better on {_gained(treatment.proof)} fresh seeds."
    why = "Interrupted" if treatment.verdict == "interrupted" else _why(treatment)
    return " ".join(filter(None, (f"{why}: {UNCHANGED}.", _best(treatment))))


def _gained(proof: Proof) -> str:
    gained = sum(pair.difference > 0 for pair in proof.pairs)
    return f"all {gained}" if gained == len(proof.pairs) else f"{gained} of {len(proof.pairs)}"


def _why(treatment: Treatment) -> str:
    """Say why nothing came of it."""
    proof = treatment.proof
    if proof is None:
        return "The time was used up before a proof" if treatment.aborted else "Nothing that was tried made it better"
    if proof.distinct < FEWEST:
        return f"Nothing is proven, which takes {FEWEST} fresh seeds that differ"
    return "The best that was found did not hold on fresh seeds"


def _best(treatment: Treatment) -> str:
    """Say what did best, where no proof has decided on it; empty where that was all that was to be found."""
    found, proof = treatment.found, treatment.proof
    if found is None or (proof is not None and proof.distinct >= FEWEST):
        return ""
    if proof is not None and found.remedy is not None:
        return f"{words.begun(found.remedy.name)} won the race, and was tried on {_counted(proof)}."
    if not treatment.aborted:
        return ""
    if found.leader is None:
        return "Nothing better was found so far."
    return f"{words.begun(found.leader.name)} led so far, with {_score(found.leader)}{_against(found.plain)}."


def _counted(proof: Proof) -> str:
    pairs = len(proof.pairs)
    return words.number(pairs, "fresh seed") + (f" of {proof.planned}" if pairs < proof.planned else "")


def _score(entry: Entry) -> str:
    return f"{entry.score:.3g}"


def _against(plain: Entry | None) -> str:
    if plain is None or plain.result.lost:
        return ""
    return f" against {_score(plain)} as given"
