"""Which Triton image carries which TensorRT-LLM."""

from __future__ import annotations

from bwdeploy.facts.reader import read_data


def triton_image(tensorrt_llm: str) -> str | None:
    """The newest known image (`YY.MM`) with exactly this TensorRT-LLM version, or None."""
    images = read_data("triton_images.json")["images"]
    return next((row["image"] for row in reversed(images) if row["tensorrt_llm"] == tensorrt_llm), None)


def versions_with_images() -> tuple[str, ...]:
    """The TensorRT-LLM versions that some Triton image carries, oldest first."""
    return tuple(row["tensorrt_llm"] for row in read_data("triton_images.json")["images"])
