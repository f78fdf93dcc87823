"""An assertion for a user's own tests: this recipe trains."""

from __future__ import annotations

from graddoctor.recipe import Recipe


def assert_trainable(recipe: Recipe, steps: int = 200) -> None:
    """Fail with the reason unless the recipe learns something in so many steps.

    Parameters
    ----------
    recipe
        What is to be trained.
    steps
        Optimizer steps that it is given at most.

    Raises
    ------
    AssertionError
        It does not learn.
    """
    raise NotImplementedError(f"assert_trainable is not wired yet (recipe {recipe.name!r}, {steps} steps)")
