"""Measure a draft by running it: what the target accepts, how long steps take, how fast both are together.

All is that of the checkpoint as it is served, with the rounding of quantized layers' inputs emulated, times
too: without it another model would be timed, which accepts less of this draft. Answers are decoded at each
length from 0 on, greedily and with sampling, many prompts at once; nothing is derived from another length.
"""

from __future__ import annotations

from importlib.metadata import version
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import DraftAcceptance
from bwdeploy.worker.drafts.acceptance import by_workload, lengths_of
from bwdeploy.worker.drafts.decoding import decode
from bwdeploy.worker.drafts.eagle3 import load_draft
from bwdeploy.worker.drafts.mtp import load_mtp
from bwdeploy.worker.drafts.pair import Pair
from bwdeploy.worker.drafts.plain_comparison import count_differences, refuse_other_logits
from bwdeploy.worker.drafts.sampling import Greedy, Sampled
from bwdeploy.worker.drafts.target_model import TargetModel, load_target
from bwdeploy.worker.drafts.timing import Graphs, time_runs, time_sizes, time_steps
from bwdeploy.worker.drafts.workloads import read_prompts, tokenize
from bwdeploy.worker.process import peak_memory_bytes
from bwdeploy.worker.quantize import Clock, device_name, peak_gpu_memory, refuse_wrong_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bwdeploy.pipeline.training_jobs import MeasureDraft, SpeculativeRun, StepTiming
    from bwdeploy.worker.drafts.acceptance import Runs
    from bwdeploy.worker.drafts.pair import Acceptance, Draft
    from bwdeploy.worker.drafts.row_cache import RowCache
    from bwdeploy.worker.drafts.sampling import Rule
    from bwdeploy.worker.drafts.workloads import TokenizedPrompt

    Report = Callable[[Progress], None]
    Forward = Callable[[Tensor, Tensor, Tensor, RowCache], Tensor]


def run(request: MeasureDraft, report: Report) -> DraftAcceptance:
    """Measure `request.draft`, or the target's own prediction layers, on the recipe's prompts.

    Raises:
        RecipeError: prompts are in another format or too few; the draft does not fit the target.
        HostError: no CUDA device although the job wants one.
        ToolError: the target cannot be read or decoded.
    """
    refuse_wrong_device(request.device)
    seed, clock = request.measurement.seed, Clock()
    with clock.phase("load", report):
        bench = _Bench(request, report)
        refuse_other_logits(bench.target, bench.prompts[0])
    with clock.phase("acceptance", report):
        plain, greedy = bench.greedy()
        sampled = bench.sampled()
        workloads = by_workload(bench.workloads, greedy, sampled, seed=seed)
        differs = count_differences(
            bench.target, bench.prompts, plain, greedy.values(), new_tokens=request.measurement.new_tokens
        )
    with clock.phase("timing", report):
        timings = bench.timings()
    with clock.phase("decoding", report):
        runs = bench.runs()
    return DraftAcceptance(
        method=request.method,
        workloads=workloads,
        overall=lengths_of(greedy, sampled, seed=seed),
        timings=timings,
        runs=runs,
        greedy_differs=differs,
        device=device_name(request.device),
        dtype=str(bench.target.dtype).removeprefix("torch."),
        compiled=request.measurement.compile,
        graphs=bench.graphs,
        torch_version=version("torch"),
        seconds=clock.seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=peak_gpu_memory(request.device),
    )


class _Bench:
    """Target, draft and prompts, ready to be run."""

    def __init__(self, request: MeasureDraft, report: Report) -> None:
        self._measurement, self._report = request.measurement, report
        self._lengths = range(1, request.measurement.max_draft_len + 1)
        self._new_tokens = request.measurement.new_tokens
        prompts = read_prompts(request.measurement)
        model = load_target(
            request.target, device=request.device, trust_remote_code=request.trust_remote_code
        )
        self.target = TargetModel(model)
        self._draft = _draft(request, self.target)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            request.target, trust_remote_code=request.trust_remote_code
        )
        self._prompts = tokenize(prompts, tokenizer, longest=self._room())
        self.prompts = [prompt.tokens for prompt in self._prompts]
        self._graphs = Graphs(self.target.device)

    @property
    def workloads(self) -> list[str]:
        """Of each prompt."""
        return [prompt.workload for prompt in self._prompts]

    @property
    def graphs(self) -> bool:
        """Whether steps are replayed from CUDA graphs."""
        return self._graphs.used

    def greedy(self) -> tuple[list[Acceptance], Runs]:
        """Plain decoding, and speculative decoding at each length."""
        found = {length: self._decode(Greedy(), length) for length in (0, *self._lengths)}
        return found.pop(0), found

    def sampled(self) -> Runs:
        """The same with sampling, from the same seed at each length."""
        rule = Sampled(self._measurement.temperature)
        return {length: self._decode(rule, length) for length in self._lengths}

    def timings(self) -> tuple[StepTiming, ...]:
        """Of each batch size that there is memory for."""
        sizes = sorted(set(self._measurement.batch_sizes))
        return time_sizes(sizes, lambda size: self._timing(size, sizes.index(size), len(sizes)))

    def runs(self) -> tuple[SpeculativeRun, ...]:
        """Real decoding, one prompt at a time, workloads in turn."""
        return time_runs(
            self._pair(Greedy()),
            _in_turn(self._prompts),
            new_tokens=self._new_tokens,
            draft_len=self._lengths[-1],
            graphs=self._graphs,
        )

    def _timing(self, size: int, number: int, sizes: int) -> StepTiming:
        self._report(Progress(phase="timing", done=number, total=sizes, detail=f"batch size {size}"))
        return time_steps(
            self._pair(Greedy()),
            _in_turn(self._prompts),
            batch_size=size,
            new_tokens=self._new_tokens,
            draft_len=self._lengths[-1],
            graphs=self._graphs,
        )

    def _decode(self, rule: Rule, length: int) -> list[Acceptance]:
        torch.manual_seed(self._measurement.seed)
        kind = "sampled" if rule.keeps_probabilities else "greedy"
        found: list[Acceptance] = []
        batches = decode(
            self._pair(rule),
            self.prompts,
            draft_len=length,
            new_tokens=self._new_tokens,
            replace=self._graphs.captured if self._graphs.used else None,
        )
        for batch in batches:
            found += batch
            detail = f"{kind}, {length} drafted"
            self._report(
                Progress(phase="acceptance", done=len(found), total=len(self.prompts), detail=detail)
            )
        return found

    def _pair(self, rule: Rule) -> Pair:
        return Pair(self.target, self._draft, rule)

    def _room(self) -> int | None:
        """Tokens that a prompt may have."""
        positions = getattr(self.target.config, "max_position_embeddings", None)
        return None if positions is None else positions - self._new_tokens - 2 * self._lengths[-1] - 1


def _draft(request: MeasureDraft, target: TargetModel) -> Draft:
    draft: Any = (
        load_mtp(request.target, target) if request.draft is None else load_draft(request.draft, target)
    )
    if request.measurement.compile:
        draft.forward = _compiled(draft.forward)
    return cast("Draft", draft)


def _compiled(forward: Forward) -> Forward:
    """`forward` as one program for every batch size and draft length.

    The pass that makes a cache's buffers is left out: it would be a program of its own.
    """
    program: Forward = torch.compile(forward, dynamic=True)

    def choose(hidden: Tensor, ids: Tensor, positions: Tensor, cache: RowCache) -> Tensor:
        return (program if cache.filled else forward)(hidden, ids, positions, cache)

    return choose


def _in_turn(prompts: list[TokenizedPrompt]) -> list[tuple[int, ...]]:
    """The first prompt of each workload, then the second of each, and so on."""
    kinds = dict.fromkeys(prompt.workload for prompt in prompts)
    apart = [[prompt.tokens for prompt in prompts if prompt.workload == kind] for kind in kinds]
    return [tokens for tokens in chain.from_iterable(zip_longest(*apart)) if tokens is not None]
