"""Pictures with depth and poses: readers of real formats, a generator of rooms, and measures."""
