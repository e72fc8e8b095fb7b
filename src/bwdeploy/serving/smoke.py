"""The smoke test: does the served model answer, on every route, in the way it promised?

Few short greedy generations, because the demo model makes about 12 tokens/s on a CPU: each prompt once per
route, then on the first prompt one answer each for max_tokens, a stop string and two cancellations.
It judges behavior, not the quality of answers. What an engine's ensemble does not promise is skipped. Last,
each fused kernel that the recipe names must have run meanwhile.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import ToolError
from bwdeploy.serving import grpc_client, http_client, metrics
from bwdeploy.serving.canary import probe
from bwdeploy.serving.client import DEFAULT_IDLE_S, Answer, GenerationError, Sampling, collect, first_piece
from bwdeploy.serving.kernel_runs import check_kernels
from bwdeploy.serving.smoke_report import (
    SmokeAnswer,
    SmokeCheck,
    SmokeReport,
    failed,
    judged,
    passed,
    skipped,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from bwdeploy.serving.client import Endpoint, Piece
    from bwdeploy.serving.deployment import Deployment

_SHORT_TOKENS: Final = 4
_COUNT_DEADLINE_S: Final = 2.0
_CANCEL_DEADLINE_S: Final = 15.0
_MISSPELT: Final = "sampling_param_temprature"
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeOptions:
    """What the test sends and what the deployment promised."""

    prompts: tuple[str, ...]
    max_tokens: int = 16
    streaming: bool = True
    """The model takes `streaming: true`."""
    cumulative_text: bool = False
    """Each streamed response repeats the whole text so far."""
    kernels: tuple[str, ...] = ()
    """Ops of the kernel pack that must have run."""
    long_answer_tokens: int = 256
    """Asked for by the requests that are cancelled after their first piece."""
    idle_s: float = DEFAULT_IDLE_S


def smoke_options(deployment: Deployment) -> SmokeOptions:
    """The options that fit a deployment, its limits included."""
    serve = deployment.serve
    usual = SmokeOptions(prompts=serve.prompts)
    return replace(
        usual,
        max_tokens=min(usual.max_tokens, serve.max_output_tokens),
        long_answer_tokens=min(usual.long_answer_tokens, serve.max_output_tokens),
        streaming=serve.streaming,
        cumulative_text=serve.cumulative_text and deployment.vocabulary.ours,
        kernels=deployment.kernels,
    )


def run_smoke(
    endpoint: Endpoint, options: SmokeOptions, *, on_check: Callable[[SmokeCheck], None] = lambda _check: None
) -> SmokeReport:
    """Test a served model; failures are in the report, not raised. `on_check` hears of each as it comes."""
    return _Smoke(endpoint, options, on_check).run()


class _Smoke:
    def __init__(
        self, endpoint: Endpoint, options: SmokeOptions, on_check: Callable[[SmokeCheck], None]
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        self._on_check = on_check
        self._checks: list[SmokeCheck] = []
        self._greedy = Sampling(max_tokens=options.max_tokens)
        self._ours = endpoint.vocabulary.ours

    def run(self) -> SmokeReport:
        """All checks, in order; none after a canary that failed, because all would fail alike."""
        started = time.perf_counter()
        answers: list[SmokeAnswer] = []
        if self._check("canary", self._canary):
            for number, prompt in enumerate(self._options.prompts):
                self._check(f"routes[{number}]", partial(self._routes, f"routes[{number}]", prompt, answers))
            if answers:
                self._check_first(answers[0])
            self._check("kernels", partial(check_kernels, self._endpoint, self._options.kernels))
        return SmokeReport(
            model=self._endpoint.model,
            checks=tuple(self._checks),
            answers=tuple(answers),
            seconds=time.perf_counter() - started,
        )

    def _check_first(self, whole: SmokeAnswer) -> None:
        self._check("max-tokens", partial(self._max_tokens, whole))
        self._check("stop-string", partial(self._stop_string, whole))
        self._check("unknown-parameter", partial(self._unknown_parameter, whole.prompt))
        for identity, route in (("cancel-grpc", self._grpc), ("cancel-http", self._http_stream)):
            self._check(identity, partial(self._cancel, identity, whole.prompt, route))

    def _check(self, identity: str, make: Callable[[], SmokeCheck]) -> bool:
        try:
            check = make()
        except GenerationError as error:
            check = failed(identity, f"{error.status}: {error.message}")
        except ToolError as error:
            check = failed(identity, error.message)
        self._checks.append(check)
        self._on_check(check)
        return check.ok

    def _canary(self) -> SmokeCheck:
        seconds = probe(self._endpoint, deadline_s=self._options.idle_s)
        return passed("canary", f"one token in {seconds:.2f} s")

    def _routes(self, identity: str, prompt: str, answers: list[SmokeAnswer]) -> SmokeCheck:
        """Greedy on three routes: never empty, always the same, and streamed text adds up to the whole."""
        generate = collect(self._http(prompt, self._greedy))
        streams = {
            "gRPC stream": self._collect_stream(self._grpc(prompt, self._greedy)),
            "HTTP generate_stream": self._collect_stream(self._http_stream(prompt, self._greedy)),
        }
        answers.append(_smoke_answer(prompt, generate, streams["HTTP generate_stream"]))
        problems = [f"{name} sent no text" for name, answer in streams.items() if not answer.text]
        if not generate.text:
            problems.append("HTTP generate sent no text")
        for name, answer in streams.items():
            if answer.text != generate.text:
                problems.append(f"{name} adds up to {answer.text!r}, HTTP generate is {generate.text!r}")
        responses = ", ".join(f"{len(answer.pieces)} over {name}" for name, answer in streams.items())
        return judged(
            identity, problems, f"{len(generate.text)} characters, the same on 3 routes; {responses}"
        )

    def _max_tokens(self, whole: SmokeAnswer) -> SmokeCheck:
        tally = metrics.Tally(self._endpoint)
        short = collect(self._http(whole.prompt, replace(self._greedy, max_tokens=_SHORT_TOKENS)))
        tokens = tally.tokens(timeout_s=_COUNT_DEADLINE_S)
        problems = []
        if not whole.text.startswith(short.text.rstrip(_REPLACEMENT)):
            problems.append(f"{short.text!r} is not how the longer answer begins")
        if tokens is None:
            return judged("max-tokens", problems, f"{short.text!r} is how the longer answer begins")
        if tokens > _SHORT_TOKENS:
            problems.append(f"{tokens} tokens were made for max_tokens {_SHORT_TOKENS}")
        if short.finish_reason not in {"length", "stop"}:
            problems.append(f"finish_reason is {short.finish_reason!r}")
        return judged("max-tokens", problems, f"{tokens} tokens, finish_reason {short.finish_reason}")

    def _stop_string(self, whole: SmokeAnswer) -> SmokeCheck:
        if not self._ours:
            return skipped("stop-string", "an engine stops at whole tokens only, not at any text")
        place = _stop_place(whole.text)
        if place is None:
            return skipped("stop-string", f"the answer {whole.text!r} is too short to stop inside")
        stop, expected = whole.text[place:], whole.text[:place]
        sampling = replace(self._greedy, stop=(stop,))
        answer = self._collect_stream(self._http_stream(whole.prompt, sampling))
        problems = []
        if answer.text != expected:
            problems.append(f"stopping at {stop!r} gave {answer.text!r} instead of {expected!r}")
        if answer.finish_reason != "stop":
            problems.append(f"finish_reason is {answer.finish_reason!r} instead of 'stop'")
        return judged("stop-string", problems, f"stopped before {stop!r}")

    def _unknown_parameter(self, prompt: str) -> SmokeCheck:
        if not self._ours:
            return skipped("unknown-parameter", "an ensemble takes every name in silence")
        try:
            collect(
                http_client.generate(
                    self._endpoint,
                    prompt,
                    Sampling(max_tokens=1),
                    idle_s=self._options.idle_s,
                    extra={_MISSPELT: 0.5},
                )
            )
        except GenerationError as error:
            if "temprature" in error.message:
                return passed("unknown-parameter", error.message)
            raise
        return failed("unknown-parameter", f"{_MISSPELT} was accepted in silence")

    def _cancel(
        self, identity: str, prompt: str, route: Callable[[str, Sampling], Generator[Piece]]
    ) -> SmokeCheck:
        """Leave a long answer after its first piece: the model must notice and free the place."""
        if not self._options.streaming:
            return skipped(identity, "the model does not stream")
        if not self._ours:
            return skipped(identity, "an ensemble does not hand a cancellation to the step that runs")
        before = metrics.read_counts(self._endpoint)
        pieces = route(prompt, replace(self._greedy, max_tokens=self._options.long_answer_tokens))
        with closing(pieces):
            first = first_piece(pieces)
        started = time.perf_counter()
        after = metrics.wait_for_finished(self._endpoint, before, timeout_s=_CANCEL_DEADLINE_S)
        if after.cancelled > before.cancelled:
            return passed(identity, f"noticed {time.perf_counter() - started:.2f} s later")
        if first.finish_reason or after.finished > before.finished:
            return skipped(identity, "the answer ended by itself before the cancellation arrived")
        return failed(identity, f"the model still worked on it {_CANCEL_DEADLINE_S:g} s later")

    def _grpc(self, prompt: str, sampling: Sampling) -> Generator[Piece]:
        options = self._options
        return grpc_client.stream(
            self._endpoint, prompt, sampling, streaming=options.streaming, idle_s=options.idle_s
        )

    def _http_stream(self, prompt: str, sampling: Sampling) -> Generator[Piece]:
        options = self._options
        return http_client.generate_stream(
            self._endpoint, prompt, sampling, streaming=options.streaming, idle_s=options.idle_s
        )

    def _http(self, prompt: str, sampling: Sampling) -> Generator[Piece]:
        return http_client.generate(self._endpoint, prompt, sampling, idle_s=self._options.idle_s)

    def _collect_stream(self, pieces: Iterator[Piece]) -> Answer:
        return collect(pieces, cumulative=self._options.cumulative_text and self._options.streaming)


def _smoke_answer(prompt: str, whole: Answer, streamed: Answer) -> SmokeAnswer:
    return SmokeAnswer(
        prompt=prompt,
        text=whole.text,
        finish_reason=whole.finish_reason,
        seconds=whole.seconds,
        first_piece_s=streamed.first_piece_s,
    )


def _stop_place(text: str) -> int | None:
    """Where to cut so that the rest occurs nowhere earlier: in the middle, or as soon after as possible."""
    for place in range(max(1, len(text) // 2), len(text)):
        if text.index(text[place:]) == place and text[place:].strip(_REPLACEMENT):
            return place
    return None
