"""The options of sbatch that a site may add, each checked by name and kind of value.

What bwdeploy sets itself (name, files, environment, script) is not among them, nor what would make one
submission several jobs. Names and kinds as in src/common/slurm_opt.c of Slurm 21.08 to 26.05 (each branch was
read); an option that a cluster's own version lacks is refused by its sbatch.
"""

from __future__ import annotations

from typing import NamedTuple

from bwdeploy.recipe.words import nearest

_WITH_VALUE = frozenset(
    {
        "acctg-freq", "batch", "bb", "bbf", "begin", "cluster-constraint", "clusters", "comment",
        "constraint", "core-spec", "cores-per-socket", "cpu-freq", "cpus-per-gpu", "cpus-per-task",
        "deadline", "delay-boot", "dependency", "distribution", "exclude", "extra", "extra-node-info",
        "gpu-bind", "gpu-freq", "gpus", "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "hint",
        "kill-on-invalid-dep", "licenses", "mail-type", "mail-user", "mcs-label", "mem", "mem-bind",
        "mem-per-cpu", "mem-per-gpu", "mincpus", "network", "nodefile", "nodelist", "ntasks-per-core",
        "ntasks-per-gpu", "ntasks-per-socket", "power", "prefer", "priority", "profile", "qos", "reservation",
        "resources", "segment", "signal", "sockets-per-node", "switches", "thread-spec", "threads-per-core",
        "time-min", "tmp", "tres-bind", "tres-per-task", "wait-all-nodes", "wckey",
    }
)  # fmt: skip
_WITHOUT_VALUE = frozenset(
    {"consolidate-segments", "contiguous", "hold", "overcommit", "oversubscribe", "reboot", "spread-job",
     "spread-segments", "stepmgr", "use-min-nodes"}
)  # fmt: skip
_EITHER = frozenset({"exclusive", "nice", "no-kill", "oom-kill-step", "propagate", "resv-ports"})
_KEYS = {
    "account": "slurm.account",
    "partition": "slurm.partition",
    "time": "slurm.time_limit",
    "gpus-per-node": "slurm.gpus_per_node",
    "container-image": "slurm.container_image",
    "mpi": "slurm.mpi",
}
_OURS = frozenset(
    {
        "array", "chdir", "error", "export", "export-file", "get-user-env", "input", "job-name",
        "no-requeue", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "quiet",
        "requeue", "tasks-per-node", "test-only", "wait", "wrap",
    }
)  # fmt: skip


class OptionProblem(NamedTuple):
    """What is wrong with one option."""

    message: str
    hint: str


def option_problem(name: str, value: str | int | bool) -> OptionProblem | None:  # noqa: FBT001 - a YAML value
    """What is wrong with `--name=value`, or None."""
    if name in _KEYS:
        return OptionProblem(f"{name} has a key of its own", f"set {_KEYS[name]}")
    if name in _OURS:
        return OptionProblem(f"bwdeploy sets --{name} itself", "remove it")
    if name not in _WITH_VALUE | _WITHOUT_VALUE | _EITHER:
        return OptionProblem(f"sbatch has no option --{name} that fits here", _nearest_hint(name))
    if isinstance(value, bool) and name in _WITH_VALUE:
        return OptionProblem(f"--{name} needs a value", f"write {name}: VALUE")
    if not isinstance(value, bool) and name in _WITHOUT_VALUE:
        return OptionProblem(f"--{name} takes no value", f"write {name}: true")
    return None


def option_words(options: dict[str, str | int | bool]) -> tuple[str, ...]:
    """The options as words of a command line; one set to false is left out."""
    return tuple(
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in options.items()
        if value is not False
    )


def _nearest_hint(name: str) -> str:
    near = nearest(name, _WITH_VALUE | _WITHOUT_VALUE | _EITHER)
    return f"did you mean {near}" if near else "use long names without dashes, for example qos: high"
