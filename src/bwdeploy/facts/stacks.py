"""Which versions exist and which fit together: TensorRT-LLM, ModelOpt, Triton images, CUDA, driver."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from bwdeploy.facts.reader import read_data
from bwdeploy.facts.versions import Version, parse_version

_PLAUSIBLE_NEXT_CANDIDATES = 20
"""Candidates beyond the newest known one that may have come out since the table was written."""


class Stack(NamedTuple):
    """One Triton image with TensorRT-LLM."""

    image: str
    """`YY.MM`."""
    tensorrt_llm: str
    cuda: str
    driver: str
    """The driver that the image was made for, and therefore the oldest that is sure to work."""
    broken_openai: str = ""
    """The openai package in it that breaks an import of the server, when it has one."""


class UnknownAlgorithm(NamedTuple):
    """A word of hf_quant_config.json that older TensorRT-LLM versions do not know."""

    quant_algo: str
    before: str
    """The first version that may know it."""
    use: str
    """What to write in place of the format that gives it."""


class BadPair(NamedTuple):
    """A ModelOpt and a TensorRT-LLM that are known not to work together."""

    modelopt: str
    tensorrt_llm: str
    what: str
    source: str


def stacks() -> tuple[Stack, ...]:
    """Every known image, oldest first."""
    return tuple(Stack(**row) for row in _data()["images"])


def triton_image(tensorrt_llm: str) -> str | None:
    """The newest image (`YY.MM`) with exactly this TensorRT-LLM, a broken one only if all are; or None."""
    carrying = [stack for stack in stacks() if stack.tensorrt_llm == tensorrt_llm]
    whole = [stack for stack in carrying if not stack.broken_openai]
    return (whole or carrying)[-1].image if carrying else None


def versions_with_images() -> tuple[str, ...]:
    """The TensorRT-LLM versions that some Triton image carries, oldest first."""
    return tuple(dict.fromkeys(stack.tensorrt_llm for stack in stacks()))


def stack_of_image(image: str) -> Stack | None:
    """What `YY.MM` carries, or None."""
    return next((stack for stack in stacks() if stack.image == image), None)


def modelopt_used() -> str:
    """The ModelOpt version that bwdeploy quantizes with."""
    return str(_data()["modelopt"]["used"])


def unknown_algorithms() -> tuple[UnknownAlgorithm, ...]:
    """Words that exports may hold and that older TensorRT-LLM versions refuse."""
    return tuple(UnknownAlgorithm(**row) for row in _data()["modelopt"]["quant_algos"]["unknown"])


def bad_pairs() -> tuple[BadPair, ...]:
    """The pairs that are known not to work."""
    return tuple(BadPair(**row) for row in _data()["modelopt"]["known_bad"])


def image_security() -> tuple[str, str]:
    """The first image without the known remote holes, and the oldest one that is advised."""
    rows = _data()["security"]
    return rows["fixed"], rows["advised"]


def last_with_engines() -> str:
    """The newest TensorRT-LLM that has trtllm-build."""
    return str(_data()["tensorrt_llm"]["last_with_engines"])


def as_of() -> str:
    """When these tables were written, `YYYY-MM`."""
    return str(_data()["as_of"])


@cache
def known_versions() -> tuple[str, ...]:
    """Every TensorRT-LLM version known to exist, candidates too."""
    rows = _data()["tensorrt_llm"]
    candidates = [
        f"{base}rc{number}" for base, top in rows["candidates"].items() for number in range(top + 1)
    ]
    return (*rows["releases"], *candidates)


def may_exist(version: str) -> bool:
    """Whether TensorRT-LLM `version` is known, or could have come out since the table was written."""
    if version in known_versions():
        return True
    parsed = parse_version(version)
    if parsed is None or version.count(".") != 2:  # noqa: PLR2004 - major.minor.patch
        return False
    newest = _newest_of_series(parsed)
    if newest is None:  # a series that nothing is known of
        return parsed > max(filter(None, map(parse_version, known_versions())))
    if "rc" in version:
        return parsed[:3] == newest[:3] and newest[3] < parsed[3] <= newest[3] + _PLAUSIBLE_NEXT_CANDIDATES
    return parsed[:3] == newest[:3] or parsed[2] == newest[2] + 1


def _newest_of_series(version: Version) -> Version | None:
    known = [parse_version(name) for name in known_versions()]
    return max((one for one in known if one is not None and one[:2] == version[:2]), default=None)


def _data() -> dict[str, Any]:
    data: dict[str, Any] = read_data("stacks.json")
    return data
