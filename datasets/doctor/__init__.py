"""Says what data set a folder is, what of it is missing, and where to get it."""
