"""`retain imagine`: what comes next, what is missing, what is new."""
