"""Adapters, one per outside tool; the only room that starts processes."""
