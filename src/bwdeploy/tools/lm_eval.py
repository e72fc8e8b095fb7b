"""Whether lm-eval is where worker jobs of this machine run. Nothing of it is imported: that takes seconds."""

from __future__ import annotations

from importlib.util import find_spec

from bwdeploy.errors import HostError

LM_EVAL = "lm-eval"


def require_lm_eval() -> None:
    """Tell at once what a comparison on tasks would miss hours later.

    Raises:
        HostError: it is not installed.
    """
    if find_spec("lm_eval") is None:
        raise HostError(
            f"gate.tasks needs {LM_EVAL}, which is not installed",
            hint="Install it: pip install 'bwdeploy[accuracy]', or remove gate.tasks",
        )
