"""What coalescing buys: tokens/s of 64 streams, one response per token against the shipped 16.

    python -m benchmarks.triton_streams [--streams 64] [--tokens 1024] [--repeats 3]

Both models run in real Triton servers on this machine with the echo engine (one byte of the prompt is one
token), the same code and the same load; they take turns, and the median of the turns counts. The load
client shares the cores with the servers; its CPU time is shown, as is that of server, stub and engine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import write_result
from bwdeploy.recipe.schema import Engine, Serve
from bwdeploy.serving.client import Endpoint, Sampling
from bwdeploy.serving.load import LoadPlan, LoadReport, run_load
from bwdeploy.serving.repository import RepositoryInputs, write_repository
from bwdeploy.tools.triton_request import ServerRequest
from bwdeploy.tools.triton_server import RunningServer, start_server

MODEL = "echo"
PROMPT = "The quick brown fox jumps over the lazy dog. "
WANTED_RATIO = 10.0
WANTED_TOKENS_PER_S = 40_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One run of the load against one model."""

    report: LoadReport
    cpu_s: dict[str, float]
    """By process: server, stub, engine, client."""


def main() -> int:
    """Run, print a table, write JSON; 0 when the wanted figures are reached."""
    options = parse_arguments()
    variants = {"one response per token": 1, "coalesced (shipped)": Serve().flush_tokens}
    turns: dict[str, list[Turn]] = {name: [] for name in variants}
    with ExitStack() as running:
        servers = {
            name: running.enter_context(served_echo(running, flush_tokens=flush))
            for name, flush in variants.items()
        }
        plan = LoadPlan(
            prompts=(PROMPT * (options.tokens // len(PROMPT) + 1),),
            sampling=Sampling(max_tokens=options.tokens),
            concurrency=options.streams,
            requests=2 * options.streams,
        )
        for server in servers.values():
            run_load(endpoint_of(server), plan)  # warm-up
        for _ in range(options.repeats):
            for name, server in servers.items():
                turns[name].append(one_turn(server, plan))
    result = summary(turns, options)
    print_table(result)
    write_result("triton_streams", result)
    return 0 if result["reached"] else 1


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=1024, help="of each answer")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args(namespace=argparse.Namespace(load_average=os.getloadavg()[0]))


def served_echo(cleanup: ExitStack, *, flush_tokens: int) -> RunningServer:
    """A server with one echo model."""
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="triton-streams-")))
    (folder / "repository").mkdir()
    serve = Serve(model_name=MODEL, flush_tokens=flush_tokens)
    inputs = RepositoryInputs(serve=serve, engine=Engine(), checkpoint=None, llm_args=None, runtime="echo")
    write_repository(folder / "repository", inputs)
    return start_server(ServerRequest(repository=folder / "repository", log=folder / "triton.log"))


def endpoint_of(server: RunningServer) -> Endpoint:
    """Where the model of a server is."""
    return Endpoint(http=server.http_url, grpc=server.grpc_url, metrics=server.metrics_url, model=MODEL)


def one_turn(server: RunningServer, plan: LoadPlan) -> Turn:
    """Run the load once."""
    before = processes_cpu_s(server.pid)
    report = run_load(endpoint_of(server), plan)
    after = processes_cpu_s(server.pid)
    if report.failures:
        raise SystemExit(f"requests failed: {report.failures}")
    used = {name: after[name] - before[name] for name in after}
    return Turn(report=report, cpu_s={**used, "client": report.client_cpu_s})


def processes_cpu_s(server: int) -> dict[str, float]:
    """CPU time so far of the server, its Python stub and the stub's engine process."""
    stub = only_child(server)
    return {"server": cpu_s(server), "stub": cpu_s(stub), "engine": cpu_s(only_child(stub))}


def only_child(pid: int) -> int:
    """The one child of a process, whichever thread started it."""
    tasks = Path(f"/proc/{pid}/task")
    children = [word for task in tasks.iterdir() for word in (task / "children").read_text().split()]
    assert len(children) == 1, f"process {pid} has the children {children}"
    return int(children[0])


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(turns: dict[str, list[Turn]], options: argparse.Namespace) -> dict[str, Any]:
    """Medians, the ratio, and what machine it was."""
    rows = {name: medians(done) for name, done in turns.items()}
    baseline, shipped = rows.values()
    ratio = shipped["tokens_per_s"] / baseline["tokens_per_s"]
    first_token_ok = shipped["first_token_p50_ms"] <= baseline["first_token_p50_ms"]
    return {
        "load_average_before": options.load_average,
        "triton": "2.51.0 (nvidia-pytriton 0.7.0)",
        "streams": options.streams,
        "tokens_per_stream": options.tokens,
        "requests_per_turn": 2 * options.streams,
        "turns": options.repeats,
        "variants": rows,
        "ratio": ratio,
        "first_token_not_delayed": first_token_ok,
        "reached": ratio >= WANTED_RATIO
        and shipped["tokens_per_s"] >= WANTED_TOKENS_PER_S
        and first_token_ok,
    }


def medians(turns: list[Turn]) -> dict[str, Any]:
    """The median over the turns of what the table shows, and the spread of the rate."""

    def median(values: list[float]) -> float:
        return statistics.median(values)

    rates = [turn.report.tokens_per_s for turn in turns]
    return {
        "tokens_per_s": median(rates),
        "tokens_per_s_lowest": min(rates),
        "tokens_per_s_highest": max(rates),
        "responses_per_s": median([turn.report.responses_per_s for turn in turns]),
        "first_token_p50_ms": median([turn.report.first_token.p50_ms for turn in turns]),
        "first_token_p99_ms": median([turn.report.first_token.p99_ms for turn in turns]),
        "response_gap_p50_ms": median([turn.report.response_gap.p50_ms for turn in turns]),
        "cores_used": {
            name: median([turn.cpu_s[name] / turn.report.seconds for turn in turns])
            for name in turns[0].cpu_s
        },
    }


def print_table(result: dict[str, Any]) -> None:
    """For people."""
    print(f"{result['streams']} streams of {result['tokens_per_stream']} tokens")
    print(f"{'':24}{'tok/s':>10}{'resp/s':>10}{'TTFT p50':>12}{'TTFT p99':>12}   cores used")
    for name, row in result["variants"].items():
        cores = ", ".join(f"{process} {share:.2f}" for process, share in row["cores_used"].items())
        print(
            f"{name:24}{row['tokens_per_s']:>10,.0f}{row['responses_per_s']:>10,.0f}"
            f"{row['first_token_p50_ms']:>9.1f} ms{row['first_token_p99_ms']:>9.1f} ms   {cores}"
        )
    verdict = "reached" if result["reached"] else "not reached"
    wanted = f"wanted {WANTED_RATIO:g}, {WANTED_TOKENS_PER_S:,.0f} tok/s and no later first token"
    print(f"ratio {result['ratio']:.1f} ({wanted}): {verdict}")


if __name__ == "__main__":
    raise SystemExit(main())
