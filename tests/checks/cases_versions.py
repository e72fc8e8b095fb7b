"""Versions that must fit together, and recipes of other machines."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

V13 = "engine.tensorrt_llm='1.3.0rc20'"
TRT = "engine.backend=tensorrt"

FIRES = (
    Fires(
        "version-engines-gone",
        (TRT, "engine.tensorrt_llm='1.3.0rc21'"),
        "engine.backend",
        "TensorRT-LLM 1.3.0rc21 has no trtllm-build; 1.3.0rc20 was the last with engines",
        hint="Set engine.backend: pytorch, or engine.tensorrt_llm: 1.2.1",
    ),
    Fires(
        "version-engine-image",
        (TRT, V13),
        "engine.tensorrt_llm",
        "no known Triton image carries TensorRT-LLM 1.3.0rc20, and an engine loads in no other version, "
        "not even another patch",
        hint="Build and serve with one of 1.2.0, 1.2.1",
    ),
    Fires(
        "version-modelopt-format",
        ("quantize.format=nvfp4_weight_only",),
        "quantize.format",
        "ModelOpt 0.47.0 names this format W4A16_NVFP4, a word that TensorRT-LLM 1.2.1 does not know",
        hint="Write quantize.format: nvfp4, or serve.runtime: reference",
    ),
    Fires(
        "version-modelopt-format",
        ("quantize.format=nvfp4_awq_lite",),
        "quantize.format",
        "ModelOpt 0.47.0 names this format NVFP4_AWQ, a word that TensorRT-LLM 1.2.1 does not know",
        hint="Write quantize.format: nvfp4, or serve.runtime: reference",
    ),
    Fires(
        "version-image-import",
        ("engine.tensorrt_llm='1.2.0'",),
        "engine.tensorrt_llm",
        (
            "the only Triton image with TensorRT-LLM 1.2.0, 26.03, carries openai 1.107.3, which "
            "breaks an import"
        ),
        "warning",
        hint="Set engine.tensorrt_llm: 1.2.1 (image 26.06), or install another openai in the image",
    ),
    Fires(
        "version-placeholder",
        ("engine.llm_args={reasoning_parser: my-tag}",),
        "engine.llm_args.reasoning_parser",
        "'my-tag' was left for you to fill in",
        hint="Write your own value",
    ),
    Fires(
        "version-placeholder",
        ("model.source='hf://org/<your model>@main'",),
        "model.source",
        "'<your model>' was left for you to fill in",
        hint="Write your own value",
    ),
    Fires(
        "version-foreign-path",
        (
            (
                "engine.llm_args.speculative_config={decoding_type: Eagle, max_draft_len: 3, "
                "speculative_model: /home/someone/eagle3}"
            ),
        ),
        "engine.llm_args.speculative_config.speculative_model",
        "/home/someone/eagle3 is a path of somebody's own machine, and there is nothing here",
        hint="Write a path that the server has, or remove it",
    ),
)
SILENT = (
    Silent("version-engines-gone", (TRT, V13)),
    Silent("version-engine-image", (TRT,)),
    Silent("version-engine-image", (V13,)),
    Silent("version-engine-image", (TRT, V13, "serve.runtime=reference")),
    Silent("version-engine-image", (TRT, "engine.tensorrt_llm='1.3.0rc21'")),
    Silent("version-image-import", ("engine.tensorrt_llm='1.2.0'", "serve.server=trtllm-serve")),
    Silent("version-image-import", ("engine.tensorrt_llm='1.2.0'", TRT)),
    Silent("version-modelopt-format", ("quantize.format=nvfp4_weight_only", "serve.runtime=reference")),
    Silent("version-modelopt-format", (V13, "quantize.format=nvfp4_weight_only")),
    Silent("version-image-import", ("engine.tensorrt_llm='1.2.0'", "serve.runtime=reference")),
    Silent("version-image-import", ()),
    Silent("version-placeholder", ("engine.llm_args={reasoning_parser: deepseek-r1}",)),
    Silent(
        "version-foreign-path",
        (
            (
                "engine.llm_args.speculative_config={decoding_type: Eagle, max_draft_len: 3, "
                "speculative_model: /models/eagle3}"
            ),
        ),
    ),
)
