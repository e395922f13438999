"""Completions of a training: sampling them, text to tokens and back, and the sources of scored completions."""
