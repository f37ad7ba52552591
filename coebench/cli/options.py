"""What several commands take: NAME=VALUE options of bays."""

from __future__ import annotations

from collections.abc import Iterable

from ..contract import BadInput


def pairs(words: Iterable[str] | None) -> dict[str, str]:
    """NAME=VALUE words as a mapping. Raises BadInput for another form, or a name that is given twice."""
    found: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BadInput(f"'{word}' is no option: write NAME=VALUE")
        if name in found:
            raise BadInput(f"option '{name}' is given twice")
        found[name] = value
    return found
