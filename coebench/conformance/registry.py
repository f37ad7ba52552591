"""What a behaviour is, and the list of all of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ..contract import Capability

if TYPE_CHECKING:
    from .bench import Bench

Check = Callable[["Bench"], None]


class Failed(AssertionError):
    """A driver, or the engine behind it, does not do what the contract says. The text is a sentence for its author."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that every driver must do, with the reason why it is asked for.

    `needs`: capabilities without which it does not apply; the driver must then say why it lacks them.
    """

    name: str
    group: str
    why: str
    needs: tuple[Capability, ...]
    check: Check


GROUPS = ("capabilities", "services", "instances", "watching", "updating", "errors", "nodes")  # in the order they run
_ALL: list[Behaviour] = []


def behaviour(*needs: Capability) -> Callable[[Check], Check]:
    """Registers a function as a behaviour: its name names it, its docstring is the reason, its module the group."""

    def register(check: Check) -> Check:
        why = " ".join((inspect.getdoc(check) or "").split())
        if not why:
            raise TypeError(f"{check.__name__}: a behaviour's docstring gives its reason")
        group = check.__module__.rsplit(".", 1)[-1]
        _ALL.append(Behaviour(name=check.__name__, group=group, why=why, needs=needs, check=check))
        return check

    return register


def behaviours() -> tuple[Behaviour, ...]:
    """All behaviours, in the order in which they should run: what disturbs a bay's nodes comes last."""
    for group in GROUPS:
        importlib.import_module(f".{group}", __package__)
    return tuple(sorted(_ALL, key=lambda b: GROUPS.index(b.group) if b.group in GROUPS else len(GROUPS)))


def expect(fact: object, sentence: str) -> None:
    """Raises Failed with the sentence unless the fact holds."""
    if not fact:
        raise Failed(sentence)
