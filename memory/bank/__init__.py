"""A detector's memory: rows of features seen before, read by attention."""
