"""Compiling with the stand-in: the cache of objects, failures, interruption, two builds at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.tools.nvcc import Nvcc, find_nvcc
from bwdeploy.tools.nvcc_compile import CompileResult, Workshop
from bwdeploy.tools.nvcc_objects import CompiledObject, ObjectCache, object_key, user_objects
from tests.kernels.sample import replace_in
from tests.tools.nvcc_place import NvccPlace, put_stand_in


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvccPlace:
    made = NvccPlace(tmp_path)
    for name in ("CUDA_HOME", "NVCC_CCBIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def compile_all(
    place: NvccPlace, *sms: str, jobs: int = 3, on_done: Callable[[CompileResult], None] = lambda _: None
) -> list[CompileResult]:
    scratch = Path(tempfile.mkdtemp(dir=place.root))
    workshop = Workshop(nvcc=place.nvcc, plugins=place.plugins, scratch=scratch, jobs=jobs)
    return workshop.compile_all(place.plan(*sms).units, cache=user_objects(), on_done=on_done)


def keys(place: NvccPlace, *sms: str, nvcc: Nvcc | None = None) -> list[str]:
    compiler = (nvcc or place.nvcc).identity
    return [object_key(unit, plugins=place.plugins, compiler=compiler) for unit in place.plan(*sms).units]


def cached(results: list[CompileResult]) -> list[bool]:
    return [result.cached for result in results]


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_results_come_in_the_order_of_the_units_with_what_the_compiler_said(place: NvccPlace) -> None:
    told: list[str] = []
    results = compile_all(place, on_done=lambda result: told.append(result.unit.name))
    assert [result.unit.name for result in results] == ["kernel.cu-1", "kernel.cu-2", "bind.cpp"]
    assert sorted(told) == ["bind.cpp", "kernel.cu-1", "kernel.cu-2"]
    assert "Used 16 registers" in results[0].output
    assert {call["cwd"] for call in place.calls} == {str(place.plugins)}
    assert all(result.file.is_file() for result in results)


def test_second_build_compiles_nothing_and_gets_the_same_objects(place: NvccPlace) -> None:
    first = compile_all(place)
    second = compile_all(place)
    assert cached(first) == [False, False, False]
    assert cached(second) == [True, True, True]
    assert len(place.compiled) == 3
    assert [one.file.read_bytes() for one in first] == [one.file.read_bytes() for one in second]
    assert [one.output for one in first] == [one.output for one in second]


@pytest.mark.parametrize(
    ("file", "old", "new", "recompiled"),
    [
        ("double_rows/kernel.cu", "* kFactor", "+ kFactor", [True, True, False]),
        ("double_rows/kernel.cu", "// out[i]", "\n// out[i]", [True, True, False]),
        ("double_rows/bind.cpp", "x: got", "x: found", [False, False, True]),
        ("double_rows/op.toml", '"__half"', '"double"', [False, True, False]),
        ("common/factor.cuh", "2.f", "3.f", [True, True, False]),
        ("common/unused.cuh", "#pragma once", "#pragma once\nint a;", [False, False, False]),
        ("double_rows/reference.py", "2 * x", "x + x", [False, False, False]),
    ],
)
def test_a_change_recompiles_only_what_it_reaches(
    place: NvccPlace, file: str, old: str, new: str, recompiled: list[bool]
) -> None:
    before = keys(place)
    replace_in(place.plugins / file, old, new)
    assert [one != other for one, other in zip(before, keys(place), strict=True)] == recompiled


def test_another_compiler_or_architecture_recompiles(place: NvccPlace) -> None:
    before = keys(place)
    assert [key in before for key in keys(place, "sm_90a", "sm_120a")] == [False, False, True]
    assert not set(keys(place, nvcc=replace(place.nvcc, version="13.1.80"))) & set(before)
    assert not set(keys(place, nvcc=replace(place.nvcc, host_compiler="g++ 13.3.0"))) & set(before)


def test_a_source_that_changes_under_the_compiler_is_not_kept_under_its_old_name(
    place: NvccPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_SLEEP_S", "0.2")
    source = place.plugins / "common" / "factor.cuh"
    before = source.read_text()

    def change(result: CompileResult) -> None:
        source.write_text(f"{before}\nint changed;\n")

    compile_all(place, jobs=1, on_done=change)
    source.write_text(before)
    monkeypatch.setenv("STAND_IN_SLEEP_S", "0")
    assert cached(compile_all(place)) == [True, False, True]


@pytest.mark.parametrize(
    "damage", [b"", b"not json\nobject", b'{"sha256": "0", "output": ""}\nobject', b"[]\n", None]
)
def test_a_damaged_entry_is_a_miss_and_is_replaced(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    cache, key, made = ObjectCache(tmp_path), "ab" * 32, CompiledObject(b"object\nof bytes", "said")
    cache.keep(key, made)
    entry = tmp_path / "ab" / key
    entry.write_bytes(entry.read_bytes()[:-1] if damage is None else damage)
    assert cache.find(key) is None
    assert "damaged; it is compiled again" in caplog.text
    cache.keep(key, made)
    assert cache.find(key) == made


def test_a_cache_that_cannot_be_written_does_not_stop_a_build(
    place: NvccPlace, caplog: pytest.LogCaptureFixture
) -> None:
    (place.root / "cache").write_text("a file where the cache should be")
    assert cached(compile_all(place)) == [False, False, False]
    assert "cannot be kept" in caplog.text


def test_half_written_entries_of_dead_builds_are_swept_when_they_are_old(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.keep("ab" * 32, CompiledObject(b"object", "said"))
    old, young = tmp_path / ".new-old", tmp_path / ".new-young"
    for partial in (old, young):
        partial.touch()
    os.utime(old, (time.time() - 1e6,) * 2)
    cache.sweep()
    assert (old.exists(), young.exists()) == (False, True)
    assert cache.find("ab" * 32) == CompiledObject(b"object", "said")


def test_a_failing_unit_is_told_with_its_first_error_and_its_last_lines(place: NvccPlace) -> None:
    replace_in(place.plugins / "double_rows" / "kernel.cu", "namespace sample {", "int a = undeclared;\n")
    with pytest.raises(ToolError) as caught:
        compile_all(place)
    assert "nvcc failed with status 2 (double_rows/kernel.cu-" in caught.value.message
    assert 'double_rows/kernel.cu(7): error: identifier "undeclared"' in caught.value.message
    assert caught.value.last_lines[-1] == '1 error detected in the compilation of "double_rows/kernel.cu".'


def test_a_missing_header_is_told_as_the_compiler_tells_it(place: NvccPlace) -> None:
    (place.plugins / "common" / "factor.cuh").unlink()
    with pytest.raises(ToolError, match=r"fatal error: common/factor\.cuh: No such file"):
        compile_all(place)


def test_the_first_failure_ends_the_other_compilers(
    place: NvccPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_SLEEP_S", "30")
    replace_in(place.plugins / "double_rows" / "bind.cpp", "using torch", "#error here\nusing torch")
    began = time.monotonic()
    with pytest.raises(ToolError, match="#error here"):
        compile_all(place, jobs=3)
    assert time.monotonic() - began < 10
    assert all(gone(pid) for pid in place.running)


def test_what_was_compiled_before_a_failure_is_kept(place: NvccPlace) -> None:
    bind = place.plugins / "double_rows" / "bind.cpp"
    replace_in(bind, "using torch", "#error here\nusing torch")
    with pytest.raises(ToolError):
        compile_all(place, jobs=1)
    replace_in(bind, "#error here\n", "")
    assert cached(compile_all(place)) == [True, True, False]


def test_a_refused_host_compiler_is_told_with_the_way_out(place: NvccPlace) -> None:
    said = (
        "crt/host_config.h:158:2: error: #error -- unsupported GNU version! gcc versions later than 15 are"
        " not supported!"
    )
    (place.bin / "nvcc").write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    with pytest.raises(HostError, match="gcc versions later than 15") as caught:
        compile_all(place)
    assert "g++ 15 or older" in caught.value.hint
    assert "NVCC_CCBIN" in caught.value.hint


def test_a_full_disk_is_told_as_such(place: NvccPlace) -> None:
    said = (
        "/usr/bin/ld: final link failed: No space left on device",
        "collect2: error: ld returned 1 status",
    )
    (place.bin / "nvcc").write_text(f"#!/bin/sh\nprintf '%s\\n' '{said[0]}' '{said[1]}' >&2; exit 1\n")
    with pytest.raises(ToolError, match="final link failed: No space left on device") as caught:
        compile_all(place)
    assert "Free some space" in caught.value.hint


def test_objects_of_another_processor_are_not_taken(
    place: NvccPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_all(place)
    monkeypatch.setattr("platform.machine", lambda: "another")
    assert cached(compile_all(place)) == [False, False, False]


def test_linking_takes_the_objects_and_hides_all_but_the_entry_points(place: NvccPlace) -> None:
    results = compile_all(place)
    target = place.root / "double_rows.so"
    scratch = results[0].file.parent
    workshop = Workshop(nvcc=place.nvcc, plugins=place.plugins, scratch=scratch, jobs=1)
    workshop.link([result.file for result in results], target, arguments=place.plan().link)
    call = place.calls[-1]
    assert sorted(call["files"]) == sorted(str(result.file) for result in results)
    assert f"-Xlinker=--version-script={scratch}/exports.map" in call["options"]
    assert (scratch / "exports.map").read_text() == "{ global: bwdeploy_*; local: *; };\n"
    assert target.read_bytes() == (place.root / "library.so").read_bytes()


def test_two_builds_at_once_both_succeed(place: NvccPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_SLEEP_S", "0.2")
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(lambda _: compile_all(place), range(2))
    assert cached(one) == cached(other) == [False, False, False]
    assert [result.file.read_bytes() for result in one] == [result.file.read_bytes() for result in other]
    assert cached(compile_all(place)) == [True, True, True]


@pytest.mark.parametrize(
    ("ended_by", "status"),
    [(signal.SIGKILL, -signal.SIGKILL), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_an_ended_build_leaves_no_compiler_and_no_pack_and_the_next_one_goes_on(
    place: NvccPlace, ended_by: signal.Signals, status: int
) -> None:
    build = place.start("kernels", "build", "out", STAND_IN_SLEEP_S="60")
    wait_for(lambda: place.running)
    pids = place.running
    build.send_signal(ended_by)
    _, stderr = build.communicate(timeout=30)
    assert build.returncode == status, stderr
    assert all(gone(pid) for pid in pids)
    assert not (place.root / "out").exists()
    place.run("kernels", "build", "out")
    assert (place.root / "out" / "manifest.json").is_file()
    assert [path.name for path in place.root.glob(".out*")] == [".out.lock"]


@pytest.mark.parametrize("program", ["stand-in", pytest.param("nvcc", marks=pytest.mark.kernels)])
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, r"Cuda compilation tools, release 13\.\d, V13\.\d"),
        (["--list-gpu-code"], 0, "sm_103\n"),
        (["-c", "x.cu"], 1, "Could not open input file 'x.cu'|No such file"),
        (
            ["-c", "k.cu", "-gencode=arch=compute_95a,code=sm_95a"],
            1,
            "Unsupported gpu architecture 'compute_95a'",
        ),
        (["-c", "k.cu", "--no-such-option"], 1, "Unknown option '--no-such-option'"),
        (["-c", "missing.cu"], 1, "fatal error: absent.cuh: No such file"),
        (["-c", "wrong.cu"], 1, r"wrong\.cu:2:2: error: #error no"),
        (
            ["-c", "undeclared.cu"],
            2,
            r'(?s)undeclared\.cu\(2\): error: identifier "undeclared".*1 error detected',
        ),
        (["-c", "k.cu", "--resource-usage", "-gencode=arch=compute_90a,code=sm_90a"], 0, "for 'sm_90a'"),
        (["-shared", "--no-device-link", "absent.o"], 1, r"cannot find absent\.o: No such file"),
    ],
)
def test_the_stand_in_answers_as_nvcc_does(
    tmp_path: Path, program: str, arguments: list[str], status: int, said: str
) -> None:
    put_stand_in(tmp_path / "nvcc")
    (tmp_path / "k.cu").write_text('#include "k.cuh"\n__global__ void k(float* x) { *x = 1; }\n')
    (tmp_path / "k.cuh").write_text("\n")
    (tmp_path / "missing.cu").write_text('#include "absent.cuh"\n')
    (tmp_path / "wrong.cu").write_text("\n#error no\n")
    (tmp_path / "undeclared.cu").write_text("\nint f() { return undeclared; }\n")
    command = str(tmp_path / "nvcc") if program == "stand-in" else str(find_nvcc().path)
    output = [] if arguments[0].startswith("--") else ["-o", "out.o"]
    done = subprocess.run(
        [command, *arguments, *output], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done
    assert re.search(said, done.stdout + done.stderr)
