"""What a model is: its configuration found and read, its shape, every weight it holds. No torch, no network.

`config_file` finds a `config.json` for a recipe's source, `shape` says what a shape is, `families` reads one
from a configuration, `headers` from the headers of safetensors files.
"""
