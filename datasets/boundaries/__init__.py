"""Shot and event boundaries: clips with truth, matching rules, readers of published sets, peers."""
