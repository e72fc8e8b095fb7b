"""The model `preprocessing`: text into the tensors of the engine."""
