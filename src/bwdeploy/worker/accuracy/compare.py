"""The paired comparison of a checkpoint with its source: held-out text always, tasks where they are named.

The models are in memory one after the other, each loaded once. The checkpoint runs as it will be served:
weights as exported, inputs rounded as it prescribes; only the KV cache is not rounded. Whether the figures
are good enough is decided by the gate.
"""

from __future__ import annotations

import gc
import math
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import (
    AccuracyReport,
    CompareAccuracy,
    SampleValues,
    TaskComparison,
    TextComparison,
)
from bwdeploy.worker.accuracy.answers import Scores, answer
from bwdeploy.worker.accuracy.tasks import LoadedTask, lm_eval_version, load_tasks
from bwdeploy.worker.accuracy.text import KeptSource, compare_with_source, held_out_sequences, keep_source
from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.next_token import cut_at_head
from bwdeploy.worker.process import peak_memory_bytes
from bwdeploy.worker.ranks.files import RankFiles
from bwdeploy.worker.ranks.join import join
from bwdeploy_runtime.checkpoint import CheckpointError, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.jobs import AuditFinding

    OnBatch = Callable[[int, int], None]


def run(request: CompareAccuracy, report: Callable[[Progress], None]) -> AccuracyReport:
    """Run source and checkpoint on the same text and the same questions.

    Raises:
        HostError: tasks are named, and lm-eval is not installed.
        RecipeError: the evaluation text or a task cannot be used.
        ToolError: the *source* cannot be read.
    """
    with TemporaryDirectory(prefix="accuracy-", dir=Path.cwd()) as place:
        return _Comparer(request, report, Path(place)).run()


class _Source(NamedTuple):
    """What is kept of the source."""

    text: KeptSource
    scores: tuple[Scores, ...]


class _Comparer:
    """One comparison in progress."""

    def __init__(self, request: CompareAccuracy, report: Callable[[Progress], None], place: Path) -> None:
        self.request = request
        self.report = report
        self.place = place
        self.seconds: dict[str, float] = {}

    def run(self) -> AccuracyReport:
        tasks: tuple[LoadedTask, ...] = ()
        if self.request.tasks:
            with self._phase("load tasks"):
                tasks = load_tasks(self.request.tasks, place=self.place)
        try:
            source = self._source(tasks)
        except CheckpointError as error:
            raise ToolError(
                f"The source model cannot be read: {error}.",
                hint="Is model.source (or gate.reference) whole?",
            ) from error
        self._make_room()
        try:
            text, scores = self._checkpoint(source, tasks)
        except CheckpointError as error:
            return self._answer(None, (), (finding("checkpoint-unreadable", str(error)),))
        if not _is_finite(text):
            message = f"{self._who_computes_no_numbers(text)} computes NaN or infinity"
            return self._answer(None, (), (finding("perplexity-not-finite", message),))
        return self._answer(text, tuple(map(_paired, tasks, source.scores, scores)), ())

    def _source(self, tasks: tuple[LoadedTask, ...]) -> _Source:
        request = self.request
        sequences = held_out_sequences(
            request.evaluation, request.source, trust_remote_code=request.trust_remote_code
        )
        model, _ = self._load("source", request.source)
        with self._phase("text of source") as on_batch:
            kept = keep_source(
                cut_at_head(model), sequences, place=self.place, device=model.device, on_batch=on_batch
            )
        return _Source(kept, self._scores("source", tasks, model))

    def _checkpoint(
        self, source: _Source, tasks: tuple[LoadedTask, ...]
    ) -> tuple[TextComparison, tuple[Scores, ...]]:
        """The figures of the text, and the scores; no scores from a model that computes no numbers."""
        if self.request.checkpoint == self.request.source:
            with self._phase("text of checkpoint") as on_batch:
                text = compare_with_source(source.text, None, activations="unquantized", on_batch=on_batch)
            return text, source.scores
        model, emulated = self._load("checkpoint", self._unified())
        with self._phase("text of checkpoint") as on_batch:
            text = compare_with_source(
                source.text,
                cut_at_head(model),
                activations="quantized" if emulated else "unquantized",
                on_batch=on_batch,
            )
        return text, self._scores("checkpoint", tasks, model) if _is_finite(text) else ()

    def _who_computes_no_numbers(self, text: TextComparison) -> Path:
        source = text.negative_log_likelihood.source
        return self.request.checkpoint if all(map(math.isfinite, source)) else self.request.source

    def _scores(self, of: str, tasks: tuple[LoadedTask, ...], model: Any) -> tuple[Scores, ...]:  # noqa: ANN401
        if not tasks:
            return ()
        tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(
            self.request.source, trust_remote_code=self.request.trust_remote_code
        )
        scores = []
        for number, task in enumerate(tasks):
            with self._phase(f"{task.name} of {of}") as on_task:
                on_task(number, len(tasks))
                scores.append(answer(task, model, tokenizer))
        return tuple(scores)

    def _load(self, what: str, directory: Path) -> tuple[Any, int]:
        """The model of `directory` and how many of its layers round their input."""
        torch = import_module("torch")
        with self._phase(f"load {what}"):
            model, info = load_model(
                directory,
                device=self.request.device,
                dtype=torch.bfloat16 if self.request.device == "cuda" else torch.float32,
                emulate_activations=True,
                trust_remote_code=self.request.trust_remote_code,
            )
        return model, info.emulated_inputs

    def _make_room(self) -> None:
        """Let go of the model before: modules hold reference cycles, and two must not stand side by side."""
        gc.collect()
        if self.request.device == "cuda":
            import_module("torch").cuda.empty_cache()

    def _unified(self) -> Path:
        """The checkpoint as one model: files of ranks are joined for the time being."""
        if self.request.layout == "unified":
            return self.request.checkpoint
        joined = self.place / "joined"
        joined.mkdir()
        with self._phase("join"), RankFiles(self.request.checkpoint) as ranks:
            join(ranks, source=self.request.source, out=joined, report=self.report)
        return joined

    @contextmanager
    def _phase(self, name: str) -> Iterator[OnBatch]:
        started = time.monotonic()
        self.report(Progress(phase=name))
        yield lambda done, total: self.report(Progress(phase=name, done=done, total=total))
        self.seconds[name] = round(time.monotonic() - started, 2)

    def _answer(
        self,
        text: TextComparison | None,
        tasks: tuple[TaskComparison, ...],
        findings: tuple[AuditFinding, ...],
    ) -> AccuracyReport:
        return AccuracyReport(
            text=text,
            tasks=tasks,
            findings=findings,
            lm_eval_version=lm_eval_version() if self.request.tasks else None,
            device=self.request.device,
            seconds=self.seconds,
            peak_memory_bytes=peak_memory_bytes(),
        )


def _is_finite(text: TextComparison) -> bool:
    likelihoods = text.negative_log_likelihood
    figures = (*likelihoods.source, *likelihoods.checkpoint, *text.kl_divergence)
    return all(map(math.isfinite, figures))


def _paired(task: LoadedTask, source: Scores, checkpoint: Scores) -> TaskComparison:
    """Both models on one task.

    Raises:
        ToolError: they were not asked the same.
    """
    if source.asked != checkpoint.asked:
        raise ToolError(
            f"Task {task.name} asked the two models different questions.",
            hint="Its questions or examples depend on chance; take another task.",
        )
    return TaskComparison(
        task=task.name,
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        scores=SampleValues(source=source.values, checkpoint=checkpoint.values),
    )
