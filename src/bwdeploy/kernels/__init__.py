"""Fused CUDA kernels as data: what an op declares, how it is compiled, what a pack says of itself.

Pure: reads the files of `plugins/` and decides. Compilers are started by `tools.nvcc`, packs are made by
`worker.kernels.build`.
"""
