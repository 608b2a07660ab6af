"""Where the camera is: trackers and their parts."""
