"""Download a model repository from the Hugging Face hub at a fixed revision.

Only safetensors, JSON, tokenizer and template files are fetched, so nothing that can hold code arrives;
Python files come along only when the recipe trusts the model's code. Pickled weights never do.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bwdeploy.errors import BwdeployError, HostError, ToolError
from bwdeploy.pipeline.jobs import Download, DownloadResult, Progress
from bwdeploy.worker import hf_directory
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Callable

_ALLOWED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model", "*.tiktoken", "*.spm")
_CODE = ("*.py",)


def run(request: Download, report: Callable[[Progress], None]) -> DownloadResult:
    """Fetch `request.repo` at `request.revision` into the existing, empty directory `request.out`.

    Raises:
        RecipeError: no such repository or revision, or it holds no safetensors weights.
        HostError: the hub cannot be reached, or the model needs a token that is not there.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - worker only

    report(Progress(phase="download"))
    allowed = _ALLOWED + (_CODE if request.trust_remote_code else ())
    try:
        snapshot_download(
            request.repo, revision=request.revision, local_dir=request.out, allow_patterns=list(allowed)
        )
    except Exception as error:  # every failure of the hub client is translated or raised again
        translated = _translate(request, error)
        if translated is None:
            raise
        raise translated from error
    # The client's own bookkeeping is no part of the model.
    shutil.rmtree(request.out / ".cache", ignore_errors=True)
    files = [path for path in request.out.rglob("*") if path.is_file()]
    if not any(path.suffix == ".safetensors" for path in files):
        raise recipe_error(
            request.place,
            f"{request.repo} at {request.revision} holds no *.safetensors file",
            hint="Pickled weights are never loaded; choose a revision or conversion with safetensors.",
        )
    hf_directory.make_readable(request.out)
    return DownloadResult(files=len(files), bytes=sum(path.stat().st_size for path in files))


def _is_transport(error: Exception) -> bool:
    """Whether the client's HTTP library gave up: httpx since huggingface_hub 1.0, requests before."""
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(kinds & {"httpx.TransportError", "requests.ConnectionError", "requests.Timeout"})


def _translate(request: Download, error: Exception) -> BwdeployError | None:
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(error, errors.GatedRepoError):
        return HostError(
            f"{request.repo} is gated: the hub wants a token with access to it.",
            hint=f"Accept its terms at https://huggingface.co/{request.repo} and set HF_TOKEN.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return recipe_error(
            request.place,
            f"{request.repo} has no revision {request.revision}",
            hint="Take the 40-hex commit from the model's page, Files → History.",
        )
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return recipe_error(
            request.place,
            f"the hub knows no model {request.repo!r}, or it is private",
            hint="Check the name; a private model needs HF_TOKEN.",
        )
    if isinstance(error, errors.HfHubHTTPError):
        return ToolError(f"The hub refused {request.repo}: {error}.", hint="Try again later.")
    if isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)) or _is_transport(
        error
    ):
        return HostError(
            f"{request.repo} cannot be downloaded: the hub is not reachable ({type(error).__name__}).",
            hint="Check the network and HF_HUB_OFFLINE, or download it elsewhere and use file://DIR.",
        )
    return None
