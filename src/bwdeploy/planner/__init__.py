"""Model shape and memory, computed from config.json; pure."""
