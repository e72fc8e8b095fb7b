"""The custom module of a pack: `trtllm-serve --custom_module_dirs` imports this directory by name.

Upstream calls nothing in it (import_custom_module_from_dir, tensorrt_llm/tools/importlib_utils.py), so this
is the one module that works when it is imported: it installs all ops of the pack that it lies in.
"""

import sys
from pathlib import Path

_PACK = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(_PACK))  # worker processes get sys.path from here

from bwdeploy_kernels.manifest import read_manifest  # noqa: E402 - only importable now
from bwdeploy_kernels.tensorrt_llm.entry import enter  # noqa: E402
from bwdeploy_kernels.tensorrt_llm.hook import Installation  # noqa: E402

enter(Installation(pack=str(_PACK), ops=tuple(op.name for op in read_manifest(_PACK).ops)))
