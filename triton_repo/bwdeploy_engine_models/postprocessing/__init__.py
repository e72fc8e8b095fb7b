"""The model `postprocessing`: tokens into text."""
