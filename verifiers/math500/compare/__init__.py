"""Whether two values say the same: meanings, numbers, intervals, equations and their names."""
