"""What a recipe lets others do."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

TRT = "engine.backend=tensorrt"

FIRES = (
    Fires(
        "security-trust-remote-code",
        ("model.trust_remote_code=true",),
        "model.trust_remote_code",
        "Python code that comes with the model will run on this machine and on the server",
        "warning",
        hint="Read that code first, or remove this key",
    ),
    Fires(
        "security-trust-unpinned-code",
        ("model={source: 'hf://a/b@main', trust_remote_code: true}",),
        "model.source",
        "the model's code can change under this recipe, because its revision is not pinned",
        hint="Append the 40-hex commit that you have read",
    ),
    Fires(
        "security-trust-unpinned-code",
        (
            ("model={source: 'hf://a/b@0123456789abcdef0123456789abcdef01234567', trust_remote_code: true}"),
            "speculative={method: eagle3, draft: 'hf://a/b@main'}",
        ),
        "speculative.draft",
        "the draft's code can change under this recipe, because its revision is not pinned",
        hint="Append the 40-hex commit that you have read",
    ),
    Fires(
        "security-model-class",
        (TRT, "engine.build_flags={model_cls_file: m.py, model_cls_name: M}"),
        "engine.build_flags.model_cls_file",
        "the build will run Python code that this option names",
        "warning",
        hint="Read that code first, or remove it",
    ),
    Fires(
        "security-old-image",
        ("engine.tensorrt_llm='1.2.0'",),
        "engine.tensorrt_llm",
        "Triton image 26.03, the newest with TensorRT-LLM 1.2.0, lacks fixes of 26.05",
        "warning",
        hint="Set engine.tensorrt_llm: 1.2.1 (image 26.06), or keep the server behind a gateway",
    ),
)
SILENT = (
    Silent("security-trust-remote-code", ("model.trust_remote_code=false",)),
    Silent(
        "security-trust-unpinned-code",
        (("model={source: 'hf://a/b@0123456789abcdef0123456789abcdef01234567', trust_remote_code: true}"),),
    ),
    Silent("security-model-class", (TRT, "engine.build_flags={workers: 1}")),
    Silent("security-old-image", ()),
    Silent("security-old-image", ("engine.tensorrt_llm='1.2.0'", "serve.runtime=reference")),
)
