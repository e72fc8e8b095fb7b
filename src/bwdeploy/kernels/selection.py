"""Which of the ops and architectures that there are somebody asks for, and what to say to a wrong word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.errors import argument_error
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bwdeploy.kernels.ops import OpDeclaration


def chosen_ops(names: Sequence[str], ops: Mapping[str, OpDeclaration]) -> tuple[OpDeclaration, ...]:
    """The ops called `names`, each once; all when nothing is named.

    Raises:
        RecipeError: there is no such op.
    """
    for name in names:
        if name not in ops:
            near = nearest(name, ops)
            hint = f"did you mean {near}" if near else f"the ops are {', '.join(ops) or 'none'}"
            raise argument_error(f"there is no op {name!r}", hint)
    return tuple(ops[name] for name in dict.fromkeys(names or ops))


def chosen_sms(sms: Sequence[str], ops: Sequence[OpDeclaration]) -> tuple[str, ...]:
    """The architectures `sms`, each once; all that the ops declare when nothing is named.

    Raises:
        RecipeError: one of the ops is not made for one of them.
    """
    for op in ops:
        for sm in sms:
            if sm not in op.sms:
                raise argument_error(
                    f"{op.name} is not made for the architecture {sm!r}",
                    f"it is made for {', '.join(op.sms)}",
                )
    return tuple(dict.fromkeys(sms or (sm for op in ops for sm in op.sms)))
