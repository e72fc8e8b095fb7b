from __future__ import annotations

from dataclasses import fields

from bwdeploy_runtime.sampling import SamplingParams
from bwdeploy_runtime.tensors import INPUTS, OUTPUTS, SAMPLING_PREFIX


def test_names_are_unique() -> None:
    names = [tensor.name for tensor in INPUTS + OUTPUTS]
    assert len(names) == len(set(names)) == 33


def test_only_the_prompt_is_required() -> None:
    assert [tensor.name for tensor in INPUTS if not tensor.optional] == ["text_input"]


def test_no_input_lets_a_client_name_a_file_or_url() -> None:
    assert not [tensor.name for tensor in INPUTS if {"path", "url", "source"} & set(tensor.name.split("_"))]


def test_every_sampling_input_is_a_sampling_parameter() -> None:
    inputs = {t.name.removeprefix(SAMPLING_PREFIX) for t in INPUTS if t.name.startswith(SAMPLING_PREFIX)}
    known = {item.name for item in fields(SamplingParams)} | {"best_of", "exclude_input_from_output"}
    assert inputs <= known
