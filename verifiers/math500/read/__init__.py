"""Reads the text of an answer into a value: tokens, mathematics, words and units."""
