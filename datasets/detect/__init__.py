"""Videos with boxes and tracks: readers, a generator, degradation, evaluators."""
