from __future__ import annotations

import pytest

from bwdeploy.tools.triton_log import failure_reasons, port_was_taken

TABLE = """
I1122 20:03:24.307648 6153 server.cc:674]
+-------+---------+------------------------------------------------+
| Model | Version | Status                                         |
+-------+---------+------------------------------------------------+
| fine  | 1       | READY                                          |
| two   | 1       | UNAVAILABLE: Internal: ValueError: a | b       |
|       |         |                                                |
|       |         | At:                                            |
|       |         |   /r/two/1/model.py(7): initialize             |
| three | 1       | UNAVAILABLE: Not found: no backend             |
+-------+---------+------------------------------------------------+
+------------------+-------+
| Option           | Value |
+------------------+-------+
| server_id        | triton |
+------------------+-------+
"""


def test_failed_models_come_with_their_whole_status() -> None:
    assert failure_reasons(TABLE) == (
        "two: UNAVAILABLE: Internal: ValueError: a | b",
        "At:",
        "/r/two/1/model.py(7): initialize",
        "three: UNAVAILABLE: Not found: no backend",
    )


def test_without_a_table_the_error_lines_are_shown() -> None:
    log = 'I1 x\nE1122 20:18:35.991425 11718 main.cc:535] "failed to stop server"\nlast line\n'
    assert failure_reasons(log) == ('"failed to stop server"',)


def test_without_errors_the_last_lines_are_shown() -> None:
    assert failure_reasons("first\n\nsecond\n") == ("first", "second")
    assert failure_reasons("") == ()


@pytest.mark.parametrize(
    ("log", "taken"),
    [
        ("failed to start HTTP service: Unavailable - Socket '127.0.0.1:8000' already in use", True),
        ("Error: bind: Address already in use", True),
        (TABLE, False),
    ],
)
def test_a_taken_port_is_recognized(log: str, *, taken: bool) -> None:
    assert port_was_taken(log) is taken


def test_errors_of_every_start_without_a_gpu_do_not_hide_the_reason() -> None:
    noise = 'E1123 03:34:17.844780 1 server.cc:241] "CudaDriverHelper has not been initialized."\n'
    reason = "Poll failed for model directory 'junk': no config.pbtxt"
    assert failure_reasons(f"{noise}E1123 03:34:17.849979 1 m.cc:1460] {reason}\n") == (reason,)
    assert failure_reasons(noise) == ('"CudaDriverHelper has not been initialized."',)
