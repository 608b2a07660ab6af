"""Words for pixels: a teacher's dense features, their pooling, compression and queries."""
