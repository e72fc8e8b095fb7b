"""What quantization did to the weights: bits, error of each layer, sensitivity of each layer."""

from __future__ import annotations

from functools import partial
from os.path import commonprefix
from typing import TYPE_CHECKING

from bwdeploy.pipeline.training_jobs import TrainedResult
from bwdeploy.report.html.blocks import Facts, Note, Picture, Section, Table
from bwdeploy.report.html.figures.layers import draw_field
from bwdeploy.report.html.figures.sensitivity import draw_sensitivity
from bwdeploy.report.html.layer_errors import by_kind, by_layer, errors_of
from bwdeploy.report.html.numbers import ABSENT, duration, file_size, gib, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bwdeploy.pipeline.jobs import AuditReport, QuantizeResult
    from bwdeploy.pipeline.training_jobs import LayerSensitivity
    from bwdeploy.report.html.blocks import Block
    from bwdeploy.report.html.data import ReportData

_ROW_INCHES, _FRAME_INCHES = 0.26, 1.0
_LOWEST_INCHES = 2.4
_MOST_KINDS = 24


def quantization_section(data: ReportData) -> Section | None:
    """Bits and formats, then errors, then the search's sensitivities."""
    blocks: list[Block] = []
    if data.quantized is not None or data.audit is not None:
        blocks.append(Facts((*_made(data.quantized), *_stored(data.audit))))
    if data.audit is not None:
        blocks += _errors(data.audit)
    if isinstance(data.quantized, TrainedResult) and data.quantized.sensitivity:
        blocks += _sensitivity(data.quantized)
    if data.audit is not None:
        blocks.append(_census(data.audit))
    return Section("quantization", "Quantization", tuple(blocks)) if blocks else None


def _made(result: QuantizeResult | None) -> Iterator[tuple[str, str]]:
    if result is None:
        return
    yield "Quantized modules", f"{result.quantized_modules:,}"
    yield "Calibration", f"{result.calibration_tokens:,} tokens"
    yield "Made on", f"{result.device}, in {duration(sum(result.seconds.values()))}"
    yield "Peak memory", _peak(result.peak_memory_bytes, result.peak_gpu_memory_bytes)
    yield "ModelOpt", result.modelopt_version


def _peak(host: int, gpu: int) -> str:
    return f"{gib(host)} of the host" + (f", {gib(gpu)} of the GPU" if gpu else "")


def _stored(audit: AuditReport | None) -> Iterator[tuple[str, str]]:
    if audit is None:
        return
    yield "Algorithm", audit.quant_algo or "none"
    yield "KV cache", audit.kv_cache_quant_algo or "as computed"
    yield "Bits per parameter", rounded(audit.bits_per_parameter, 3)
    if audit.bits_per_quantized_parameter is not None:
        yield "Bits per quantized parameter", rounded(audit.bits_per_quantized_parameter, 3)
    yield "Parameters", f"{audit.parameters:,}"


def _errors(audit: AuditReport) -> Iterator[Block]:
    errors = errors_of(audit)
    field = by_layer(errors)
    kinds = list(dict.fromkeys(kind for kind, _ in field))
    if field and len(kinds) <= _MOST_KINDS and audit.tensor_errors:
        yield Picture(
            "weight-errors",
            "Relative weight error by layer",
            "The error ‖W-Ŵ‖ / ‖W‖ of the stored weights against their source, for every layer (column) and"
            " kind of module (row); of a layer's experts the worst. The stronger the color, the"
            " farther from the source.",
            partial(draw_field, kinds=kinds, values=field, unit="error"),
            height=max(_LOWEST_INCHES, _ROW_INCHES * len(kinds) + _FRAME_INCHES),
        )
    summary = by_kind(errors)
    if summary and audit.tensor_errors:
        yield Table(
            "Relative weight error by kind of module",
            ("Module", "Tensors", "Mean", "Worst", "Worst tensor"),
            tuple(
                (row.kind, f"{row.tensors:,}", rounded(row.mean, 4), rounded(row.worst, 4), row.worst_name)
                for row in summary
            ),
            texts=frozenset({0, 4}),
        )
    elif errors:
        yield Table(
            "Worst relative weight errors",
            ("Tensor", "Error"),
            tuple((one.name, rounded(one.relative_error, 4)) for one in audit.worst_tensors),
        )


def _sensitivity(result: TrainedResult) -> Iterator[Block]:
    rows = result.sensitivity
    if result.effective_bits is not None:
        yield Note(
            f"The search chose formats that take {result.effective_bits:.3f} bits a weight, over its layers."
        )
    if any(score > 0 for row in rows for score in row.scores.values()):
        yield Picture(
            "sensitivity",
            "Sensitivity of each layer",
            "How much the model's output suffers when this group of layers alone has a format. A ring marks"
            " the format that the search chose within its budget of bits; where no point is ringed, the group"
            " stays unquantized.",
            partial(
                draw_sensitivity, scores=[row.scores for row in rows], chosen=[row.chosen for row in rows]
            ),
            height=3.6,
        )
    yield _sensitivity_table(rows)


def _sensitivity_table(rows: Sequence[LayerSensitivity]) -> Table:
    formats = list(dict.fromkeys(name for row in rows for name in row.scores))
    return Table(
        "Sensitivity of each layer, as figures",
        ("Group", "Layers", "Chosen", *(f"Damage with {name}" for name in formats)),
        tuple(
            (
                str(number),
                shared_prefix(row.modules),
                row.chosen,
                *(f"{row.scores[name]:.4g}" if name in row.scores else ABSENT for name in formats),
            )
            for number, row in enumerate(rows)
        ),
        texts=frozenset({1, 2}),
        folded=True,
    )


def shared_prefix(modules: Sequence[str]) -> str:
    """Names without repeating what they begin with: `model.layers.0.mlp.{gate_proj, up_proj}`."""
    prefix = commonprefix(list(modules)).rpartition(".")[0]  # noqa: RUF071 - cut back to whole names
    if len(modules) == 1 or not prefix:
        return ", ".join(modules)
    return f"{prefix}.{{{', '.join(name.removeprefix(f'{prefix}.') for name in modules)}}}"


def _census(audit: AuditReport) -> Table:
    return Table(
        "What the checkpoint's files hold",
        ("Type", "Tensors", "Size"),
        tuple(
            (dtype, f"{counts.get('tensors', 0):,}", file_size(counts.get("bytes", 0)))
            for dtype, counts in audit.dtype_census.items()
        ),
        folded=True,
    )
