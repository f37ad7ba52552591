"""What several commands take: NAME=VALUE options of bays, and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import typer


def pairs(words: Iterable[str] | None) -> dict[str, str]:
    """NAME=VALUE words as a mapping. Raises BadInput for another form, or a name that is given twice."""
    from ..contract import BadInput  # here, not above: `--help` needs none of it

    found: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BadInput(f"'{word}' is no option: write NAME=VALUE")
        if name in found:
            raise BadInput(f"option '{name}' is given twice")
        found[name] = value
    return found


def finite(param: typer.CallbackParam, value: float | None) -> float | None:
    """The callback of each option that is a number: Python reads nan, inf and 1e999 as numbers too. Raises BadInput."""
    if value is not None and not math.isfinite(value):
        from ..contract import BadInput

        raise BadInput(f"{param.opts[-1]} is {value}: give a finite number")
    return value
