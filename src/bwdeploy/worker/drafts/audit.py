"""Hold an EAGLE3 draft against the model that it shall draft for.

A draft that does not fit loads all the same in most cases and is only never accepted, so that everything
that can be compared is compared: sizes, token maps, captured layers, tokenizer, template, tensors. What is
found is judged by the stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.problem import ShapeError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import DraftAudit
from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.drafts import structure, vocabulary, weights
from bwdeploy.worker.drafts.shape import read_draft, shape_of
from bwdeploy.worker.drafts.target import read_identity, read_target
from bwdeploy_runtime.quantization import CheckpointError, TensorReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.pipeline.training_jobs import AuditDraft, DraftShape
    from bwdeploy.worker.drafts.shape import DraftFiles
    from bwdeploy.worker.drafts.target import Target

_BY_SIZE = frozenset({"draft-not-eagle3", "draft-hidden-size", "draft-captured-width"})
"""With one of these the shapes of tensors differ as well, which says nothing new."""


def run(request: AuditDraft, report: Callable[[Progress], None]) -> DraftAudit:
    """Answer an `AuditDraft`: the draft's shape and everything that does not fit."""
    report(Progress(phase="read draft"))
    try:
        files = read_draft(request.draft)
        target = read_target(request.target)
        shape = shape_of(files, target_layers=target.layers)
        findings = tuple(_findings(request, files, shape, target, report))
    except (ShapeError, CheckpointError) as error:
        hint = error.hint if isinstance(error, ShapeError) else ""
        return DraftAudit(shape=None, findings=(finding("draft-unreadable", str(error), hint=hint),))
    return DraftAudit(shape=shape, findings=findings)


def _findings(
    request: AuditDraft,
    files: DraftFiles,
    shape: DraftShape,
    target: Target,
    report: Callable[[Progress], None],
) -> Iterator[AuditFinding]:
    identity = read_identity(request.draft)
    of_size = [*structure.check_kind(files), *structure.check_hidden_size(files, shape, target)]
    yield from of_size
    yield from structure.check_layers(files, shape, target, identity)
    yield from structure.check_positions(files, target)
    yield from vocabulary.check_sizes(files, shape, target)
    report(Progress(phase="compare tokenizers"))
    yield from vocabulary.check_tokenizer(request.draft, target, identity)
    yield from vocabulary.check_template(request.draft, target, identity)
    yield from weights.check_dtypes(files, target)
    if not any(one.check in _BY_SIZE for one in of_size):
        yield from weights.check_names_and_shapes(files, shape, target)
    with TensorReader(request.draft) as reader:
        yield from vocabulary.check_maps(files, shape, reader, identity)
        yield from weights.check_values(
            files,
            reader,
            lambda done, total: report(Progress(phase="read weights", done=done, total=total)),
        )
