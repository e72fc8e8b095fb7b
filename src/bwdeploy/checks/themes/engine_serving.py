"""Rules on how an engine is served: parameters against what was built, the launch, names and the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.engines.drafts import MODE, flags_with_drafts
from bwdeploy.facts.speculation import HEADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bwdeploy.errors import Severity
    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Recipe

PATH: KeyPath = ("serve", "engine_parameters")
BACKEND = "NVIDIA/TensorRT-LLM triton_backend/inflight_batcher_llm/src/model_instance_state.cc"
_TEMPLATES = "triton-inference-server/tensorrtllm_backend docs/model_config.md"
_LOOKAHEAD = ("lookahead_window_size", "lookahead_ngram_size", "lookahead_verification_set_size")
_MODES = {
    "medusa": "medusa",
    "redrafter": "explicit_draft_tokens",
    "lookahead": "lookahead_decoding",
    "eagle": "eagle",
}
"""Decoding mode → the mode that trtllm-build must have built for it."""
_CHOICES = ("medusa_choices", "eagle_choices")
_WITHOUT_SPAWNING = ("participant_ids", "speculative_decoding_fast_logits")


def serves_engine(recipe: Recipe) -> bool:
    """Whether Triton runs an engine."""
    return recipe.builds_engine and recipe.serve.server == "triton"


def given(subject: Subject) -> dict[str, object]:
    """The parameters that have an effect."""
    recipe = subject.recipe
    return recipe.serve.engine_parameters if serves_engine(recipe) else {}


def engine_rule(
    name: str,
    summary: str,
    find: Callable[[Subject], Iterable[Problem]],
    *,
    severity: Severity,
    source: str = _TEMPLATES,
    why: str,
) -> Rule:
    """A rule whose id begins with `engine-`."""
    return Rule(id=f"engine-{name}", severity=severity, summary=summary, find=find, source=source, why=why)


def _batch(subject: Subject) -> Iterator[Problem]:
    value, limit = (
        given(subject).get("triton_max_batch_size"),
        subject.recipe.engine.max_batch_size,
    )
    if isinstance(value, int) and not isinstance(value, bool) and value > limit:
        message = f"Triton would hand over {value} requests at once, and the engine runs {limit}"
        yield Problem((*PATH, "triton_max_batch_size"), message, f"set it to {limit}, or remove it")


def _decoding(subject: Subject) -> Iterator[Problem]:
    parameters = given(subject)
    mode, built = parameters.get("decoding_mode"), _built_mode(subject)
    wanted = _MODES.get(mode) if isinstance(mode, str) else None
    if wanted is not None and wanted != built:
        message = f"the engine is built {f'for {built}' if built else 'without drafts'}, not for {wanted}"
        where = "speculative.method" if wanted in HEADS else f"engine.build_flags.{MODE}"
        hint = f"remove it, or set {where}: {wanted}"
        yield Problem((*PATH, "decoding_mode"), message, hint)
    for name in _CHOICES:
        if name in parameters and built != name.partition("_")[0]:
            message = (
                f"the engine is built {f'for {built}' if built else 'without drafts'}, and has no such tree"
            )
            yield Problem((*PATH, name), message, "remove it")


def _lookahead(subject: Subject) -> Iterator[Problem]:
    missing = [name for name in _LOOKAHEAD if name not in given(subject)]
    if serves_engine(subject.recipe) and _built_mode(subject) == "lookahead_decoding" and missing:
        message = f"lookahead decoding needs {', '.join(missing)}"
        yield Problem(PATH, message, "add what trtllm-build was given, for example 7, 7 and 7")


def _one_rank(subject: Subject) -> Iterator[Problem]:
    layout = subject.recipe.layout
    if not serves_engine(subject.recipe) or layout.tp * layout.pp > 1:
        return
    if subject.recipe.serve.launch_mode == "orchestrator":
        message = "the engine has one rank, which needs no orchestrator"
        yield Problem(("serve", "launch_mode"), message, "remove it")


def _of_another_launch(subject: Subject) -> Iterator[Problem]:
    for name in _WITHOUT_SPAWNING:
        if given(subject).get(name):
            message = "this is for an orchestrator that starts no workers; both launch modes start theirs"
            yield Problem((*PATH, name), message, "remove it")


def _names(subject: Subject) -> Iterator[Problem]:
    serve = subject.recipe.serve
    if serves_engine(subject.recipe) and serve.model_name != "tensorrt_llm":
        message = (
            "the models of an engine have fixed names: clients ask ensemble or tensorrt_llm_bls, "
            f"not {serve.model_name}"
        )
        yield Problem(("serve", "model_name"), message, "remove it")


def _unlimited(subject: Subject) -> Iterator[Problem]:
    if serves_engine(subject.recipe) and subject.recipe.serve.max_queued == 0:
        message = "Triton takes 0 for no limit, so that 1 is written"
        yield Problem(("serve", "max_queued"), message, "set it to 1 or more")


def _built_mode(subject: Subject) -> str:
    mode = flags_with_drafts(subject.recipe).get(MODE)
    return mode if isinstance(mode, str) else ""


RULES = (
    engine_rule(
        "parameter-batch",
        "a Triton batch above the engine's",
        _batch,
        severity="warning",
        why="Requests beyond the engine's batch wait inside it, where no queue limit counts them.",
    ),
    engine_rule(
        "parameter-decoding",
        "a decoding mode that the engine was not built for",
        _decoding,
        severity="error",
        source=BACKEND,
        why="The model does not load, or decodes another way than the recipe says.",
    ),
    engine_rule(
        "parameter-lookahead",
        "lookahead decoding without its sizes",
        _lookahead,
        severity="error",
        source=BACKEND,
        why="The backend throws when the model loads.",
    ),
    engine_rule(
        "parameter-launch",
        "a parameter of a launch that is not written",
        _of_another_launch,
        severity="warning",
        source=BACKEND,
        why="The backend switches fast logits off with a line in its log; rank numbers that do not fit the "
        "launch end it.",
    ),
    engine_rule(
        "launch-one-rank",
        "an orchestrator for one rank",
        _one_rank,
        severity="warning",
        source="NVIDIA/TensorRT-LLM triton_backend/scripts/launch_triton_server.py",
        why="One more process stands between the requests and the engine.",
    ),
    engine_rule(
        "model-name",
        "another name for the models of an engine",
        _names,
        severity="warning",
        why="Clients that ask for that name get 404. The other backend serves that name.",
    ),
    engine_rule(
        "queue-unlimited",
        "no request may wait",
        _unlimited,
        severity="warning",
        source="triton-inference-server/common protobuf/model_config.proto",
        why="The engine's queue cannot be closed; one request waits where the recipe allows none.",
    ),
)
