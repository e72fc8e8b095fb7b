"""What is planned but not built."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

FIRES = (
    Fires(
        "recipe-engine-not-built",
        ("engine.backend=tensorrt", "serve.runtime=reference"),
        "serve.runtime",
        "the runtime reference serves the checkpoint itself, so that no engine is built",
        "info",
    ),
    Fires(
        "recipe-not-built-yet",
        ("quantize.method=qat",),
        "quantize.method",
        "qat: checked, planned and estimated by this version, but not built",
        "info",
    ),
    Fires(
        "recipe-not-built-yet",
        ("speculative={method: eagle3, draft: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'}",),
        "speculative.method",
        "EAGLE3 drafts: checked, planned and estimated by this version, but not built",
        "info",
    ),
)
SILENT = (
    Silent("recipe-engine-not-built", ("engine.backend=tensorrt",)),
    Silent("recipe-not-built-yet", ()),
    Silent("recipe-not-built-yet", ("engine.backend=tensorrt",)),
    Silent("recipe-not-built-yet", ("speculative={method: mtp}",)),
)
