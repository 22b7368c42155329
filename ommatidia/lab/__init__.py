"""The laboratory: recipes, what they cost, what is run and kept, and what is told of it."""
