"""Completions from the model: sampling, tokens, where scored completions come from."""
