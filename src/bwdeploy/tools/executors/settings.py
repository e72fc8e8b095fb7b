"""The executor file: where jobs run on this site, and how its containers and its cluster are asked.

It is no part of a recipe, because it says nothing about the result. Strict: an unknown key or a wrong type
is an error with its place. See docs/executors.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bwdeploy.pipeline.jobs import Device
from bwdeploy.recipe.schema import Section

WORD_PATTERN = r"^[^\x00-\x20\x7f-][^\x00-\x20\x7f]*$"
PATH_PATTERN = r"^/[^\x00\n]*$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
TIME_PATTERN = r"^([0-9]+-)?[0-9]+(:[0-9]{2}){0,2}$"
PATTERN_MEANINGS = {
    WORD_PATTERN: "one word that does not begin with '-'",
    PATH_PATTERN: "an absolute path",
    VARIABLE_PATTERN: "the name of an environment variable",
    TIME_PATTERN: "minutes, hours:minutes:seconds or days-hours:minutes:seconds",
}
"""The patterns below in the user's words; messages use them."""

Word = Annotated[str, StringConstraints(pattern=WORD_PATTERN, max_length=4096)]
AbsolutePath = Annotated[str, StringConstraints(pattern=PATH_PATTERN, max_length=4096)]
Variable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN, max_length=200)]
TimeLimit = Annotated[str, StringConstraints(pattern=TIME_PATTERN, max_length=20)]
OptionValue = Annotated[str, StringConstraints(pattern=r"^[^\x00\n]*$", max_length=4096)] | int | bool

ExecutorName = Literal["local", "container", "slurm"]
ContainerProgram = Literal["docker", "podman", "enroot"]
GpuChoice = Literal["auto", "all", "none"] | Annotated[tuple[int | Word, ...], Field(min_length=1)]
Network = Literal["auto", "none", "bridge", "host"]


class ContainerSettings(Section):
    """The executor `container`."""

    program: ContainerProgram | None = Field(
        default=None, description="Default: docker, or else podman. enroot needs `image`."
    )
    image: Word | None = Field(
        default=None,
        description="Image for programs of TensorRT-LLM (for enroot a .sqsh file); default: the newest"
        " Triton image that carries the recipe's version.",
    )
    worker_image: Word | None = Field(
        default=None,
        description="Image with torch, transformers and ModelOpt for quantization and audit; default:"
        " they run outside, in the environment of bwdeploy.",
    )
    gpus: GpuChoice = Field(
        default="auto", description="auto: as many as the job needs; or a list of indices or UUIDs."
    )
    pull: Literal["never", "missing"] = Field(
        default="missing", description="Whether an image that is not here is fetched."
    )
    network: Network = Field(
        default="auto", description="auto: none, except for jobs that download a model or a dataset."
    )
    user: Literal["host", "image"] = Field(
        default="host", description="host: your user and group id. image: the user that the image names."
    )


class SlurmSettings(Section):
    """The executor `slurm`."""

    partition: Word | None = Field(default=None, description="Default: the cluster's.")
    account: Word | None = Field(default=None, description="Default: yours.")
    time_limit: TimeLimit | None = Field(default=None, description="Default: the partition's.")
    gpus_per_node: int | None = Field(
        default=None, ge=0, le=64, description="Default: as many as the job needs. 0: ask with options.gres."
    )
    container_image: Word | None = Field(
        default=None,
        description="Run in a container (pyxis): an image, a .sqsh file, or `auto` for the Triton image"
        " of the recipe's version. Default: no container.",
    )
    mpi: Word = Field(default="pmix", description="srun --mpi, for jobs of several tasks.")
    options: dict[str, OptionValue] = Field(
        default={}, description="More options of sbatch by their long name: {qos: high, exclusive: true}."
    )
    poll_s: float = Field(default=5.0, ge=0.01, le=600, description="Seconds between two looks at the queue.")
    patience_s: float = Field(
        default=900.0, ge=0, le=86_400, description="How long a queue that does not answer is borne."
    )


class ExecutorSettings(Section):
    """The whole file."""

    executor: ExecutorName = Field(default="local", description="Used when the command line names none.")
    device: Device | None = Field(
        default=None,
        description="Where models are quantized and evaluated: cpu or cuda. Default: what this machine has; "
        "a login node has no GPU, but its cluster's nodes may.",
    )
    environment: tuple[Variable, ...] = Field(
        default=(), description="Variables of yours that containers and cluster jobs get too."
    )
    tools: dict[Word, AbsolutePath] = Field(
        default={}, description="Program → its path where it runs: {trtllm-build: /opt/trt/bin/trtllm-build}."
    )
    container: ContainerSettings = ContainerSettings()
    slurm: SlurmSettings = SlurmSettings()
