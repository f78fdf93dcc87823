"""What changes a recipe: one file per family, each remedy a function from recipe to recipe."""
