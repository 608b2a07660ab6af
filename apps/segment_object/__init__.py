"""`retain segment --object`: what a mask marks in the first frame, followed through a video."""
