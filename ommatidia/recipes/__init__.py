"""The studies' recipes: one file a study, one function a recipe; each returns a complete value."""
