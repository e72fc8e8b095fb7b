from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bwdeploy.errors import HostError, StoreError, ToolError
from bwdeploy.recipe.schema import Serve
from bwdeploy.serving.client import Sampling, collect
from bwdeploy.serving.deployment import open_deployment
from bwdeploy.serving.http_client import generate
from bwdeploy.serving.serve import LiveModel, ServeOptions, serve, serving
from bwdeploy.serving.smoke import smoke_options
from tests.serving.conftest import TEXT, add_echo

SERVE = """
import sys
from pathlib import Path
from bwdeploy.serving.deployment import open_deployment
from bwdeploy.serving.serve import ServeOptions, serve

serve(
    open_deployment(Path(sys.argv[1])),
    ServeOptions(log=Path(sys.argv[2])),
    on_ready=lambda live: print(live.server.pid, flush=True),
    on_progress=lambda text: print(text, flush=True),
)
print("left in order")
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output directory with an echo model."""
    folder = tmp_path / "out"
    (folder / "model_repository").mkdir(parents=True)
    section = Serve(model_name="llama", prompts=(TEXT,), startup_timeout_s=30, max_output_tokens=100)
    add_echo(folder / "model_repository", delay_ms=0, **section.model_dump())
    recipe = {
        "schema": 1,
        "name": "demo",
        "model": {"source": "file:///unused"},
        "serve": section.model_dump(mode="json"),
    }
    manifest = {"schema": 1, "name": "demo", "recipe": recipe, "stages": [], "files": []}
    (folder / "bwdeploy.json").write_text(json.dumps(manifest))
    return folder


def test_a_built_directory_is_served_while_the_block_runs(out: Path, tmp_path: Path) -> None:
    told: list[str] = []
    options = ServeOptions(log=tmp_path / "serve.log")
    with serving(open_deployment(out), options, on_progress=told.append) as live:
        assert collect(generate(live.endpoint, TEXT, Sampling(max_tokens=9))).text == TEXT[:9]
        assert live.started_s > 0
    assert str(tmp_path / "serve.log") in told[0]
    assert not list(out.rglob("__pycache__"))
    with pytest.raises(ToolError):
        live.server.check_alive()


def test_ctrl_c_stops_the_server_in_order(out: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(out), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        server = next(int(line) for line in lines if line.strip().isdigit())
        os.kill(process.pid, signal.SIGINT)
        assert list(lines) == ["stopped\n", "left in order\n"]
        assert process.wait(20) == 0
    assert not Path(f"/proc/{server}").exists()


def test_a_server_that_dies_ends_serving_with_its_reason(out: Path, tmp_path: Path) -> None:
    def kill(live: LiveModel) -> None:
        os.kill(live.server.pid, signal.SIGKILL)

    with pytest.raises(ToolError, match="exit status 137"):
        serve(open_deployment(out), ServeOptions(log=tmp_path / "log"), on_ready=kill)


def test_a_busy_port_is_named(out: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ServeOptions(http_port=port, log=tmp_path / "log")
        with pytest.raises(HostError, match=f"HTTP port {port} "), serving(open_deployment(out), options):
            pass


def test_an_engine_that_cannot_load_gives_its_reason(out: Path, tmp_path: Path) -> None:
    engine_json = out / "model_repository" / "llama" / "1" / "engine.json"
    engine_json.write_text(engine_json.read_text().replace('"flush_tokens"', '"flush_tokenz"'))
    deployment = open_deployment(out)
    with (
        pytest.raises(ToolError, match=r"llama: UNAVAILABLE.*flush_tokenz"),
        serving(deployment, ServeOptions(log=tmp_path / "log")),
    ):
        pass


def test_the_log_lies_in_the_cache_unless_named(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BWDEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(HostError, match="no tritonserver on PATH"),
        serving(open_deployment(out), ServeOptions(kind="system")),
    ):
        pass
    assert (tmp_path / "cache" / "logs").is_dir()


def test_a_deployment_knows_what_serving_needs(out: Path) -> None:
    deployment = open_deployment(out)
    assert (deployment.name, deployment.tensorrt_llm) == ("demo", "1.2.1")
    assert deployment.serve.prompts == (TEXT,)
    assert smoke_options(deployment).long_answer_tokens == 100


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda out: (out / "bwdeploy.json").unlink(), "is not an output of bwdeploy"),
        (lambda out: (out / "bwdeploy.json").write_text("{"), "cannot be read"),
        (lambda out: (out / "bwdeploy.json").write_text('{"schema": 2}'), "another version"),
        (lambda out: (out / "bwdeploy.json").write_text('{"schema": 1}'), "lacks or misstates"),
        (lambda out: (out / "model_repository" / "llama" / "config.pbtxt").unlink(), "not whole"),
    ],
)
def test_what_is_no_output_directory_is_refused_with_the_way_out(
    out: Path, damage: object, wanted: str
) -> None:
    assert callable(damage)
    damage(out)
    with pytest.raises(StoreError, match=wanted) as caught:
        open_deployment(out)
    assert "uild" in caught.value.hint
