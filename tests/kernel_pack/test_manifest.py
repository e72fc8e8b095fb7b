from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bwdeploy_kernels.errors import ManifestError
from bwdeploy_kernels.manifest import MAX_BYTES, read_manifest
from tests.kernel_pack.packs import manifest_of, write_manifest

OP: dict[str, Any] = {
    "name": "twice",
    "summary": "Twice its input.",
    "quantizes": ["fp8"],
    "replaces": "norm",
    "gpus": [1],
    "schemas": ["twice(Tensor x) -> Tensor", "twice_(Tensor(a!) x) -> ()"],
    "library": "lib/twice.so",
    "library_sha256": "a" * 64,
    "reference": "reference/twice.py",
    "reference_sha256": "b" * 64,
    "source_digest": "c" * 64,
    "sources": {"twice/kernel.cu": "d" * 64},
    "architectures": {"sm_90a": {"status": "measured", "kernels": [{"registers": 32}], "table": [1]}},
}
WRONG: list[Any] = [
    None, True, -1, 1e308, "", "x", "é" * 5000, "../../etc/passwd", "a\0b", [], ["", 1], [[]],
    {}, {"x": 1}, {"x" * 5000: {}}, [{}] * 2000,
]  # fmt: skip


def written(directory: Path, **changes: Any) -> Path:
    write_manifest(directory, manifest_of([OP]) | changes)
    return directory


def failure(directory: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(directory)
    return str(caught.value).replace(str(directory), "PACK")


def test_manifest_is_read_as_written(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path))
    assert (manifest.sms, manifest.cuda_runtime, manifest.glibc) == (("sm_90a", "sm_100a"), (13, 0), (2, 28))
    (op,) = manifest.ops
    assert (op.torch_ops, op.architectures) == (("twice", "twice_"), {"sm_90a": "measured"})
    assert str(op.library) == "lib/twice.so"


def test_ops_are_chosen_by_name_and_a_wrong_name_gets_the_nearest(tmp_path: Path) -> None:
    manifest = read_manifest(
        written(tmp_path, ops=[OP, OP | {"name": "half", "schemas": ["half(Tensor x)"]}])
    )
    assert [op.name for op in manifest.only(["half", "half"]).ops] == ["half"]
    assert manifest.only(None) is manifest
    with pytest.raises(ManifestError) as caught:
        manifest.only(["twise"])
    assert str(caught.value) == "op: got twise, wanted one of twice, half. Did you mean twice?"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON tree that this release reads."""
    if path[-1:] in {("kernels",), ("table",)}:
        return
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    )
    for key, child in children:
        yield from places(child, (*path, key))


def changed(manifest: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    result = copy.deepcopy(manifest)
    parent = result
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return result


def refusal_of(directory: Path) -> str:
    """Empty where the manifest happens to be usable."""
    try:
        read_manifest(directory)
    except ManifestError as error:
        return str(error)
    return ""


def test_no_wrong_value_anywhere_gives_more_than_a_short_message(tmp_path: Path) -> None:
    manifest = manifest_of([OP])
    refused = 0
    for path in places(manifest):
        for value in WRONG:
            write_manifest(tmp_path, changed(manifest, path, value))
            refusal = refusal_of(tmp_path)
            refused += bool(refusal)
            assert len(refusal) < len(str(tmp_path)) + 400
            assert not refusal or "wanted" in refusal
    assert refused > 400


def test_every_missing_key_is_named(tmp_path: Path) -> None:
    manifest = manifest_of([OP])
    for path in places(manifest):
        if not path or isinstance(path[-1], int) or path[-2:-1] in {("sources",), ("architectures",)}:
            continue
        incomplete = copy.deepcopy(manifest)
        parent = incomplete
        for key in path[:-1]:
            parent = parent[key]
        del parent[path[-1]]
        write_manifest(tmp_path, incomplete)
        assert f"got no {path[-1]}, wanted one" in failure(tmp_path)


@pytest.mark.parametrize("path", ["/lib/x.so", "../x.so", "lib/../../x.so", "lib\\..\\x.so", ".", "a\0b"])
@pytest.mark.parametrize("key", ["library", "reference"])
def test_path_that_leaves_the_pack_is_refused(key: str, path: str, tmp_path: Path) -> None:
    message = failure(written(tmp_path, ops=[OP | {key: path}]))
    assert message == f"PACK/manifest.json: $.ops[0].{key}: got {path!r}, wanted a path inside the pack."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "$.schema: got 2, wanted 1. Build the pack with this bwdeploy."),
        ({"schema": True}, "$.schema: got True, wanted a whole number."),
        (
            {"extra": 1},
            "$: got 'extra', wanted no other keys than schema, bwdeploy, sms, cuda, abi, ops.",
        ),
        ({"sms": ["sm_90"]}, "$.sms[0]: got 'sm_90', wanted text like sm_[0-9]{2,3}a."),
        ({"sms": []}, "$.sms: got a list, wanted at least one text."),
        ({"ops": {}}, "$.ops: got a dict, wanted a list."),
        ({"ops": [OP, OP]}, "$: got twice twice among the ops, wanted each once."),
        (
            {"ops": [OP | {"schemas": ["aten::add(Tensor x) -> Tensor"]}]},
            "$.ops[0].schemas: got 'aten::add(Tensor x) -> Tensor', wanted name(arguments) -> (results).",
        ),
        (
            {"ops": [OP | {"architectures": {"sm_90a": {"status": "guessed"}}}]},
            "$.ops[0].architectures.sm_90a.status: got 'guessed', wanted compiled or measured.",
        ),
    ],
)
def test_message_has_place_got_and_wanted(changes: Any, message: str, tmp_path: Path) -> None:
    assert failure(written(tmp_path, **changes)) == f"PACK/manifest.json: {message}"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"nul"])
def test_file_that_is_no_manifest_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert failure(tmp_path).startswith("PACK/manifest.json: ")


def test_absent_and_huge_manifests_are_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory" in failure(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(" " * MAX_BYTES))
    assert f"got more than {MAX_BYTES} bytes" in failure(tmp_path)


@pytest.mark.parametrize("path", ["x" * 256, "é" * 128, "a/" * 2500 + "x.so"])
@pytest.mark.parametrize("key", ["library", "reference"])
def test_path_that_no_file_system_takes_is_refused(key: str, path: str, tmp_path: Path) -> None:
    assert failure(written(tmp_path, ops=[OP | {key: path}])) == (
        f"PACK/manifest.json: $.ops[0].{key}: got a path of {len(path.encode())} bytes, wanted at most 255."
    )


@pytest.mark.parametrize("key", ["library", "summary"])
def test_half_a_surrogate_pair_is_refused(key: str, tmp_path: Path) -> None:
    message = failure(written(tmp_path, ops=[OP | {key: "lib/\ud800.so"}]))
    assert message.startswith("PACK/manifest.json: not JSON of a manifest: ")
    message.encode()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    assert failure(tmp_path).startswith("PACK/manifest.json: got no regular file, wanted a manifest")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    text = (written(tmp_path) / "manifest.json").read_text(encoding="utf-8")
    (tmp_path / "manifest.json").write_text(text.replace('"schema": 1', '"schema": 1, "schema": 1'))
    assert "got a key twice in an object" in failure(tmp_path)


def test_a_pack_without_ops_is_refused(tmp_path: Path) -> None:
    wanted = "PACK/manifest.json: $.ops: got no op, wanted at least one. Build the pack again."
    assert failure(written(tmp_path, ops=[])) == wanted


@pytest.mark.parametrize(("text", "version"), [("2.9.0", (2, 9)), ("2.10.1", (2, 10, 1)), ("2.0", (2, 0))])
def test_a_patch_release_of_zero_is_the_release_itself(
    text: str, version: tuple[int, ...], tmp_path: Path
) -> None:
    abi = manifest_of([])["abi"] | {"torch_stable": text}
    assert read_manifest(written(tmp_path, abi=abi)).torch_stable == version
