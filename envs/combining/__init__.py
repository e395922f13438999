"""Tasks made of other tasks: one split, several tries, a system message, given text, or several tasks together."""
