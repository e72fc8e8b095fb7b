"""`python -m bwdeploy.worker JOB.json`: answer one request in a process of its own.

Progress goes as JSON lines to the original stdout; everything that libraries print, and the traceback of a
failure, goes to stderr, which the executor keeps as the log. The answer is a result file that appears whole
or not at all. Only the entries that the modules of `_DECLARING` declare can run.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bwdeploy.pipeline import jobs, kernel_jobs, training_jobs
from bwdeploy.worker import process
from bwdeploy.worker.failures import describe_failure

if TYPE_CHECKING:
    from collections.abc import Callable

_DECLARING = frozenset({jobs.__name__, kernel_jobs.__name__, training_jobs.__name__})
_USAGE = 64
_FAILED = 1


def main(arguments: list[str]) -> int:
    """Run the job in the file that `arguments` names; 0 when the result file says ok."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m bwdeploy.worker JOB.json\n")
        return _USAGE
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    report = process.take_stdout()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    answer = _answer(job, report)
    process.write_atomically(Path(job["result"]), json.dumps(answer, indent=1))
    return 0 if answer["ok"] else _FAILED


def _answer(job: dict[str, Any], report: Callable[[jobs.Progress], None]) -> dict[str, Any]:
    try:
        result = _run(str(job["entry"]), job["request"], report)
    except Exception as error:  # noqa: BLE001 - the boundary of the process: every failure becomes a result
        traceback.print_exc(file=sys.stderr)
        return {"ok": False, "error": describe_failure(error)}
    return {"ok": True, "result": jobs.to_json(result)}


def _run(entry: str, request: dict[str, Any], report: Callable[[jobs.Progress], None]) -> jobs.JobData:
    request_type = declared_entries().get(entry)
    if request_type is None:
        raise PermissionError(f"{entry!r} is no entry of a declared job: {', '.join(declared_entries())}")
    try:
        parsed = request_type.model_validate_json(json.dumps(request))
    except ValidationError as error:
        raise ValueError(f"the request does not fit {request_type.__name__}: {error}") from error
    process.prepare_libraries(online=parsed.needs_network)
    process.hide_scikit_learn()
    module, _, function = entry.partition(":")
    result: jobs.JobData = getattr(import_module(module), function)(parsed, report)
    return result


def declared_entries() -> dict[str, type[jobs.JobRequest[Any]]]:
    """Every request type that the modules of `_DECLARING` declare, by its entry."""
    found: dict[str, type[jobs.JobRequest[Any]]] = {}
    pending: list[type[jobs.JobRequest[Any]]] = [jobs.JobRequest]
    while pending:
        request_type = pending.pop()
        pending.extend(request_type.__subclasses__())
        if "entry" in vars(request_type) and request_type.__module__ in _DECLARING:
            found[request_type.entry] = request_type
    return found


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Library threads and a loaded model make a normal shutdown slow, and the result is on disk.
    os._exit(status)
