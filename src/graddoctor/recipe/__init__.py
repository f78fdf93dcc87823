"""A recipe, and how one is found in a user's file."""

from graddoctor.recipe.definition import Batches, Recipe
from graddoctor.recipe.devices import require_device
from graddoctor.recipe.loading import importable, load_recipe

__all__ = ["Batches", "Recipe", "importable", "load_recipe", "require_device"]
