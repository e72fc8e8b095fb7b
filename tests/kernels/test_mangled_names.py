from __future__ import annotations

import pytest

from bwdeploy.kernels.mangled_names import short_name


@pytest.mark.parametrize(
    ("mangled", "short"),
    [
        ("_Z3fooPf", "foo"),
        ("_ZN6sample11double_rowsI6__halfEEvPKT_PS2_i", "double_rows<__half>"),
        (
            "_ZN3bwk4normI13__nv_bfloat16Li8ELi0ELb1ELb0EEEvNS_6ParamsE",
            "norm<__nv_bfloat16, 8, 0, true, false>",
        ),
        ("_ZN8bwdeploy3barILNS_4ModeE2ELin3EEEvv", "bar<2, -3>"),
        ("_ZN8bwdeploy12_GLOBAL__N_13fooIfEEvv", "foo<float>"),
        ("_Z3bazIJifN1a1bEEEvv", "baz<int, float, b>"),
        ("_Z3bazIPKfEvv", "baz<float const*>"),
        ("_ZL6hiddenv", "hidden"),
    ],
)
def test_kernels_have_short_names(mangled: str, short: str) -> None:
    assert short_name(mangled) == short


@pytest.mark.parametrize("mangled", ["plain", "_Z", "_ZN", "_Z9abc", "_Z1fIXsr1a1bEEvv", "_ZN1aIL", ""])
def test_other_names_stay_as_they_are(mangled: str) -> None:
    assert short_name(mangled) == mangled
