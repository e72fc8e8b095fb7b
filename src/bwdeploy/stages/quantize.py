"""Stage `quantize`: the ModelOpt checkpoint in the unified Hugging Face layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import QuantizePtq
from bwdeploy.pipeline.stage import Step
from bwdeploy.recipe.uris import FILE_SCHEME, file_of
from bwdeploy.stages.datasets import dataset_sources, found_dataset, placed_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

RESULT = "quantize.json"


class QuantizeStage:
    """Makes the quantized checkpoint, when the recipe asks for one."""

    name = "quantize"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        quantize = recipe.quantize
        if not quantize.quantizes:
            return None
        params = quantize.model_dump(mode="json", exclude={"method"} if quantize.method == "ptq" else set())
        sources = dataset_sources(quantize.calibration.dataset, name="calibration")
        params["calibration"]["dataset"] = placed_dataset(quantize.calibration.dataset)
        if quantize.recipe and quantize.recipe.startswith(FILE_SCHEME):
            sources["recipe"] = file_of(quantize.recipe)
            params["recipe"] = FILE_SCHEME
        params |= {"device": host.device, "trust_remote_code": recipe.model.trust_remote_code}
        what = quantize.format or quantize.recipe
        return Step(
            params=params,
            sources=sources,
            inputs=("source",),
            tools=("nvidia-modelopt", "torch", "transformers"),
            command=f"ModelOpt {quantize.method.upper()} {what} on {host.device}",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        params, sources = dict(work.step.params), work.step.sources
        if "recipe" in sources:
            params["recipe"] = f"{FILE_SCHEME}{sources['recipe']}"
        placed = params["calibration"]["dataset"]
        params["calibration"] = params["calibration"] | {
            "dataset": found_dataset(placed, sources, name="calibration")
        }
        request = QuantizePtq.model_validate(params | {"source": work.inputs["source"], "out": work.out})
        result = work.executor.run(request, log=work.log, on_progress=work.on_progress)
        (work.out / RESULT).write_text(result.model_dump_json(indent=1))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        for name in ("config.json", "hf_quant_config.json"):
            if not (out / name).is_file():
                raise ToolError(
                    f"the exported checkpoint has no {name}", hint="The log of the quantize stage says why"
                )
        config = json.loads((out / "config.json").read_text())
        if "quantization_config" not in config:
            raise ToolError(
                "config.json of the exported checkpoint has no quantization_config",
                hint="The log of the quantize stage says why",
            )

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`; the gate judges checkpoints."""
