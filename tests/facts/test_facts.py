"""The data files say what the rest of the toolkit relies on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from bwdeploy.errors import HostError
from bwdeploy.facts import llm_args
from bwdeploy.facts.formats import format_table
from bwdeploy.facts.gpus import all_gpus, find_gpu
from bwdeploy.facts.llm_arg_renames import renames
from bwdeploy.facts.llm_args import (
    INSTALLED_SCHEMA,
    bundled_schema,
    installed_schema,
    llm_args_schema,
)
from bwdeploy.facts.reader import read_data
from bwdeploy.facts.stacks import triton_image, versions_with_images
from bwdeploy.facts.versions import parse_version
from bwdeploy.recipe.schema import Format


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("B200", "b200"), ("gb300", "gb300"), ("RTX 5090", "rtx5090"), ("GeForce RTX-5090", "rtx5090"),
     ("RTX PRO 6000", "rtx_pro_6000"), ("NVIDIA H100", "h100"), ("dgx-spark", "dgx_spark")],
)  # fmt: skip
def test_a_gpu_is_found_by_what_people_call_it(name: str, gpu: str) -> None:
    found = find_gpu(name)
    assert found is not None
    assert found.id == gpu


def test_an_unknown_gpu_is_none() -> None:
    assert find_gpu("B9000") is None


def test_every_gpu_has_usable_figures() -> None:
    assert len(all_gpus()) >= 10
    for gpu in all_gpus():
        assert 8 < gpu.memory_visible_gib < 400
        assert gpu.sm in {90, 100, 103, 110, 120, 121}
        assert gpu.runtimes
        assert gpu.sources


def test_every_format_of_the_recipe_has_facts() -> None:
    assert set(format_table().formats) == set(get_args(Format))
    assert set(format_table().kv_cache) == {"fp8", "nvfp4"}


def test_format_facts_agree_with_the_hardware_table() -> None:
    formats = format_table().formats
    assert formats["nvfp4"].sm == {100, 103, 120}
    assert 120 not in formats["fp8_block_weight_only"].sm
    assert format_table().kv_cache["nvfp4"].sm == {100, 103}


def test_versions_are_ordered_as_they_were_released() -> None:
    names = ["1.2", "1.2.0rc3", "1.2.0", "1.2.1", "1.3", "1.3.0rc2", "1.3.0rc27", "1.3.0", "1.4.0rc1"]
    parsed = [parse_version(name) for name in names]
    assert None not in parsed
    assert parsed == sorted(parsed, key=lambda one: one or (0, 0, 0, 0))


@pytest.mark.parametrize("text", ["", "x", "1", "1.2.x", "1.2.3.4", "9" * 50 + ".1"])
def test_what_is_no_version_is_none(text: str) -> None:
    assert parse_version(text) is None


def test_the_newest_image_of_a_version_is_named() -> None:
    assert triton_image("1.2.1") == "26.06"
    assert triton_image("1.3.0rc20") is None
    assert versions_with_images()[-1] == "1.2.1"


# LLM API arguments


@pytest.mark.parametrize("name", ["llm_args_1.2.1.json", "llm_args_1.3.json"])
def test_a_bundled_argument_list_is_a_json_schema_with_its_source(name: str) -> None:
    schema = read_data(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["x-sources"]
    assert schema["x-confidence"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", ["llm_args_1.2.1.json", "llm_args_1.3.json"])
def test_every_reference_of_a_bundled_list_leads_somewhere(name: str) -> None:
    schema = read_data(name)
    references: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            references.extend([node["$ref"]] if "$ref" in node else [])
            references.extend(node.get("discriminator", {}).get("mapping", {}).values())
            for below in node.values():
                collect(below)
        elif isinstance(node, list):
            for below in node:
                collect(below)

    collect(schema)
    assert references
    assert {reference.removeprefix("#/$defs/") for reference in references} <= set(schema["$defs"])


@pytest.mark.parametrize(
    ("version", "describes", "exact"),
    [
        ("1.2.1", "1.2.1", True),
        ("1.2.0", "1.2.1", False),
        ("1.3.0rc20", "1.3", False),
        ("1.4.0rc1", "1.3", False),
    ],
)
def test_a_version_is_described_by_the_nearest_list(version: str, describes: str, exact: bool) -> None:  # noqa: FBT001
    schema = bundled_schema(version)
    assert schema is not None
    assert (schema.describes, schema.exact) == (describes, exact)


@pytest.mark.parametrize("version", ["0.20.0", "1.1.0", "1.5.0", "2.0.0", "nonsense"])
def test_a_version_without_a_list_is_none(version: str) -> None:
    assert llm_args_schema(version) is None


def test_renames_speak_only_about_their_versions() -> None:
    def values(version: str) -> set[tuple[tuple[str, ...], str | None]]:
        return {(row.found, row.value) for row in renames(version)}

    decoding_type = ("speculative_config", "decoding_type")
    assert (decoding_type, "Eagle3") in values("1.2.1")
    assert (decoding_type, "Eagle3") not in values("1.3.0rc20")
    assert (decoding_type, "Eagle") in values("1.3.0rc20")
    assert (("speculative_config", "eagle3_one_model"), None) not in values("1.3.0rc20")
    assert (("speculative_config", "eagle3_one_model"), None) in values("1.3.0rc27")
    assert (("enable_sleep",), None) in values("1.3.0")


# An installed package, stood in for by a directory on the path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "site" / "tensorrt_llm"
    (root / INSTALLED_SCHEMA).parent.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (root / "version.py").write_text('__version__ = "1.2.1"\n')
    (root / INSTALLED_SCHEMA).write_text(json.dumps({"properties": {"brand_new": {"type": "integer"}}}))
    monkeypatch.syspath_prepend(str(root.parent))
    llm_args._installed_root.cache_clear()
    return root


@pytest.fixture(autouse=True)
def _forget_installed_package() -> Any:
    yield
    llm_args._installed_root.cache_clear()


def test_an_installed_package_of_the_version_speaks_for_itself(package: Path) -> None:
    schema = llm_args_schema("1.2.1")
    assert schema is not None
    assert schema.source == str(package / INSTALLED_SCHEMA)
    assert list(schema.schema["properties"]) == ["brand_new"]
    assert "tensorrt_llm" not in sys.modules


def test_an_installed_package_of_another_version_is_not_asked(package: Path) -> None:
    assert package.is_dir()
    assert installed_schema("1.3.0") is None
    other = llm_args_schema("1.3.0")
    assert other is not None
    assert other.describes == "1.3"


def test_an_installed_package_of_unknown_version_is_believed(package: Path) -> None:
    (package / "version.py").unlink()
    schema = llm_args_schema("9.9.9")
    assert schema is not None
    assert schema.exact


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"properties": 3}', "\xff"])
def test_a_damaged_installed_schema_is_a_host_error_with_the_way_out(package: Path, content: str) -> None:
    (package / INSTALLED_SCHEMA).write_bytes(content.encode("latin-1"))
    with pytest.raises(HostError, match="cannot be used") as caught:
        llm_args_schema("1.2.1")
    assert "reinstall" in caught.value.hint


def test_a_package_without_a_schema_file_leaves_the_bundled_list(package: Path) -> None:
    (package / INSTALLED_SCHEMA).unlink()
    schema = llm_args_schema("1.2.1")
    assert schema is not None
    assert schema.describes == "1.2.1"
    assert "tensor_parallel_size" in schema.schema["properties"]
