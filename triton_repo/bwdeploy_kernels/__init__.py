"""Loads packs of fused CUDA kernels into a serving process and puts them into models.

Stand-alone: needs Python and torch, transformers only where one of its models is changed. Every pack
carries a copy of this package, so that what reads a pack is what was tested with it.
"""
