"""A load generator of another make, for cross-checks: how it is called, and how to read what it says."""

from __future__ import annotations

from typing import ClassVar, Protocol

from .prober import LoadPlan, LoadResult


class Generator(Protocol):
    """One program. It knows nothing of where it runs: whoever cross-checks runs its command and hands over the output."""

    name: ClassVar[str]  # the entry point's, and the program's
    package: ClassVar[str]  # the Debian package that has it

    def command(self, plan: LoadPlan) -> tuple[str, ...]:
        """The program with its arguments. Raises Unsupported if it can't send such a load (with the reason)."""

    def result(self, plan: LoadPlan, output: str) -> LoadResult:
        """What its standard output says, in our words; what it does not tell is left out. Raises EngineError if it is not
        what this program prints."""
