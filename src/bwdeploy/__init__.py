"""From one YAML recipe to a quantized, checked and served TensorRT-LLM deployment."""

__version__ = "0.1.0"
