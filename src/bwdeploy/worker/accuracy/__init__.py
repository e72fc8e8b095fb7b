"""A checkpoint beside its source: the same held-out text and the same questions for both."""
