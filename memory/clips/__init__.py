"""Reference clips: how they are cut from a stream, kept within a bound and found again."""
