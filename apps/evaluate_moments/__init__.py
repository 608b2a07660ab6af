"""`retain eval moments`: what a frame memory still holds, against baselines at equal tokens."""
