"""Puts the ops of a pack into models of Hugging Face transformers, where the answers stay the same.

Start at `replacement.replace_modules`; `bwdeploy_kernels.architectures` is the table of models it knows.
"""

from bwdeploy_kernels.hugging_face.replacement import Replaced, replace_modules

__all__ = ["Replaced", "replace_modules"]
