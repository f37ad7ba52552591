"""The result model alone, as JSON."""

from __future__ import annotations

from typing import ClassVar, TextIO

from ..results.model import Result, encode


class JsonReporter:
    """What `--json` prints: one object of the schema that it names, indented, and nothing else."""

    name: ClassVar[str] = "json"

    def render(self, result: Result, out: TextIO) -> None:
        out.write(encode(result).decode())
