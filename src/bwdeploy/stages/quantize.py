"""Stage `quantize`: the checkpoint of the deployment, quantized where the recipe says so.

For the PyTorch backend that is ModelOpt's unified Hugging Face layout. For an engine it is TensorRT-LLM's
own, one file for each rank, made by ModelOpt here or by the scripts that come with TensorRT-LLM. Calibration
alone, training and the search for formats are three jobs with one kind of result.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, TypeVar

from bwdeploy.accuracy.verdicts import judge_perplexity
from bwdeploy.engines.checkpoint import read_rank_checkpoint
from bwdeploy.engines.conversion import CALIBRATION, DRAFT, conversion_command, needs_calibration
from bwdeploy.engines.drafts import heads_of
from bwdeploy.errors import GateError, ToolError
from bwdeploy.pipeline.jobs import ExportRanks, ProgramNeed, QuantizePtq, ToolRun
from bwdeploy.pipeline.stage import Step
from bwdeploy.pipeline.training_jobs import QuantizeTrained, TrainedResult
from bwdeploy.pipeline.trees import link_or_copy
from bwdeploy.recipe.schema import FormatSearch, Training
from bwdeploy.recipe.uris import FILE_SCHEME, file_of
from bwdeploy.stages.checkpoint import checkpoint_layout
from bwdeploy.stages.datasets import dataset_sources, found_dataset, placed_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bwdeploy.accuracy.verdicts import Judgement
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.jobs import JobData
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Quantize, Recipe

RequestT = TypeVar("RequestT", bound=QuantizePtq)
RESULT = "quantize.json"
_DRIFT = 0.01
"""How much worse a trained checkpoint may be as files, relative."""
_TEXTS = {"calibration", "training"}
"""Sections that name a data set."""
_TOOLS = ("nvidia-modelopt", "torch", "transformers")
_SOURCE, _OUT = "SOURCE", "OUT"
"""In a planned command, in place of directories that are known when the stage runs."""


class QuantizeStage:
    """Makes the checkpoint, when the recipe asks for another one than its source."""

    name = "quantize"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        for_engine = checkpoint_layout(recipe) == "tensorrt_llm"
        if for_engine and recipe.engine.converter == "tensorrt_llm":
            return _conversion_step(recipe)
        if recipe.quantize.quantizes:
            return _quantization_step(recipe, host, for_engine=for_engine)
        return _export_step(recipe) if for_engine else None

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        result = _MADE_BY[work.step.params.get("by", "modelopt")](work)
        (work.out / RESULT).write_text(result.model_dump_json(indent=1))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        config = out / "config.json"
        if not config.is_file():
            raise _incomplete("the exported checkpoint has no config.json")
        if any(out.glob("rank*.safetensors")):
            _require_every_rank(out)
            return
        if not (out / "hf_quant_config.json").is_file():
            raise _incomplete("the exported checkpoint has no hf_quant_config.json")
        if "quantization_config" not in json.loads(config.read_text()):
            raise _incomplete("config.json of the exported checkpoint has no quantization_config")

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`: what was trained has to be what ships; all else is judged by the gate."""
        if recipe.quantize.trains:
            _require_kept_training(json.loads((out / RESULT).read_text()))


def _quantization_step(recipe: Recipe, host: Host, *, for_engine: bool) -> Step:
    quantize = recipe.quantize
    params = quantize.model_dump(mode="json", exclude={"method", "training", "search"})
    params |= _beyond_ptq(quantize)
    sources: dict[str, Path] = {}
    for name in _TEXTS & params.keys():
        dataset = params[name]["dataset"]
        sources |= dataset_sources(dataset, name=name)
        params[name]["dataset"] = placed_dataset(dataset)
    if quantize.recipe and quantize.recipe.startswith(FILE_SCHEME):
        sources["recipe"] = file_of(quantize.recipe)
        params["recipe"] = FILE_SCHEME
    params |= {"device": host.device, "trust_remote_code": recipe.model.trust_remote_code}
    if for_engine:
        params |= {"layout": "tensorrt_llm", "tp": recipe.layout.tp, "pp": recipe.layout.pp}
    return Step(
        params=params,
        sources=sources,
        inputs=("source",),
        tools=(*_TOOLS, "accelerate") if quantize.trains else _TOOLS,
        command=f"ModelOpt {_in_words(quantize)} on {host.device}{_ranks(recipe)}",
    )


def _beyond_ptq(quantize: Quantize) -> dict[str, Any]:
    """What the methods that train or search add; defaults are written out, so that they count for the key."""
    if quantize.trains:
        training = quantize.training or Training()
        return {"method": quantize.method, "training": training.model_dump(mode="json")}
    if quantize.method == "auto":
        search = quantize.search or FormatSearch()
        return {"method": quantize.method, "search": search.model_dump(mode="json")}
    return {}


def _in_words(quantize: Quantize) -> str:
    if quantize.method == "auto":
        search = quantize.search or FormatSearch()
        return f"search of {', '.join(search.formats)} within {search.effective_bits:g} bits"
    return f"{quantize.method.upper()} {quantize.format or quantize.recipe}"


def _export_step(recipe: Recipe) -> Step:
    return Step(
        params={
            "by": "export",
            "tp": recipe.layout.tp,
            "pp": recipe.layout.pp,
            "trust_remote_code": recipe.model.trust_remote_code,
        },
        inputs=("source",),
        tools=_TOOLS,
        command=f"ModelOpt export, unquantized{_ranks(recipe)}",
    )


def _conversion_step(recipe: Recipe) -> Step:
    program, arguments = conversion_command(recipe, source=_SOURCE, out=_OUT)
    text, heads = recipe.quantize.calibration.dataset, heads_of(recipe)
    sources = dataset_sources(text, name="calibration") if needs_calibration(recipe) else {}
    if heads is not None and heads.draft is not None:
        sources["draft"] = file_of(heads.draft)
    need = ProgramNeed(
        program=program, tensorrt_llm=recipe.engine.tensorrt_llm, gpus=recipe.layout.gpus_per_node
    )
    return Step(
        params={
            "by": "tensorrt_llm",
            "tensorrt_llm": need.tensorrt_llm,
            "program": need.program,
            "arguments": list(arguments),
            "gpus": need.gpus,
        },
        sources=sources,
        inputs=("source",),
        program=need,
        command=shlex.join((program, *arguments)),
    )


def _ranks(recipe: Recipe) -> str:
    if checkpoint_layout(recipe) == "unified":
        return ""
    return f", for trtllm-build: tp {recipe.layout.tp}, pp {recipe.layout.pp}"


def _quantize(work: Work) -> JobData:
    params, sources = dict(work.step.params), work.step.sources
    if "recipe" in sources:
        params["recipe"] = f"{FILE_SCHEME}{sources['recipe']}"
    for name in _TEXTS & params.keys():
        found = found_dataset(params[name]["dataset"], sources, name=name)
        params[name] = params[name] | {"dataset": found}
    places = {"source": str(work.inputs["source"]), "out": str(work.out)}
    if "method" not in params:
        return work.run(_request(QuantizePtq, params | places))
    return work.run(_request(QuantizeTrained, params | places | {"state": str(work.state)}))


def _request(kind: type[RequestT], params: dict[str, Any]) -> RequestT:
    # As JSON: sections of a recipe are strict and would refuse a list where they have a tuple.
    return kind.model_validate_json(json.dumps(params))


def _export(work: Work) -> JobData:
    params: dict[str, Any] = {name: value for name, value in work.step.params.items() if name != "by"}
    return work.run(ExportRanks(source=work.inputs["source"], out=work.out, **params))


def _convert(work: Work) -> JobData:
    params, source = work.step.params, work.inputs["source"]
    texts = dict(work.step.sources)
    draft = texts.pop("draft", None)
    text = work.scratch / "calibration"
    text.mkdir(exist_ok=True)
    for file in texts.values():
        if not (text / file.name).exists():  # a job that outlived an earlier process reads it already
            link_or_copy(file, text / file.name)
    places = {_SOURCE: str(source), _OUT: str(work.out), CALIBRATION: str(text), DRAFT: str(draft)}
    return work.run_tool(
        ToolRun(
            program=params["program"],
            arguments=tuple(places.get(word, word) for word in params["arguments"]),
            tensorrt_llm=params["tensorrt_llm"],
            reads=(source,) if draft is None else (source, draft),
            writes=(work.out,),
            gpus=params["gpus"],
        )
    )


_MADE_BY = {"modelopt": _quantize, "export": _export, "tensorrt_llm": _convert}


def read_trained(out: Path) -> TrainedResult | None:
    """What training or search measured; None for a checkpoint that was made otherwise."""
    text = (out / RESULT).read_text()
    return TrainedResult.model_validate_json(text) if "curve" in json.loads(text) else None


def export_change(trained: Sequence[float], exported: Sequence[float]) -> Judgement | None:
    """What the export did to the perplexity, against what it may; None without sequences to compare.

    Both are the likelihoods of a `TrainedResult`.
    Files that say the same as the model in training do not give the same figure on a GPU: other kernels round
    the last bit otherwise, an activation gets the next FP4 code, and all that follows moves.
    """
    if not trained or not exported:
        return None
    return judge_perplexity(trained, exported, max_increase=_DRIFT)


def _require_kept_training(result: Mapping[str, Any]) -> None:
    trained, exported = result["perplexity_trained"], result["perplexity_exported"]
    change = export_change(result.get("likelihoods_trained", ()), result.get("likelihoods_exported", ()))
    if change is not None and change.low is not None:
        kept = change.verdict != "fail"
    else:
        kept = exported <= trained * (1 + _DRIFT)
    if not kept:
        raise GateError(
            f"the export lost the training: perplexity {trained:.4g} in training, {exported:.4g} as exported",
            hint="This is a fault of the export for this model and format; "
            "try another quantize.format, or quantize.method: ptq",
        )


def _require_every_rank(out: Path) -> None:
    missing = read_rank_checkpoint(out).missing_files
    if missing:
        raise _incomplete(f"the exported checkpoint lacks {', '.join(missing)}")


def _incomplete(message: str) -> ToolError:
    return ToolError(message, hint="The log of the quantize stage says why")
