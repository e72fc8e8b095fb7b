"""The TensorRT-LLM checkpoint layout: config.json and one weight file for each rank.

`export` makes it, `join` takes it back to the unified Hugging Face layout, `checks` audits it. `tensors` is
the one place that knows which tensor of a rank is which part of which tensor of the model.
"""
