"""The sections `model` and `quantize` for a deployment of the LLM API, which loads models as they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bwdeploy.migration.found import Note
from bwdeploy.migration.weights import given_source, source_of_place
from bwdeploy.model.describe import describe_source

if TYPE_CHECKING:
    from bwdeploy.migration.draft import RecipeDraft
    from bwdeploy.migration.found import Wanted
    from bwdeploy.migration.llm_api_recipe import LlmApiDeployment

_MAIN = "@main"
_FIXED = re.compile(r"^file://|@[0-9a-f]{40}$")
_OF_QUANTIZED_EXPERTS = "use_low_precision_moe_combine"
_NAMES_A_FORMAT = re.compile(r"(?<![a-z0-9])(nv|mx)?fp[48](?![a-z0-9])", re.IGNORECASE)


def put_model(
    draft: RecipeDraft, deployment: LlmApiDeployment, arguments: dict[str, Any], wanted: Wanted
) -> bool:
    """Write `model`, and return whether the source is still to be named."""
    revision, trusted = arguments.pop("revision", None), arguments.pop("trust_remote_code", None)
    named = arguments.pop("model", None)
    source = given_source(wanted.model) if wanted.model else _source(deployment, named)
    if source:
        source = _at_revision(source, revision)
        draft.put(("model", "source"), source)
        if source.endswith(_MAIN):
            message = "no revision is said; @main follows the branch"
            hint = "put in the commit that `hf download` names"
            draft.note(Note("assumed", "model.source", source, message, hint))
    if trusted is True:
        _put_trust(draft, source)
    return not source


def _put_trust(draft: RecipeDraft, source: str) -> None:
    """Trust the model's code where it cannot change; on a branch, somebody could put in another one."""
    if _FIXED.search(source):
        draft.put(("model", "trust_remote_code"), value=True)
        return
    message = "left out: it would run whatever Python the branch holds, and most models need none"
    hint = "set model.trust_remote_code: true together with a 40-hex revision, if it does not load without"
    draft.note(Note("changed", "trust_remote_code", value=True, message=message, hint=hint))


def put_prequantized(draft: RecipeDraft, named: str, arguments: dict[str, Any]) -> None:
    """Write `quantize`: quantized already, where the model, its name, or an argument says so."""
    source = draft.get(("model", "source"))
    known = describe_source(source) if source else None
    if known is not None and known.config is not None:
        quantized = known.quantization is not None
        draft.put(("quantize", "method"), "prequantized" if quantized else "none", "as the model is")
        return
    moe = arguments.get("moe_config")
    if _NAMES_A_FORMAT.search(f"{source or ''} {named}"):
        quantized, message = True, "the model's name says a format"
    elif isinstance(moe, dict) and moe.get(_OF_QUANTIZED_EXPERTS) is True:
        quantized, message = True, f"moe_config.{_OF_QUANTIZED_EXPERTS} is for quantized experts only"
    else:
        quantized, message = False, "nothing says that the model is quantized"
    draft.put(("quantize", "method"), "prequantized" if quantized else "none", "assumed")
    hint = "set quantize.method: prequantized for a checkpoint that is quantized already, none for bf16"
    draft.note(Note("assumed", "quantize.method", named or None, message, hint))


def _source(deployment: LlmApiDeployment, named: object) -> str:
    start = deployment.file.parent
    candidates = (deployment.model_path, named if isinstance(named, str) else "", deployment.model)
    return next((found for text in candidates if text and (found := source_of_place(text, start=start))), "")


def _at_revision(source: str, revision: object) -> str:
    if isinstance(revision, str) and revision and source.startswith("hf://") and source.endswith(_MAIN):
        return f"{source.removesuffix(_MAIN)}@{revision}"
    return source
