"""An assertion for a user's own tests: this recipe trains."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.diagnose.examine import SECONDS, STEPS, Examination, examine
from graddoctor.recipe import Recipe


def assert_trainable(recipe: Recipe, steps: int = STEPS, *, seconds: float = SECONDS) -> None:
    """Fail with the reason unless a checkup calls the recipe healthy.

    Parameters
    ----------
    recipe
        What is to be trained.
    steps
        Optimizer steps that it is given at most, through the whole of its schedule. What the recipe cannot learn in so
        few fails.
    seconds
        After so many the checkup ends; what it has confirmed until then counts.

    Raises
    ------
    AssertionError
        It is sick, or does not learn for a reason that was not found.
    RecipeError
        It cannot be trained at all.

    Examples
    --------
    >>> from graddoctor.testing import assert_trainable, patient
    >>> assert_trainable(patient("sound_unused_head").recipe)  # doctest: +SKIP
    """
    examination = examine(recipe, steps=steps, seconds=seconds)
    if examination.verdict != "healthy":
        raise AssertionError("\n".join(_reasons(recipe.name or "the recipe", examination)))


def _reasons(name: str, examination: Examination) -> Iterator[str]:
    seen = examination.observation
    share = f"{min(seen.progress, 1.0):.0%} of what a constant answer leaves open"
    yield f"{name} is {examination.verdict}: {seen.outcome.steps} steps removed {share}."
    for finding in examination.findings:
        where = f" in {', '.join(finding.modules[:3])}" if finding.modules else ""
        yield f"- {finding.condition.value}{where}: {finding.summary}"
        yield from (f"  cause: {blame.kind.value}. {blame.sentence}" for blame in finding.causes[:1])
    if not any(finding.confirmed for finding in examination.findings):
        yield from (f"- tried: {sentence}" for sentence in examination.ruled_out)
    if examination.aborted:
        yield f"- it ended early: {examination.aborted}."
