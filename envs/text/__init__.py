"""Texts: completions with holes, a user's own prompts, characters that cannot be encoded, colours for a terminal."""
