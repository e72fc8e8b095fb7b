"""What runs in the worker process: the only code of the toolkit that imports torch."""
