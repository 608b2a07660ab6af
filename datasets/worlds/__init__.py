"""Small moving worlds with hidden laws: clips, the truth about them, and rule metrics."""
