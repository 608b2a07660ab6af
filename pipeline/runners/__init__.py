"""What runs a graph: everything in one thread, or a process for each node."""
