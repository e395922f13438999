"""The files that a run leaves, and what it prints."""
