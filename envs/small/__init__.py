"""Six small tasks, one file each: the prompt, the check, a demonstration and a plausible mistake."""
