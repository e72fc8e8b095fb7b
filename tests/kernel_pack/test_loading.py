from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.library import opcheck

from bwdeploy_kernels.errors import ManifestError, MisfitError
from bwdeploy_kernels.pack import Pack, load_pack
from tests.kernel_pack.packs import (
    NORM_FP8,
    NORM_NVFP4,
    OPS,
    SILU_FP8,
    SILU_NVFP4,
    manifest_of,
    read,
    rows,
    sha256,
    write_manifest,
    write_pack,
)

REFERENCE = """
import torch

def {name}(x):
    return x * {factor}

def {name}_meta(x):
    return torch.empty_like(x)
"""


def write_op(directory: Path, name: str, *, factor: int = 2, source: str | None = None) -> Path:
    """A pack of one op that multiplies by `factor`; its library is no library."""
    directory.mkdir()
    library, reference = directory / "x.so", directory / "x.py"
    library.write_text("no library")
    reference.write_text(source or REFERENCE.format(name=name, factor=factor))
    op = {
        "name": name,
        "summary": "Multiplies.",
        "quantizes": ["fp8"],
        "replaces": "norm",
        "gpus": [1],
        "schemas": [f"{name}(Tensor x) -> Tensor"],
        "library": "x.so",
        "library_sha256": sha256(library),
        "reference": "x.py",
        "reference_sha256": sha256(reference),
        "source_digest": "0",
        "sources": {},
        "architectures": {"sm_90a": {"status": "compiled"}},
    }
    write_manifest(directory, manifest_of([op]))
    return directory


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """All shipped ops, on the CPU."""
    return load_pack(write_pack(tmp_path_factory.mktemp("packs") / "pack"), device="cpu")


@pytest.fixture
def no_library_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(torch.ops, "load_library", refuse)


@pytest.mark.usefixtures("no_library_opened")
def test_op_runs_and_is_counted_on_the_cpu(tmp_path: Path) -> None:
    pack = load_pack(write_op(tmp_path / "a", "counted_op"), device="cpu")
    assert pack.calls() == {"counted_op": 0}
    assert torch.ops.bwdeploy.counted_op(torch.ones(2)).tolist() == [2.0, 2.0]
    assert pack.calls() == {"counted_op": 1}
    assert pack.reference("counted_op")(torch.ones(1)).tolist() == [2.0]
    assert (pack.ops, pack.calls()) == (("counted_op",), {"counted_op": 1})


def test_second_model_of_a_process_loads_the_same_pack_again(tmp_path: Path) -> None:
    directory = write_op(tmp_path / "a", "shared_op")
    first, second = load_pack(directory, device="cpu"), load_pack(directory, device="cpu")
    torch.ops.bwdeploy.shared_op(torch.ones(1))
    assert first.calls() == second.calls() == {"shared_op": 1}


def test_copy_of_a_loaded_pack_is_the_same_pack(tmp_path: Path) -> None:
    load_pack(write_op(tmp_path / "a", "copied_op"), device="cpu")
    assert load_pack(write_op(tmp_path / "b", "copied_op"), device="cpu").ops == ("copied_op",)


def test_other_build_of_a_loaded_op_is_refused_with_both_paths(tmp_path: Path) -> None:
    load_pack(write_op(tmp_path / "a", "disputed_op"), device="cpu")
    with pytest.raises(MisfitError) as caught:
        load_pack(write_op(tmp_path / "b", "disputed_op", factor=3), device="cpu")
    assert str(caught.value) == (
        f"op disputed_op: got the pack {tmp_path / 'b'}, wanted {tmp_path / 'a'}, whose other build of it "
        "this process has loaded. Serve both from one pack, or each from a process of its own."
    )


def test_only_the_named_ops_are_loaded(tmp_path: Path) -> None:
    directory = write_op(tmp_path / "a", "named_op")
    with pytest.raises(ManifestError, match=r"wanted one of named_op\. Did you mean named_op\?"):
        load_pack(directory, device="cpu", ops=["named_up"])
    assert not hasattr(torch.ops.bwdeploy, "named_op")
    assert load_pack(directory, device="cpu", ops=[]).ops == ()
    assert not hasattr(torch.ops.bwdeploy, "named_op")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
@pytest.mark.usefixtures("no_library_opened")
def test_pack_that_does_not_fit_is_refused_before_anything_of_it_runs(tmp_path: Path) -> None:
    directory = write_op(tmp_path / "a", "foreign_op", source="raise SystemExit('it ran')")
    with pytest.raises(MisfitError) as caught:
        load_pack(directory, device="cuda")
    text = str(caught.value)
    assert text.startswith(
        f"the kernel pack {directory} does not fit this host:\nGPU: got none that torch can"
    )
    assert "\nNVIDIA driver: got no driver, wanted one for CUDA 13.0 or newer (release 580)." in text


def test_changed_reference_is_refused_before_it_runs(tmp_path: Path) -> None:
    directory = write_op(tmp_path / "a", "changed_op")
    wanted = sha256(directory / "x.py")
    (directory / "x.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ManifestError) as caught:
        load_pack(directory, device="cpu")
    assert str(caught.value) == (
        f"{directory / 'x.py'}: got SHA-256 {sha256(directory / 'x.py')}, wanted {wanted}. "
        "Copy or build the pack again."
    )


def test_absent_reference_is_refused(tmp_path: Path) -> None:
    directory = write_op(tmp_path / "a", "absent_op")
    (directory / "x.py").unlink()
    with pytest.raises(ManifestError, match=r"x\.py: got no such file, wanted the one of the manifest"):
        load_pack(directory, device="cpu")


def test_link_that_leaves_the_pack_is_refused(tmp_path: Path) -> None:
    directory = write_op(tmp_path / "a", "linked_op")
    (directory / "x.py").rename(tmp_path / "outside.py")
    (directory / "x.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(ManifestError) as caught:
        load_pack(directory, device="cpu")
    assert str(caught.value) == (
        f"{directory / 'x.py'}: got a link to {tmp_path / 'outside.py'}, wanted a file inside the pack."
    )


def test_pack_may_itself_be_reached_through_a_link(tmp_path: Path) -> None:
    write_op(tmp_path / "a", "reached_op")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert load_pack(tmp_path / "link", device="cpu").directory == tmp_path / "a"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def", r"cannot be loaded: SyntaxError"),
        ("import nothing_of_that_name", r"cannot be loaded: ModuleNotFoundError"),
        ("x = 1", r"x\.py: got no function broken_op, wanted one"),
        ("broken_op = abs", r"x\.py: got no function broken_op_meta, wanted one"),
    ],
)
def test_reference_without_its_functions_is_refused(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        load_pack(write_op(tmp_path / "a", "broken_op", source=source), device="cpu")


def test_schema_that_torch_cannot_read_is_refused_and_the_op_can_still_be_loaded(tmp_path: Path) -> None:
    directory = write_op(tmp_path / "a", "misspelt_op")
    manifest = read(directory)
    manifest["ops"][0]["schemas"] = ["misspelt_op(Tenser x) -> Tensor"]
    write_manifest(tmp_path / "a", manifest)
    with pytest.raises(ManifestError, match=r"(?s)op misspelt_op: torch refuses .*Tenser"):
        load_pack(directory, device="cpu")
    assert load_pack(write_op(tmp_path / "b", "misspelt_op"), device="cpu").ops == ("misspelt_op",)


def arguments(op: str, mode: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Valid arguments of the torch op `op` for 3 rows of 32."""
    static = mode == "static"
    scale = torch.tensor([0.02]) if static else None
    if "norm" in op:
        return (rows(3, 32), rows(3, 32, seed=1), rows(32, seed=2), scale, 1e-5), {"return_normed": static}
    return (rows(3, 32), rows(3, 32, seed=1), scale), {"eager_rounding": static}


CASES = [
    *((op, mode) for op in (NORM_FP8, f"{NORM_FP8}_", SILU_FP8) for mode in ("static", "per row")),
    *((op, "static") for op in (NORM_NVFP4, f"{NORM_NVFP4}_", SILU_NVFP4)),
]


@pytest.mark.parametrize(("op", "mode"), CASES)
@pytest.mark.usefixtures("pack")
def test_schema_aliasing_and_fake_of_shipped_ops_are_what_torch_expects(op: str, mode: str) -> None:
    values, options = arguments(op, mode)
    opcheck(getattr(torch.ops.bwdeploy, op).default, values, options)


def test_every_torch_op_of_the_shipped_packs_was_checked(pack: Pack) -> None:
    assert pack.ops == OPS
    assert set(pack.references) == {op for op, _ in CASES}


@pytest.mark.parametrize(("op", "mode"), CASES)
def test_compiled_graph_calls_the_op_and_gives_the_same(op: str, mode: str, pack: Pack) -> None:
    torch.compiler.reset()  # or the cases count as recompilations of one function
    function = getattr(torch.ops.bwdeploy, op)
    values, options = arguments(op, mode)
    again, _ = arguments(op, mode)
    compiled = torch.compile(lambda *given: function(*given, **options), fullgraph=True, backend="aot_eager")
    before = sum(pack.calls().values())
    eager_out, compiled_out = function(*values, **options), compiled(*again)
    assert sum(pack.calls().values()) == before + 2
    for eager, ours in zip((*eager_out, values[1]), (*compiled_out, again[1]), strict=True):
        assert torch.equal(eager.view(torch.uint8), ours.view(torch.uint8))
