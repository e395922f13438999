"""Environments of other packages as tasks, by the prefix of their name, such as `gymnasium:`."""
