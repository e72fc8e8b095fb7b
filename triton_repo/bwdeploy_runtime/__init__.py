"""What lies inside a written Triton model: the model, its engine worker and the engines."""
