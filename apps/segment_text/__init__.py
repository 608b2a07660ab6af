"""`retain segment --text`: what words name, in every frame of a video."""
