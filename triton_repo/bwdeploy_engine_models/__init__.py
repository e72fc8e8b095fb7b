"""The Python models around an engine: preprocessing, postprocessing and tensorrt_llm_bls.

Each lies in a Triton repository as `1/model.py` with this package beside it. They run inside Triton's Python
stub with numpy and tokenizers; tensors, names and manners are those of TensorRT-LLM's inflight_batcher_llm
models, so that its clients work unchanged. Text only: no pictures, no URLs, no code that comes with a model.
"""
