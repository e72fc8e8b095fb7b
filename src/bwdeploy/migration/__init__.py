"""Existing deployments into recipes: what was found, what it becomes, and what is lost on the way."""
