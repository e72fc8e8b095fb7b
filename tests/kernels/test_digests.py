from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.kernels.digests import normalized, source_digest, source_files
from bwdeploy.kernels.ops import read_op
from tests.kernels.sample import copy_of_sample, replace_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_of_sample(tmp_path) / "double_rows"


def digest(folder: Path) -> str:
    return source_digest(read_op(folder))


def test_sources_are_what_units_and_binding_include(folder: Path) -> None:
    assert list(source_files(read_op(folder))) == [
        "common/factor.cuh",
        "double_rows/bind.cpp",
        "double_rows/kernel.cu",
    ]


def test_includes_are_followed_through_headers_and_found_beside_them(folder: Path) -> None:
    (folder.parent / "common" / "second.cuh").write_text('#  include "third.cuh"  // beside\n')
    (folder.parent / "common" / "third.cuh").write_text('#include "factor.cuh"\n#include <unused.cuh>\n')
    replace_in(folder / "kernel.cu", "common/factor.cuh", "common/second.cuh")
    assert [name for name in source_files(read_op(folder)) if name.startswith("common")] == [
        "common/factor.cuh",
        "common/second.cuh",
        "common/third.cuh",
    ]


def test_includes_that_lead_out_of_the_plugins_are_left_to_the_compiler(folder: Path) -> None:
    (folder.parents[1] / "outside.cuh").write_text("")
    replace_in(folder / "kernel.cu", "common/factor.cuh", "../../outside.cuh")
    assert "outside.cuh" not in " ".join(source_files(read_op(folder)))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("kernel.cu", "// out[i] = 2 * x[i]", "/* another\n comment */ // out"),
        ("kernel.cu", "  const int i =", "\n\n  const  int\n      i /* row */ ="),
        ("kernel.cu", "#define SAMPLE_JOIN_(a, b) a##b", "#define SAMPLE_JOIN_(a, b) \\\n  a##b"),
        ("op.toml", "Twice each element.", "Each element twice."),
        ("op.toml", 'sms = ["sm_90a", "sm_120a"]', 'sms = ["sm_90a"]'),
        ("reference.py", "return 2 * x", "return x + x"),
        ("../common/unused.cuh", "#pragma once", "#pragma once\nint unused;"),
    ],
)
def test_digest_stays_with_comments_layout_and_unused_files(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = digest(folder)
    replace_in(folder / file, old, new)
    assert digest(folder) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("kernel.cu", "* kFactor", "+ kFactor"),
        ("bind.cpp", '"x: got "', '"x:  got "'),
        ("op.toml", '"__half"', '"__nv_bfloat16"'),
        ("../common/factor.cuh", "2.f", "3.f"),
    ],
)
def test_digest_changes_with_code_macros_and_used_headers(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = digest(folder)
    replace_in(folder / file, old, new)
    assert digest(folder) != before


def test_digest_does_not_depend_on_where_the_plugins_lie(tmp_path: Path) -> None:
    folders = [copy_of_sample(tmp_path / place) / "double_rows" for place in ("here", "there")]
    assert digest(folders[0]) == digest(folders[1])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("int  a ;", "int a;"),
        ('x = "// no comment" ;', 'x="// no comment";'),
        ('x = "\\"/*" + y; // end', 'x="\\"/*"+y;'),
        ("a = b + +c;", "a=b+ +c;"),
        ("a = b - -1;", "a=b- -1;"),
        ("c = '\\'' ; d = '/' ;", "c='\\'';d='/';"),
        ("n = 1'000'000 ; // it's", "n=1'000'000;"),
        ('s = R"x(a  // b)" )x" ;', 's=R"x(a  // b)" )x";'),
        ("#define F (x)\n#define G(x) x\n", "#define F (x)\n#define G(x) x"),
        ("#if A /* why\n not */ && B\nint a;\n#endif", "#if A && B\nint a;\n#endif"),
        ('asm volatile ( "a;"\n "b;" ) ;', 'asm volatile("a;" "b;");'),
        ("return'a';", "return'a';"),
        ("1.5e-3f *x", "1.5e-3f*x"),
        ("kernel<<<g, b>>>( x )", "kernel<<<g,b>>>(x)"),
        ("", ""),
        ("/* never closed", "/*never closed"),
    ],
)
def test_normalized_text_keeps_tokens_apart(source: str, expected: str) -> None:
    assert normalized(source) == expected


def test_normalizing_twice_changes_nothing_more(folder: Path) -> None:
    once = normalized((folder / "kernel.cu").read_text())
    assert normalized(once) == once
