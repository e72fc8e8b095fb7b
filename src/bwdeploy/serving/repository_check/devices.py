"""Rules on `gpu_device_ids`, which gives each instance of an llmapi model its GPUs."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.serving.repository_check.model import MODEL_YAML

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.serving.repository_check.model import ModelDirectory, RepositoryProblem

_DEVICES = re.compile(r"\d+(,\d+)*(;\d+(,\d+)*)*")
_RANKS = ("tensor_parallel_size", "pipeline_parallel_size")


def device_problems(model: ModelDirectory) -> Iterator[RepositoryProblem]:
    """Everything wrong with the GPUs that the instances are given."""
    if not model.runs_llm or "gpu_device_ids" not in model.config.parameters:
        return
    said = model.config.parameters["gpu_device_ids"].string_value
    place = "gpu_device_ids"
    if said.endswith("\\") or "${" in said:
        return  # the rules on templates say it
    if not _DEVICES.fullmatch(said):
        message = f"gpu_device_ids is {said!r}, not GPU numbers"
        hint = "write 0,1;2,3: a comma between the GPUs of an instance, a semicolon between instances"
        yield model.problem("triton-instances-share-gpus", message, hint, near=place)
        return
    groups = [group.split(",") for group in said.split(";")]
    count = sum(max(group.count, 1) for group in model.config.instance_group)
    if len(groups) < count:
        message = f"gpu_device_ids has {len(groups)} group{'s'[: len(groups) != 1]} for {count} instances"
        hint = "write one group for each instance, as in 0,1;2,3, or lower count"
        yield model.problem("triton-instances-share-gpus", message, hint, near=place)
    ranks = _ranks(model)
    if ranks and any(len(group) != ranks for group in groups):
        message = f"{MODEL_YAML} asks for {ranks} GPUs for each instance, gpu_device_ids says {said}"
        hint = f"write {ranks} GPUs in each group"
        yield model.problem("triton-instances-share-gpus", message, hint, near=place)
    shared = max(Counter(gpu for group in groups for gpu in set(group)).values())
    fraction = model.settings.get("kv_cache_config.free_gpu_memory_fraction")
    if shared > 1 and not (isinstance(fraction, int | float) and fraction * shared <= 1):
        message = f"{shared} instances share a GPU, and each takes the default share of its free memory"
        if fraction is not None:
            message = f"{shared} instances share a GPU, and each takes {fraction} of its free memory"
        hint = f"set kv_cache_config.free_gpu_memory_fraction in {MODEL_YAML} to {0.9 / shared:.2f} or less"
        yield model.problem("triton-instances-kv-share", message, hint, near=place)


def _ranks(model: ModelDirectory) -> int:
    """GPUs of one instance by model.yaml, 0 when it does not say."""
    sizes = [model.settings.get(key, 1) for key in _RANKS]
    if not any(key in model.settings for key in _RANKS):
        return 0
    tp, pp = (size if isinstance(size, int) and not isinstance(size, bool) else 0 for size in sizes)
    return tp * pp


DEVICE_RULES: tuple[DescribedRule, ...] = (
    DescribedRule(
        "triton-instances-kv-share",
        "warning",
        "several instances on one GPU with too large a KV share each",
        "triton-inference-server/tensorrtllm_backend docs/llmapi.md",
        "The first instance takes most of the memory, and the next one fails when it loads.",
    ),
)
"""`triton-instances-share-gpus` is described with the rules on instances."""
