"""Stage `engine`: what TensorRT-LLM runs.

For the PyTorch backend that is `llm_args.yaml`, the LLM API arguments for the pinned version; they were
checked before anything ran, and the model path is added where the model is served. What only the draft's
files and its measurement say is filled in when the stage runs. For the backend tensorrt it is the engine
itself, see `engine_build`.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - part of the public signatures
from typing import TYPE_CHECKING, Any

import yaml

from bwdeploy.errors import ToolError
from bwdeploy.facts.speculation import DRAFT_DIRECTORY, captured_layers, measured_length, speculative_config
from bwdeploy.pipeline.stage import Step
from bwdeploy.stages.acceptance import chosen_schedule, measures
from bwdeploy.stages.draft import makes_draft, read_draft_report

if TYPE_CHECKING:
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

LLM_ARGS = "llm_args.yaml"
ENGINE = "engine"
"""Directory of the artifact that holds an engine."""
_SPECULATION = "speculative_config"


class EngineStage:
    """Writes the engine's arguments, or builds the engine."""

    name = "engine"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        del host  # arguments and engines are made for the machine that will serve, not this one
        if recipe.builds_engine:
            from bwdeploy.stages.engine_build import engine_step  # noqa: PLC0415 - no other backend needs it

            return engine_step(recipe)
        if recipe.engine.backend == "tensorrt":
            return None
        version = recipe.engine.tensorrt_llm
        inputs = _told_by(recipe)
        params: dict[str, Any] = {"tensorrt_llm": version, "llm_args": llm_args(recipe)}
        if inputs and recipe.speculative is not None:
            params |= {
                "method": recipe.speculative.method,
                "largest_batch": recipe.engine.max_batch_size,
            }
        return Step(params=params, inputs=inputs, command=f"write {LLM_ARGS} for TensorRT-LLM {version}")

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        if "llm_args" not in work.step.params:
            from bwdeploy.stages.engine_build import run_build  # noqa: PLC0415 - no other backend needs it

            run_build(work)
            return
        (work.out / LLM_ARGS).write_text(yaml.safe_dump(_whole_keys(_told_arguments(work))))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        if (out / ENGINE).is_dir():
            from bwdeploy.stages.engine_build import verify_engine  # noqa: PLC0415 - no other backend needs it

            verify_engine(out)
            return
        with (out / LLM_ARGS).open() as file:
            written = yaml.safe_load(file)
        if not isinstance(written, dict):
            raise ToolError(f"{LLM_ARGS} is not a mapping", hint="Report this as a bug of bwdeploy")

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`; arguments and engines have no limits."""


def llm_args(recipe: Recipe) -> dict[str, Any]:
    """The LLM API arguments that a recipe means, its own `engine.llm_args` laid over the derived ones."""
    engine, layout = recipe.engine, recipe.layout
    derived: dict[str, Any] = {
        "backend": "pytorch",
        "tensor_parallel_size": layout.tp,
        "pipeline_parallel_size": layout.pp,
        "max_batch_size": engine.max_batch_size,
        "max_num_tokens": engine.max_num_tokens,
        "max_seq_len": engine.max_seq_len,
        "trust_remote_code": recipe.model.trust_remote_code,
    }
    if layout.ep > 1:
        derived["moe_expert_parallel_size"] = layout.ep
    if layout.attention_dp:
        derived["enable_attention_dp"] = True
    if layout.nodes > 1:
        derived["gpus_per_node"] = layout.gpus_per_node
    if recipe.quantize.kv_cache != "none":
        derived["kv_cache_config"] = {"dtype": recipe.quantize.kv_cache}
    if recipe.speculative:
        derived[_SPECULATION] = speculative_config(
            recipe.speculative,
            engine.tensorrt_llm,
            draft_directory=DRAFT_DIRECTORY if makes_draft(recipe) else None,
        )
    return _merged(derived, engine.llm_args)


def drafts(out: Path) -> bool:
    """Whether the arguments of an engine artifact draft; where no length paid they do not."""
    return _SPECULATION in yaml.safe_load((out / LLM_ARGS).read_text())


def _told_by(recipe: Recipe) -> tuple[str, ...]:
    """The stages whose results are written into the arguments."""
    section = recipe.speculative
    chooses = section is not None and section.draft_len == "auto" and measures(recipe)
    return (*(("draft",) if makes_draft(recipe) else ()), *(("acceptance",) if chooses else ()))


def _told_arguments(work: Work) -> dict[str, Any]:
    """The planned arguments, over those that the draft and its measurement say."""
    params, told = work.step.params, dict[str, Any]()
    arguments: dict[str, Any] = params["llm_args"]
    if "draft" in work.inputs:
        shape = read_draft_report(work.inputs["draft"]).audit.shape
        told |= captured_layers(params["tensorrt_llm"], shape.hidden_layers) if shape is not None else {}
    if "acceptance" in work.inputs:
        schedule = chosen_schedule(work.inputs["acceptance"])
        if schedule[1] == 0:  # no draft is faster than none
            return {name: value for name, value in arguments.items() if name != _SPECULATION}
        told |= measured_length(
            params["method"], params["tensorrt_llm"], schedule, largest_batch=params["largest_batch"]
        )
    return _merged({_SPECULATION: told}, arguments) if told else arguments


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        both_mappings = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both_mappings else value
    return merged


def _whole_keys(value: Any) -> Any:  # noqa: ANN401 - JSON data
    """Numbers for keys that are numbers (batch sizes of a draft_len_schedule): JSON has none."""
    if not isinstance(value, dict):
        return value
    return {
        int(key) if isinstance(key, str) and key.isdecimal() else key: _whole_keys(below)
        for key, below in value.items()
    }
