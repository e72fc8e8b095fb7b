"""What is not made because nothing would use it."""

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
)
SILENT = (Silent("recipe-engine-not-built", ("engine.backend=tensorrt",)),)
