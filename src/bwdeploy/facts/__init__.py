"""What is known of TensorRT-LLM, GPUs and formats, as data files with one reader."""
