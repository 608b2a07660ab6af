"""The live page: one server, a section for each kind of run."""
