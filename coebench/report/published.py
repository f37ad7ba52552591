"""Figures that others have published, beside the rows that they fit. The data, with its sources: published.toml."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from . import words
from .table import Row

Factors = Mapping[str, str | int | float]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where figures were read, and what they were measured on."""

    name: str
    url: str
    about: str


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published figure."""

    scenario: str
    metric: str
    coe: str = ""  # any
    value: str
    what: str
    source: str
    where: Factors = {}


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sources: Mapping[str, Source]
    figure: tuple[Figure, ...]


class Placed(NamedTuple):
    """The figures of a section. `rows`: place of a row → its figures, each with the numbers of its notes."""

    rows: Mapping[int, Sequence[tuple[Figure, int]]]
    notes: Sequence[tuple[int, str, Source]]  # number, what, source


@functools.cache
def data() -> _File:
    """All of the file. A test holds its references together."""
    return msgspec.toml.decode((Path(__file__).parent / "published.toml").read_bytes(), type=_File)


def place(scenario: str, rows: Sequence[Row], engines: Sequence[str], first: int = 1) -> Placed:
    """Which figures stand beside which of a scenario's rows: those of COEs that one of `engines` names.

    Notes are numbered from `first`.
    """
    at: dict[int, list[tuple[Figure, int]]] = {}
    notes: list[tuple[int, str, Source]] = []
    for f in data().figure:
        of = any(f.coe.lower() in e.lower() for e in engines)
        if f.scenario != scenario or not of or (i := _row(f, rows)) is None:
            continue
        source = data().sources[f.source]
        number = first + len(notes)
        notes.append((number, f"{f.coe + ', ' if f.coe else ''}{f.value}: {f.what}", source))
        at.setdefault(i, []).append((f, number))
    return Placed(at, notes)


def said(f: Figure) -> str:
    """A figure as a cell holds it: with the numbers of its setting, which are seldom the row's."""
    numbers = words.setting({k: v for k, v in f.where.items() if isinstance(v, (int, float))})
    return f"{f.coe} {f.value}".lstrip() + (f" ({numbers})" if numbers else "")


def _row(f: Figure, rows: Sequence[Row]) -> int | None:
    """The row that fits best: words alike, numbers nearest; the first one where nothing else decides."""
    texts = {k: v for k, v in f.where.items() if isinstance(v, str)}
    fits = [
        i for i, r in enumerate(rows) if r.metric == f.metric and r.cells and all(r.factors.get(k) == v for k, v in texts.items())
    ]
    return min(fits, key=lambda i: _distance(f.where, rows[i].factors), default=None)


def _distance(a: Factors, b: Factors) -> float:
    """How many times apart the numbers are that both have, as logarithms, added up."""
    pairs = [(x, b.get(k)) for k, x in a.items() if isinstance(x, (int, float))]
    return sum(abs(math.log(x / y)) if isinstance(y, (int, float)) and x > 0 and y > 0 else 9.0 for x, y in pairs)
