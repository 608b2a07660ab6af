"""`retain segment`: the left ventricle of an echo clip, frame by frame. Not for diagnosis."""
