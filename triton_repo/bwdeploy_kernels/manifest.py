"""What manifest.json of a pack says, read strictly: a pack may come from a stranger.

Wrong types, unknown keys, odd names and paths that leave the pack are refused with the place in the file.
Nothing is opened but the manifest itself. Standard library only.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bwdeploy_kernels.errors import ManifestError
from bwdeploy_kernels.json_object import JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MANIFEST = "manifest.json"
SCHEMA = 1
MAX_BYTES = 16 * 2**20
"""A manifest with measured tables has some 100 KB."""

_LONGEST_PATH = 255
"""Bytes; file systems have longer ones, packs do not."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SM = re.compile(r"sm_[0-9]{2,3}a")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}")
_SCHEMA_NAME = re.compile(r"([a-z][a-z0-9_]{0,63})\(")

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedOp:
    """One op of a pack: a shared library and the formulas it was tested against."""

    name: str
    """Name of the op's folder; its library counts launches as `<name>_calls`."""
    summary: str
    quantizes: tuple[str, ...]
    replaces: str
    gpus: tuple[int, ...]
    schemas: tuple[str, ...]
    """Torch schemas without the namespace."""
    library: PurePosixPath
    library_sha256: str
    reference: PurePosixPath
    reference_sha256: str
    source_digest: str
    architectures: Mapping[str, str]
    """SM → `compiled` or `measured`."""

    @property
    def torch_ops(self) -> tuple[str, ...]:
        """Names of the torch ops, in the order of their schemas."""
        return tuple(schema.partition("(")[0] for schema in self.schemas)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a pack holds and what it needs."""

    bwdeploy: str
    sms: tuple[str, ...]
    nvcc: str
    cuda_runtime: Version
    """Linked statically into every library."""
    minimum_driver: str
    """Oldest release of the NVIDIA driver, for example `580`."""
    torch_stable: Version
    """Torch release whose stable ABI the libraries use."""
    machine: str
    glibc: Version
    """Highest symbol version that a library needs."""
    libstdcxx: Version
    """Highest GLIBCXX symbol version that a library needs."""
    ops: tuple[PackedOp, ...]

    def only(self, names: Sequence[str] | None) -> Manifest:
        """The manifest with these ops alone, in this order; None: all of them.

        Raises:
            ManifestError: the pack has no op of that name.
        """
        if names is None:
            return self
        ops = {op.name: op for op in self.ops}
        for name in names:
            if name not in ops:
                near = difflib.get_close_matches(name, ops, n=1)
                hint = f"Did you mean {near[0]}?" if near else "Build the pack with it."
                raise ManifestError(f"op: got {name}, wanted one of {', '.join(ops) or 'none'}. {hint}")
        return replace(self, ops=tuple(ops[name] for name in dict.fromkeys(names)))


def read_manifest(directory: Path) -> Manifest:
    """Read `directory`/manifest.json.

    Raises:
        ManifestError: absent, too large, not JSON, or not what this release understands.
    """
    path = directory / MANIFEST
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ManifestError(
            f"{path}: got no regular file, wanted a manifest of a pack. Build the pack again."
        )
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}. Build the pack again.") from error
    if len(content) > MAX_BYTES:
        raise ManifestError(f"{path}: got more than {MAX_BYTES} bytes, wanted a manifest of a pack.")
    try:
        data = json.loads(content, object_pairs_hook=_without_repeated_keys)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair cannot be a path or be shown
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not JSON of a manifest: {error}. Build the pack again.") from error
    return _manifest(JsonObject(data, f"{path}: $"))


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("got a key twice in an object, wanted each once")
    return values


def _manifest(top: JsonObject) -> Manifest:
    if (schema := top.integer("schema")) != SCHEMA:
        raise ManifestError(
            f"{top.where}.schema: got {schema}, wanted {SCHEMA}. Build the pack with this bwdeploy."
        )
    top.only_keys("schema", "bwdeploy", "sms", "cuda", "abi", "ops")
    cuda, abi = top.child("cuda"), top.child("abi")
    cuda.only_keys("nvcc", "runtime", "minimum_driver")
    abi.only_keys("torch_stable", "machine", "glibc", "libstdcxx")
    manifest = Manifest(
        bwdeploy=top.text("bwdeploy"),
        sms=top.texts("sms", _SM),
        nvcc=cuda.text("nvcc"),
        cuda_runtime=_version(cuda, "runtime"),
        minimum_driver=cuda.text("minimum_driver"),
        torch_stable=_version(abi, "torch_stable"),
        machine=abi.text("machine"),
        glibc=_version(abi, "glibc"),
        libstdcxx=_version(abi, "libstdcxx"),
        ops=tuple(_op(item) for item in top.children("ops")),
    )
    if not manifest.ops:
        raise ManifestError(f"{top.where}.ops: got no op, wanted at least one. Build the pack again.")
    _refuse_repeated(top, [op.name for op in manifest.ops], "ops")
    _refuse_repeated(top, [name for op in manifest.ops for name in op.torch_ops], "schemas of its ops")
    return manifest


def _op(item: JsonObject) -> PackedOp:
    item.only_keys(
        "name", "summary", "quantizes", "replaces", "gpus", "schemas", "library", "library_sha256",
        "reference", "reference_sha256", "source_digest", "sources", "architectures",
    )  # fmt: skip
    sources = item.child("sources")
    for path in sources.keys():  # noqa: SIM118 - not a dict
        sources.text(path, _SHA256)
    architectures = item.child("architectures")
    return PackedOp(
        name=item.text("name", _NAME),
        summary=item.text("summary"),
        quantizes=item.texts("quantizes", _NAME),
        replaces=item.text("replaces", _NAME),
        gpus=item.integers("gpus"),
        schemas=_schemas(item),
        library=_path(item, "library"),
        library_sha256=item.text("library_sha256", _SHA256),
        reference=_path(item, "reference"),
        reference_sha256=item.text("reference_sha256", _SHA256),
        source_digest=item.text("source_digest"),
        architectures={
            sm: architectures.child(sm).one_of("status", ("compiled", "measured"))
            for sm in architectures.keys(_SM)
        },
    )


def _schemas(item: JsonObject) -> tuple[str, ...]:
    schemas = item.texts("schemas")
    for schema in schemas:
        if not _SCHEMA_NAME.match(schema):
            raise ManifestError(
                f"{item.where}.schemas: got {schema[:80]!r}, wanted name(arguments) -> (results)."
            )
    return schemas


def _version(item: JsonObject, key: str) -> Version:
    major, minor, *patch = (int(part) for part in item.text(key, _VERSION).split("."))
    return (major, minor, *(part for part in patch if part))  # 2.9.0 is no newer than 2.9


def _path(item: JsonObject, key: str) -> PurePosixPath:
    text = item.text(key)
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.name or "\\" in text or "\0" in text:
        raise ManifestError(f"{item.where}.{key}: got {text!r}, wanted a path inside the pack.")
    if (length := len(text.encode())) > _LONGEST_PATH:
        raise ManifestError(
            f"{item.where}.{key}: got a path of {length} bytes, wanted at most {_LONGEST_PATH}."
        )
    return path


def _refuse_repeated(top: JsonObject, names: Sequence[str], what: str) -> None:
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ManifestError(
            f"{top.where}: got {', '.join(sorted(repeated))} twice among the {what}, wanted each once."
        )
