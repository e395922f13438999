"""Base classes of our tasks: one with a generator (levels and splits), and one that also has published sets."""
