"""Puts the ops of a pack into the models of TensorRT-LLM's PyTorch backend, in every worker process.

Checked against the public source, not run on TensorRT-LLM. Release 1.2.1 is commit 376f7e1bd8ed of
NVIDIA/TensorRT-LLM. Its documentation (gh-pages 58fb435eacc4) holds the source of llmapi/mpi_session.py;
_torch/modules/rms_norm.py was read at b35ac1b64368 (1.2.0rc2), and in stored versions of about that release
_torch/modules/{attention,gated_mlp,linear,swiglu}.py, _torch/models/modeling_{llama,qwen,qwen3}.py,
_torch/pyexecutor/model_loader.py, executor/{proxy,rpc_proxy,worker}.py, tools/importlib_utils.py and
commands/serve.py. What differs at run time from what was read is refused by `upstream`, name by name.
"""
