"""Settings: every field, where its value comes from, the shipped recipes."""
