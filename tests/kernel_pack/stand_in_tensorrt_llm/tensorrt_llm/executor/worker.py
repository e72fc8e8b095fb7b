"""As tensorrt_llm/executor/worker.py: a worker registers the models that it was given, then loads one."""

from __future__ import annotations

from typing import Any


def worker_main(
    engine: str, ready_signal: bytes, mapping: Any, _torch_model_class_mapping: dict[str, Any] | None = None
) -> Any:
    """Yields the ready signal or what went wrong, then an answer for every request it is sent."""
    from tensorrt_llm._torch.pyexecutor.model_loader import ModelLoader  # noqa: PLC0415 - as upstream

    if _torch_model_class_mapping is not None:
        from tensorrt_llm._torch.models.modeling_auto import MODEL_CLASS_MAPPING  # noqa: PLC0415

        MODEL_CLASS_MAPPING.update(**_torch_model_class_mapping)
    try:
        model, _ = ModelLoader(mapping).load(engine, None)
    except Exception as error:  # noqa: BLE001 - upstream hands any error to the proxy
        yield repr(error)
        return
    rows = yield ready_signal
    while rows:
        rows = yield float(model(rows).float().abs().sum())
