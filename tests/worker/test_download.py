from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.worker.test_worker_process import run_job, write_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "chat_template.jinja": b"{{ messages }}",
    "modeling_own.py": b"print('code')",
    "pytorch_model.bin": b"pickle",
    "README.md": b"# read me",
}


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as its client needs for one snapshot."""

    refusals: ClassVar[dict[str, tuple[int, str]]] = {
        "org/absent": (404, "RepoNotFound"),
        "org/other-revision": (404, "RevisionNotFound"),
        "org/gated": (403, "GatedRepo"),
        "org/broken": (418, "Teapot"),
    }

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        repository = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        if repository in self.refusals:
            status, code = self.refusals[repository]
            self.answer(status, b"{}", {"X-Error-Code": code})
        elif parts[0] == "api":
            names = ["README.md"] if repository == "org/empty" else list(FILES)
            body: Any = {
                "id": repository,
                "sha": REVISION,
                "siblings": [{"rfilename": name} for name in names],
            }
            if "tree" in parts:
                body = [
                    {"type": "file", "path": name, "size": len(FILES[name]), "oid": name} for name in names
                ]
            self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
        else:
            headers = {"ETag": f'"{parts[-1]}"', "X-Repo-Commit": REVISION}
            self.answer(200, FILES[parts[-1]], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def download(
    directory: Path, repo: str, endpoint: str, *, trust: bool = False, offline: str = "0"
) -> dict[str, Any]:
    (directory / "out").mkdir()
    request = {"repo": repo, "revision": REVISION, "trust_remote_code": trust, "out": str(directory / "out")}
    job = write_job(directory, "bwdeploy.worker.download:run", request)
    answer, _ = run_job(
        job, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE=offline, HF_HOME=str(directory / "home"), HF_TOKEN=""
    )
    return answer


@pytest.mark.parametrize("trust", [False, True])
def test_only_safe_files_arrive_and_code_only_when_trusted(
    *, trust: bool, endpoint: str, tmp_path: Path
) -> None:
    answer = download(tmp_path, "org/model", endpoint, trust=trust)
    assert answer["ok"], answer
    expected = {"config.json", "model.safetensors", "chat_template.jinja"} | (
        {"modeling_own.py"} if trust else set()
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"weights"
    assert answer["result"]["files"] == len(expected)


@pytest.mark.parametrize(
    ("repo", "kind", "words"),
    [
        ("org/absent", "recipe", "knows no model 'org/absent'"),
        ("org/other-revision", "recipe", f"no revision {REVISION}"),
        ("org/gated", "host", "is gated"),
        ("org/empty", "recipe", "holds no *.safetensors file"),
        ("not a name!", "recipe", "knows no model"),
        ("org/broken", "tool", "The hub refused org/broken"),
    ],
)
def test_refusal_of_the_hub_is_explained(
    repo: str, kind: str, words: str, endpoint: str, tmp_path: Path
) -> None:
    answer = download(tmp_path, repo, endpoint)
    assert answer["error"]["kind"] == kind, answer
    assert words in answer["error"]["message"]


@pytest.mark.parametrize("offline", ["0", "1"])
def test_unreachable_hub_names_the_way_without_network(offline: str, tmp_path: Path) -> None:
    answer = download(tmp_path, "org/model", "http://127.0.0.1:9", offline=offline)
    assert answer["error"]["kind"] == "host", answer
    assert "file://DIR" in answer["error"]["hint"]
