"""Audit of what a draft's tokens mean: vocabulary, the maps between draft and target, tokenizer, template.

A draft whose token ids mean something else to the target still loads and runs; it is only never accepted.
"""

from __future__ import annotations

from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.drafts.target import (
    chat_template,
    map_digest,
    text_digest,
    vocabulary,
    vocabulary_digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.pipeline.training_jobs import DraftShape
    from bwdeploy.worker.drafts.shape import DraftFiles
    from bwdeploy.worker.drafts.target import Target
    from bwdeploy_runtime.quantization import TensorReader

_OTHER_MODEL = "Trained for another model, or for another revision of this one."
_SHOWN = 3


def check_sizes(files: DraftFiles, shape: DraftShape, target: Target) -> Iterator[AuditFinding]:
    """The sizes of both vocabularies."""
    if shape.vocab_size != target.vocab_size:
        message = f"the draft's vocabulary has {shape.vocab_size} tokens, the target's {target.vocab_size}"
        if not shape.vocab_size:
            message = f"the draft's config.json has no vocab_size; the target's is {target.vocab_size}"
        yield finding(
            "draft-vocabulary",
            message,
            hint=f"{_OTHER_MODEL} Or one of the two was resized for added tokens.",
        )
    rows, said = files.size("lm_head.weight", 0), files.number("draft_vocab_size")
    if rows is not None and said is not None and rows != said:
        yield finding(
            "draft-vocabulary-head",
            f"lm_head has {rows} rows, config.json says draft_vocab_size {said}",
            tensor=files.stored_names["lm_head.weight"],
            hint="config.json and weights come from two different drafts.",
        )


def check_maps(
    files: DraftFiles, shape: DraftShape, reader: TensorReader, identity: Mapping[str, Any] | None
) -> Iterator[AuditFinding]:
    """d2t holds for each draft token the offset to its id in the target's vocabulary."""
    if "d2t" not in files.tensors:
        if shape.draft_vocab_size < shape.vocab_size:
            yield finding(
                "draft-map-missing",
                f"the draft proposes {shape.draft_vocab_size} of {shape.vocab_size} tokens, "
                "and no d2t says which",
                hint="The map was left out of the export: export the draft again.",
            )
        return
    d2t = reader.tensor(files.stored_names["d2t"]).flatten().long()
    rows = files.size("lm_head.weight", 0)
    if rows is not None and len(d2t) != rows:
        yield finding(
            "draft-map-length",
            f"d2t names {len(d2t)} tokens, lm_head has {rows} rows",
            tensor=files.stored_names["d2t"],
            hint="Map and head come from two different drafts.",
        )
    ids = import_module("torch").arange(len(d2t)) + d2t
    if shape.vocab_size:
        yield from _check_ids(files, d2t, ids, vocab=shape.vocab_size)
    trained = (identity or {}).get("d2t_sha256")
    if trained is not None and trained != map_digest(d2t):
        yield finding(
            "draft-map-changed",
            "d2t is not the map that the draft was trained with",
            tensor=files.stored_names["d2t"],
            hint="Map and head come from two different drafts: take the files of one training.",
        )
    if "t2d" in files.tensors:
        yield from _check_inverse(files, ids, reader.tensor(files.stored_names["t2d"]).flatten())


def _check_ids(files: DraftFiles, d2t: Tensor, ids: Tensor, *, vocab: int) -> Iterator[AuditFinding]:
    where = files.stored_names["d2t"]
    outside = ((ids < 0) | (ids >= vocab)).nonzero().flatten()
    absolute = bool((d2t >= 0).all() and (d2t < vocab).all()) and len(d2t.unique()) == len(d2t)
    cause = "The map holds token ids, where runtimes expect offsets." if absolute else _OTHER_MODEL
    if len(outside):
        first = int(outside[0])
        yield finding(
            "draft-map-range",
            f"{len(outside)} of {len(ids)} draft tokens lie outside the vocabulary of {vocab}; the first is "
            f"draft token {first}, mapped to {int(ids[first])}",
            tensor=where,
            hint=cause,
        )
    elif len(ids.unique()) != len(ids):
        yield finding(
            "draft-map-twice",
            f"{len(ids) - len(ids.unique())} draft tokens are mapped to a token that another one has already",
            tensor=where,
            hint=cause if absolute else "The map was made for another vocabulary, or is damaged.",
        )
    elif len(ids) < vocab and not d2t.any():
        yield finding(
            "draft-map-identity",
            f"d2t is all zeros: the draft proposes the tokens 0 to {len(ids) - 1} only",
            severity="warning",
            tensor=where,
            hint="The map was never filled with the most frequent tokens.",
        )


def _check_inverse(files: DraftFiles, ids: Tensor, t2d: Tensor) -> Iterator[AuditFinding]:
    named = t2d.bool().nonzero().flatten().tolist()
    if set(named) != set(ids.tolist()):
        differing = len(set(named) ^ set(ids.tolist()))
        yield finding(
            "draft-map-differs",
            f"t2d and d2t name different tokens ({differing} of them)",
            tensor=files.stored_names["t2d"],
            hint="The two maps come from two different drafts.",
        )


def check_tokenizer(
    draft: Path, target: Target, identity: Mapping[str, Any] | None
) -> Iterator[AuditFinding]:
    """The draft's tokenizer id by id when it carries one, else the digest of the one it was trained with."""
    theirs = vocabulary(target.directory)
    mine = vocabulary(draft)
    if theirs is None:
        return
    if mine is not None:
        yield from _compare_tokens(mine, theirs)
    elif identity is not None and identity.get("tokenizer_sha256"):
        if identity["tokenizer_sha256"] != vocabulary_digest(theirs):
            yield finding(
                "draft-tokenizer",
                "the target's tokenizer is not the one that the draft was trained with",
                hint=f"{_OTHER_MODEL} One changed token id is enough: train the draft again for this target.",
            )
    else:
        yield finding(
            "draft-tokenizer-unknown",
            "the draft does not say which tokenizer it was trained with",
            severity="info",
            hint="Measuring its acceptance (speculative.measure) shows whether it fits.",
        )


def _compare_tokens(mine: Mapping[int, str], theirs: Mapping[int, str]) -> Iterator[AuditFinding]:
    differing = [one for one in sorted(mine.keys() | theirs.keys()) if mine.get(one) != theirs.get(one)]
    if not differing:
        return
    shown = ", ".join(
        f"{one}: {mine.get(one)!r} in the draft's, {theirs.get(one)!r} in the target's"
        for one in islice(differing, _SHOWN)
    )
    yield finding(
        "draft-tokenizer",
        f"{len(differing)} token ids differ between the tokenizers: {shown}",
        hint="The draft was trained with another tokenizer, or tokens were added to one of the two since: "
        "use the draft of this very model, or train it again.",
    )


def check_template(draft: Path, target: Target, identity: Mapping[str, Any] | None) -> Iterator[AuditFinding]:
    """A draft that only knows text in one chat format accepts next to nothing in another."""
    template = chat_template(target.directory)
    mine = chat_template(draft)
    digest = text_digest(mine) if mine is not None else (identity or {}).get("chat_template_sha256")
    if digest is not None and digest != (text_digest(template) if template is not None else None):
        what = "has another chat template than" if template is not None else "has no chat template, unlike"
        yield finding(
            "draft-chat-template",
            f"the target {what} the model that the draft was trained with",
            severity="warning",
            hint="Of text in a format that it never saw a draft has little accepted (1.04 tokens in a step "
            "instead of 2.9 was published): use the template of its training, or measure it.",
        )
