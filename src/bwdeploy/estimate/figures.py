"""What an estimate is asked and what it says. No figure stands without its band and its method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from bwdeploy.planner.speed.roofline import Band, Load

if TYPE_CHECKING:
    from bwdeploy.planner.speed.slow_settings import SlowSetting
    from bwdeploy.tools.aiconfigurator import FrontPoint

Method = Literal["aiconfigurator", "roofline"]

AICONFIGURATOR_BAND = Band(
    0.6,
    2.0,
    "93 of the 101 public measurements that it answered, of 260 drawn at random, lie between 0.6 and 2 times"
    " aiconfigurator's figure; 0.22 times was reported once"
    " (https://github.com/ai-dynamo/aiconfigurator/issues/1396)",
)
"""The measurements come with the tool: systems/silicon_sample.csv of aiconfigurator-core 0.12.0, trtllm and
aggregated serving. For the others it had no tables or not the model's configuration, or they had queued."""

FORMULA_BAND = Band(
    0.5,
    2.0,
    "parts come from aiconfigurator's own formulas, which nobody has compared with measurements that we know"
    " of: taken as wide as the roofline's",
)


class EstimateRequest(NamedTuple):
    """What the caller asks for; None: as the recipe says."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    concurrency: tuple[int, ...] = ()
    acceptance: float | None = None
    """Above 1: tokens gained in one step. Up to 1: the rate at which each drafted token is accepted."""
    method: Literal["auto", "aiconfigurator", "roofline"] = "auto"
    front: bool = False
    """Ask aiconfigurator for the Pareto front of other layouts too."""


class EstimatedPoint(NamedTuple):
    """Speed at one concurrency."""

    concurrency: int
    tokens_per_s_per_user: float
    tokens_per_s_per_gpu: float
    method: Method
    band: Band
    remark: str = ""


class Drafts(NamedTuple):
    """The effect of speculative decoding that the points contain."""

    method: str
    draft_len: int
    acceptance_length: float
    source: str
    """Where the acceptance comes from."""
    gain_alone: float
    """Factor on the speed of a single user."""
    best_draft_len: int | None
    """For a single user; None when acceptance is known for one length only."""


class Compared(NamedTuple):
    """One `expect:` figure beside the estimate."""

    name: str
    metric: str
    value: float
    status: str
    source: str
    load: Load
    assumed: Literal["", "traffic", "requests"]
    """What of the load the source does not say, so that the recipe's own stands for it."""
    method: Method
    low: float
    high: float
    verdict: Literal["inside", "above", "below"]
    """Where the expected figure lies: inside the band, above it or below it."""
    look_at: tuple[SlowSetting, ...]
    """Settings to look at when it lies outside."""


class Estimate(NamedTuple):
    """All of it."""

    name: str
    method: Method
    """Of the recipe's own point."""
    why: str
    """Why this method."""
    gpu: str
    gpus: int
    load: Load
    """The concurrency is the recipe's own."""
    points: tuple[EstimatedPoint, ...]
    own_point: EstimatedPoint
    drafts: Drafts | None
    expect: tuple[Compared, ...]
    front: tuple[FrontPoint, ...]
    notes: tuple[str, ...]
