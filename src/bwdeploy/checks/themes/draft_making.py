"""Rules on a draft that the build trains or measures, and on a draft length that is left to a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.drafting import ARGUMENT, drafting
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.speculation import HEADS, NEW_SPELLING
from bwdeploy.recipe.schema import DraftMeasurement
from bwdeploy.recipe.uris import FILE_SCHEME, file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Speculative

_TRAIN: KeyPath = ("speculative", "train")
_MEASURE: KeyPath = ("speculative", "measure")
_LENGTH: KeyPath = ("speculative", "draft_len")
_LIMIT: KeyPath = ("gate", "min_acceptance_length")
_BUILT_IN_PROMPTS = "builtin://chat-prompts"
_BUILT_IN_WORKLOADS = "builtin://workloads"
_TEXT_SUFFIX = ".jsonl"


def _two_drafts(subject: Subject) -> Iterator[Problem]:
    section = subject.recipe.speculative
    if section is not None and section.train is not None and section.draft is not None:
        message = "a draft is named and one is trained; only one of them can be served"
        yield Problem(("speculative", "draft"), message, "remove it, or remove train")


def _untrainable(subject: Subject) -> Iterator[Problem]:
    section = subject.recipe.speculative
    if section is None or section.train is None or section.method == "eagle3":
        return
    what = "the model's own layers draft" if section.method == "mtp" else "heads are trained by their authors"
    message = f"only EAGLE-3 drafts are trained; with method {section.method} {what}"
    yield Problem(_TRAIN, message, "remove it, or set speculative.method: eagle3")


def _unmeasurable(subject: Subject) -> Iterator[Problem]:
    recipe, section = subject.recipe, subject.recipe.speculative
    if section is None or not section.measured:
        return
    path = _MEASURE if section.measure is not None else _LENGTH
    if section.method in HEADS:
        message = f"{section.method} heads run inside an engine, where this build cannot measure them"
        yield Problem(path, message, "remove measure and write draft_len as a number")
    elif recipe.engine.backend == "pytorch" and section.method == "eagle3" and not _has_draft(section):
        if not _names_draft_in_arguments(subject):
            return  # speculative-draft-missing says more
        message = "the draft that llm_args names is not in the build, so that it cannot be measured"
        yield Problem(path, message, "name it as speculative.draft")


def _has_draft(section: Speculative) -> bool:
    return section.draft is not None or section.train is not None


def _names_draft_in_arguments(subject: Subject) -> bool:
    found = drafting(subject)
    return found is not None and found.names_draft


def _auto_and_given(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or found.section is None or found.section.draft_len != "auto":
        return
    for key in ("draft_len_schedule", "max_concurrency"):
        if found.given.get(key) is not None:
            message = f"draft_len: auto writes the lengths by batch size itself, so that {key} contradicts it"
            yield Problem((*ARGUMENT, key), message, "remove it, or write draft_len as a number")


def _schedule_in_one_model(subject: Subject) -> Iterator[Problem]:
    found = drafting(subject)
    if found is None or not found.is_old or found.kind not in {"eagle", "mtp"}:
        return
    if any(found.given.get(key) is False for key in ("eagle3_one_model", "mtp_eagle_one_model")):
        return
    is_auto = found.section is not None and found.section.draft_len == "auto"
    if is_auto or found.given.get("draft_len_schedule"):
        path = _LENGTH if is_auto else (*ARGUMENT, "draft_len_schedule")
        message = (
            f"TensorRT-LLM {found.tensorrt_llm} accepts lengths by batch size and, with draft and model in "
            "one, drafts the first at every size"
        )
        major, minor, *_ = NEW_SPELLING
        yield Problem(path, message, f"set engine.tensorrt_llm: {major}.{minor} or later to have them used")


def _layers(subject: Subject) -> Iterator[Problem]:
    section, shape = subject.recipe.speculative, subject.shape
    if section is None or section.train is None or section.train.hidden_layers is None:
        return
    layers, path = section.train.hidden_layers, (*_TRAIN, "hidden_layers")
    count = len(shape.layers) if shape is not None else 0
    outside = [one for one in layers if one < 0 or (count and one >= count)]
    if outside:
        last = f"0 to {count - 1}" if count else "from 0"
        message = f"there is no layer {outside[0]}: the model has layers {last}"
        yield Problem(path, message, "name a low, a middle and a high layer, for example 1, n/2-1 and n-4")
    elif list(layers) != sorted(set(layers)):
        message = f"{list(layers)} is not ascending"
        yield Problem(path, message, f"write {sorted(set(layers))}: the runtime joins them in this order")


def _draft_vocabulary(subject: Subject) -> Iterator[Problem]:
    section, shape = subject.recipe.speculative, subject.shape
    if section is None or section.train is None or section.train.draft_vocab is None or shape is None:
        return
    wanted = section.train.draft_vocab
    if shape.vocab and wanted > shape.vocab:
        message = f"the draft cannot propose {wanted} tokens of a vocabulary of {shape.vocab}"
        hint = "remove it for the whole vocabulary, or write 32000 or another part of it"
        yield Problem((*_TRAIN, "draft_vocab"), message, hint)


def _settings(subject: Subject) -> Iterator[Problem]:
    section = subject.recipe.speculative
    train = section.train if section is not None else None
    if train is None:
        return
    if train.batch_size % train.gpus:
        message = f"{train.batch_size} sequences cannot be shared evenly by {train.gpus} GPUs"
        yield Problem((*_TRAIN, "batch_size"), message, f"write a multiple of {train.gpus}")
    if train.answers == "target" and train.temperature == 0 and train.answers_per_prompt > 1:
        message = f"with temperature 0 all {train.answers_per_prompt} answers to a prompt are the same"
        hint = "write answers_per_prompt: 1, or a temperature above 0"
        yield Problem((*_TRAIN, "answers_per_prompt"), message, hint)
    if train.prompts == 1:
        message = "a single prompt cannot be trained on and held out"
        yield Problem((*_TRAIN, "prompts"), message, "write 2 at least; thousands train a useful draft")


def _several_layers(subject: Subject) -> Iterator[Problem]:
    section = subject.recipe.speculative
    if section is not None and section.train is not None and section.train.layers > 1:
        message = (
            f"a draft of {section.train.layers} layers: ModelOpt and TensorRT-LLM name the norms of later "
            "layers differently"
        )
        yield Problem((*_TRAIN, "layers"), message, "train one layer and widen it with ffn_width")


def _texts(subject: Subject) -> Iterator[Problem]:
    section = subject.recipe.speculative
    if section is None:
        return
    measure = section.measure or DraftMeasurement()
    named = [((*_MEASURE, "prompts"), measure.prompts, _BUILT_IN_WORKLOADS)]
    if section.train is not None:
        named.append(((*_TRAIN, "data"), section.train.data, _BUILT_IN_PROMPTS))
    for path, uri, built_in in named:
        is_file = uri.startswith(FILE_SCHEME) and file_of(uri).suffix == _TEXT_SUFFIX
        if uri != built_in and not is_file:
            yield Problem(path, f"{uri!r} holds no prompts", f"write {built_in} or file://X.jsonl")


def _given_answers(subject: Subject) -> Iterator[Problem]:
    section = subject.recipe.speculative
    if section is None or section.train is None or section.train.answers != "given":
        return
    if section.train.data == _BUILT_IN_PROMPTS:
        message = "the built-in prompts have no answers"
        hint = "write answers: target, or data: file://X.jsonl with conversations (messages)"
        yield Problem((*_TRAIN, "answers"), message, hint)


def _limit_unused(subject: Subject) -> Iterator[Problem]:
    limit, section = subject.recipe.gate.min_acceptance_length, subject.recipe.speculative
    if limit is None:
        return
    if section is None or not section.measured:
        message = "no draft is measured, so that this limit is never applied"
        hint = (
            "add speculative.measure: {}"
            if section is not None
            else "remove it, or add a section speculative"
        )
        yield Problem(_LIMIT, message, hint)
    elif limit > section.longest_draft + 1:
        message = (
            f"a step that drafts {section.longest_draft} tokens gains {section.longest_draft + 1} at most, "
            f"never {limit:g}"
        )
        yield Problem(_LIMIT, message, "write a number from 1 to the draft length and one")


def _not_served(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.serve.runtime == "reference" and recipe.speculative is not None:
        message = "the runtime reference answers without drafts: they are made and measured, not used"
        yield Problem(("serve", "runtime"), message, "set serve.runtime: tensorrt_llm to draft")


RULES = (
    Rule(
        id="speculative-two-drafts",
        severity="error",
        summary="a draft is imported and trained",
        find=_two_drafts,
        why="One of the two would be dropped after hours of training, or a named one never looked at.",
    ),
    Rule(
        id="speculative-untrainable",
        severity="error",
        summary="training for a method without a draft model",
        find=_untrainable,
        why="There is no draft that the training could make for this method.",
    ),
    Rule(
        id="speculative-unmeasurable",
        severity="error",
        summary="a draft that the build cannot measure",
        find=_unmeasurable,
        why="The measurement runs model and draft with torch; it needs the files of both.",
    ),
    Rule(
        id="speculative-auto-and-given",
        severity="error",
        summary="a measured draft length beside lengths that are given",
        find=_auto_and_given,
        why="The given lengths would stand over the measured ones, and the measurement would be for nothing.",
    ),
    Rule(
        id="speculative-schedule-one-model",
        severity="info",
        summary="draft lengths by batch size that 1.2 does not use",
        find=_schedule_in_one_model,
        source="https://github.com/NVIDIA/TensorRT-LLM/pull/10860 · "
        "https://github.com/NVIDIA/TensorRT-LLM/pull/12262",
        why="Up to 1.2 only the deprecated two-model drafting and n-grams change their length; large batches "
        "then draft more than pays.",
    ),
    Rule(
        id="speculative-captured-layers",
        severity="error",
        summary="a draft on layers that do not exist, or in no order",
        find=_layers,
        source="tensorrt_llm/_torch/speculative/eagle3.py",
        why="TensorRT-LLM joins what the captured layers give in ascending order; a draft that was trained "
        "on another order reads noise.",
    ),
    Rule(
        id="speculative-draft-vocabulary",
        severity="error",
        summary="a draft vocabulary larger than the model's",
        find=_draft_vocabulary,
        why="The training refuses it, but only when the checkpoint has been made and has passed its gate.",
    ),
    Rule(
        id="speculative-training-settings",
        severity="error",
        summary="settings of a draft's training that contradict each other",
        find=_settings,
        why="The training refuses them, but only when the checkpoint has been made and has passed its gate.",
    ),
    Rule(
        id="speculative-several-layers",
        severity="warning",
        summary="a draft of several layers",
        find=_several_layers,
        source="tensorrt_llm/_torch/models/modeling_speculative.py · modelopt.torch.export",
        why="As their sources read, such a draft lacks a norm where TensorRT-LLM loads it; nobody has run "
        "one here.",
    ),
    Rule(
        id="speculative-text",
        severity="error",
        summary="prompts that cannot be read",
        find=_texts,
        why="Training and measurement would have no prompts, after the model has been loaded.",
    ),
    Rule(
        id="speculative-given-answers",
        severity="error",
        summary="given answers of prompts without answers",
        find=_given_answers,
        why="There would be nothing to train on.",
    ),
    Rule(
        id="speculative-limit-unused",
        severity="error",
        summary="an acceptance limit that nothing can be held against",
        find=_limit_unused,
        why="The gate would pass whatever the draft does, or never.",
    ),
    Rule(
        id="speculative-not-served",
        severity="info",
        summary="a draft with a runtime that does not use it",
        find=_not_served,
        why="The reference runtime decodes token by token; what the draft gains shows in the report only.",
    ),
)
