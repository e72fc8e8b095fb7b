"""`python -m bwdeploy.worker.drafts.rank DIRECTORY`: one of several processes that train a draft.

Started by `processes` alone. The directory holds the request; the answer is written there. It ends at once
when its standard input does: then the process that started it is gone.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline.jobs import to_json
from bwdeploy.pipeline.training_jobs import TrainDraft
from bwdeploy.worker.failures import describe_failure
from bwdeploy.worker.process import (
    hide_scikit_learn,
    prepare_libraries,
    take_stdout,
    write_atomically,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.jobs import Progress

_ABANDONED = 1


def main(place: Path) -> int:
    """Train as the rank that the environment names; 0 when that went well."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    report = take_stdout()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    answer = _answer(place, rank, size, report)
    write_atomically(place / f"answer-{rank}.json", json.dumps(answer))
    return 0 if answer["ok"] else _ABANDONED


def _answer(place: Path, rank: int, size: int, report: Callable[[Progress], None]) -> dict[str, Any]:
    try:
        request = TrainDraft.model_validate_json((place / "request.json").read_text(encoding="utf-8"))
        prepare_libraries(online=False)
        hide_scikit_learn()
        # Only now: torch reads the environment when it is imported.
        from bwdeploy.worker.drafts import ranks, train  # noqa: PLC0415

        joined = ranks.join_ranks(rank, size, request.device, place / "meeting")
        result = train.train_draft(request, joined, report)
        joined.wait_for_all()
    except Exception as error:  # noqa: BLE001 - the boundary of the process: every failure becomes an answer
        traceback.print_exc(file=sys.stderr)
        return {"ok": False, "error": describe_failure(error)}
    return {"ok": True, "result": to_json(result) if result is not None else None}


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(_ABANDONED)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stderr.flush()
    # As in the worker: a normal shutdown of torch's threads is slow, and the answer is on disk.
    os._exit(status)
