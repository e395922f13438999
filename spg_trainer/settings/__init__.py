"""Settings: the fields of every command, where their values come from, and which of them are refused."""
