"""How each weight of a model is stored: the format that a recipe or a checkpoint gives it, and its bytes."""
