"""Write a trained draft in the layout that TensorRT-LLM's Eagle3 loader reads.

ModelOpt's exporter writes names and configuration. Repaired here: the weights' type (it says bfloat16 and
writes what was trained), and the positions: a plain `rope_theta` with no scaling, as the draft was trained
and as TensorRT-LLM reads it (its parser knows no scaling of the type "default").
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.worker.drafts.shape import read_draft, shape_of
from bwdeploy.worker.drafts.target import write_identity
from bwdeploy.worker.hf_directory import make_readable, update_json

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.training_jobs import DraftShape
    from bwdeploy.worker.drafts.modelopt_eagle import EagleModel

_DTYPE = "bfloat16"


def export_draft(eagle: EagleModel, target: Path, out: Path) -> DraftShape:
    """Write the draft in bfloat16 into `out`; its training ends here."""
    eagle.draft.to(torch.bfloat16)
    import_module("modelopt.torch.export").export_speculative_decoding(eagle.model, export_dir=out)
    update_json(out / "config.json", lambda config: _repaired(config, eagle))
    write_identity(out, target, eagle.hidden_layers)
    make_readable(out)
    return shape_of(read_draft(out), target_layers=eagle.model.config.get_text_config().num_hidden_layers)


def _repaired(config: dict[str, Any], eagle: EagleModel) -> dict[str, Any]:
    return config | {
        "torch_dtype": _DTYPE,
        "dtype": _DTYPE,
        "rope_theta": eagle.rope_theta,
        "rope_scaling": None,
    }
