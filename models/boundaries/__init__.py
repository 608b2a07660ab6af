"""Shot boundaries as they happen: causal, no look-ahead, a few microseconds beside an encoder."""
