"""The Triton model repository: writing, starting, asking and testing it."""
