"""How well a model solves a task."""
