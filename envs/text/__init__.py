"""Texts: completions with holes, prompts of the user's own, what cannot be encoded, and colours for a terminal."""
