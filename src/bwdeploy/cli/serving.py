"""The verbs that run what was built: serve, smoke, bench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bwdeploy.cli.arguments import AsJson, OutPath
from bwdeploy.cli.output import print_json
from bwdeploy.errors import GateError

if TYPE_CHECKING:
    from bwdeploy.serving.ask import Asked
    from bwdeploy.serving.deployment import Deployment
    from bwdeploy.serving.serve import LiveModel, ServeOptions

Server = Annotated[
    Literal["bundled", "system", "container"],
    typer.Option(help="The Triton of nvidia-pytriton, the tritonserver on PATH, or docker/podman."),
]
Image = Annotated[
    str | None,
    typer.Option(help="Of --server container.", show_default="the one with the recipe's TensorRT-LLM"),
]
Gpus = Annotated[Literal["all", "none"], typer.Option(help="What a container sees.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, show_default="a free port")]


def serve(
    out: OutPath,
    *,
    server: Server = "bundled",
    image: Image = None,
    gpus: Gpus = "all",
    http_port: Port = None,
    grpc_port: Port = None,
    metrics_port: Port = None,
    ask: Annotated[
        str | None, typer.Option(metavar="PROMPT", help="Ask this, print the answer, and stop.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of the answer to --ask.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Serve an output directory on the real Triton server, on loopback only, until Ctrl-C."""
    from bwdeploy.serving.deployment import open_deployment
    from bwdeploy.serving.serve import ServeOptions
    from bwdeploy.serving.serve import serve as serve_until_stopped

    deployment = open_deployment(out)
    options = ServeOptions(
        kind=server,
        image=image,
        gpus=gpus,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
    )
    if ask is not None:
        _ask(deployment, options, ask, max_tokens=max_tokens, as_json=as_json)
        return
    serve_until_stopped(
        deployment, options, on_ready=lambda live: _print_ready(live, as_json=as_json), on_progress=_talk
    )


def smoke(
    out: OutPath,
    *,
    server: Server = "bundled",
    image: Image = None,
    gpus: Gpus = "all",
    as_json: AsJson = False,
) -> None:
    """Start an output, test its answers over gRPC and HTTP, and stop it; exit 6 when one is wrong."""
    from bwdeploy.report.smoke import check_line, report_text
    from bwdeploy.serving.deployment import open_deployment
    from bwdeploy.serving.serve import ServeOptions, serving
    from bwdeploy.serving.smoke import run_smoke, smoke_options

    deployment = open_deployment(out)
    with serving(deployment, ServeOptions(kind=server, image=image, gpus=gpus), on_progress=_talk) as live:
        report = run_smoke(
            live.endpoint, smoke_options(deployment), on_check=lambda check: _talk(check_line(check))
        )
    if as_json:
        print_json(report.model_dump(mode="json"))
        raise typer.Exit(0 if report.ok else GateError.exit_code)
    typer.echo(report_text(report))
    if not report.ok:
        failed = ", ".join(check.id for check in report.failures)
        raise GateError(f"the smoke test failed: {failed}", hint=f"The server's log: {live.server.log}")


def bench(
    out: OutPath,
    *,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 4,
    requests: Annotated[int, typer.Option(min=1, help="Requests in all.")] = 16,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 64,
    server: Server = "bundled",
    image: Image = None,
    gpus: Gpus = "all",
    as_json: AsJson = False,
) -> None:
    """Start an output, load it with the recipe's prompts, say what clients saw, and stop it."""
    from bwdeploy.report.load import load_text
    from bwdeploy.serving.client import Sampling
    from bwdeploy.serving.deployment import open_deployment
    from bwdeploy.serving.load import LoadPlan, run_load
    from bwdeploy.serving.serve import ServeOptions, serving

    deployment = open_deployment(out)
    plan = LoadPlan(
        prompts=deployment.serve.prompts,
        sampling=Sampling(max_tokens=max_tokens),
        concurrency=concurrency,
        requests=requests,
    )
    with serving(deployment, ServeOptions(kind=server, image=image, gpus=gpus), on_progress=_talk) as live:
        report = run_load(live.endpoint, plan)
    if as_json:
        print_json(report.to_json())
        raise typer.Exit(GateError.exit_code if report.failures else 0)
    typer.echo(load_text(report))
    if report.failures:
        raise GateError("some requests failed", hint=f"The server's log: {live.server.log}")


def _ask(
    deployment: Deployment, options: ServeOptions, prompt: str, *, max_tokens: int, as_json: bool
) -> None:
    from bwdeploy.serving.ask import ask
    from bwdeploy.serving.client import Sampling
    from bwdeploy.serving.serve import serving

    with serving(deployment, options, on_progress=_talk) as live:
        asked = ask(live.endpoint, prompt, Sampling(max_tokens=max_tokens))
    if as_json:
        print_json(_asked_json(asked))
    else:
        typer.echo(f"{asked.prompt}\n{asked.text}")
        typer.echo(_speed(asked))


def _speed(asked: Asked) -> str:
    if asked.tokens_per_s is None:  # the model does not count its tokens
        return f"[{asked.seconds:.1f} s, first text after {asked.first_token_s:.2f} s]"
    return (
        f"[{asked.tokens} tokens in {asked.seconds:.1f} s: {asked.tokens_per_s:.1f} tokens/s,"
        f" first after {asked.first_token_s:.2f} s]"
    )


def _asked_json(asked: Asked) -> dict[str, object]:
    return {
        "prompt": asked.prompt,
        "text": asked.text,
        "finish_reason": asked.finish_reason,
        "tokens": asked.tokens,
        "seconds": round(asked.seconds, 3),
        "first_token_s": round(asked.first_token_s, 3),
        "tokens_per_s": None if asked.tokens_per_s is None else round(asked.tokens_per_s, 2),
    }


def _print_ready(live: LiveModel, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "ready": True,
                "model": live.endpoint.model,
                "http": live.endpoint.http,
                "grpc": live.endpoint.grpc,
                "metrics": live.endpoint.metrics,
                "started_s": round(live.started_s, 2),
            }
        )
        return
    typer.echo(f"{live.endpoint.model} answers after {live.started_s:.1f} s")
    typer.echo(f"  HTTP     {live.endpoint.http}/v2/models/{live.endpoint.model}/generate")
    typer.echo(f"  gRPC     {live.endpoint.grpc}")
    typer.echo(f"  metrics  {live.endpoint.metrics}")
    typer.echo("Ctrl-C stops it.")


def _talk(text: str) -> None:
    typer.echo(text, err=True)
