"""`retain eval set`: published data sets in their published protocols, with their usual tables."""
