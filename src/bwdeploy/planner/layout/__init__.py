"""Which layouts a model can have: what forbids one, and which is best for a goal."""
