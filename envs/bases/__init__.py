"""What our tasks share: a generator with levels and splits, and published sets beside it."""
