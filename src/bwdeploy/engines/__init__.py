"""TensorRT-LLM's engine world as data: what trtllm-build takes, reads and makes, and how it fails. Pure."""
