"""The parts of `python -m verifiers`."""
