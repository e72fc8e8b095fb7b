"""The engines behind the Triton model."""
