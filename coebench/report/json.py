"""The result model alone, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TextIO

from ..results.model import Result, encode


class JsonReporter:
    """What `--json` prints: one object of the schema that it names, indented, and nothing else."""

    name: ClassVar[str] = "json"

    def render(self, result: Result, out: TextIO) -> None:
        out.write(encode(result).decode())

    def render_all(self, results: Sequence[Result], out: TextIO) -> None:
        """Several runs are an array."""
        out.write("[\n" + ",\n".join(encode(r).decode().rstrip() for r in results) + "\n]\n")
