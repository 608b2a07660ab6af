"""Data sets worked off to the last clip: manifest, engines, results."""
