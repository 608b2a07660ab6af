"""`retain detect`: objects found by a detector that remembers, beside the detector alone."""
