"""Base classes of our tasks: with a generator (levels and splits), and with published sets besides."""
