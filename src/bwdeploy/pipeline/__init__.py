"""Stages, keys, plan, store and the run of a build."""
