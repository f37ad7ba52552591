"""The errors that cross the ports: few, and each tells its reader what can be done about it."""

from __future__ import annotations


class CoebenchError(Exception):
    """Base of all errors that coebench raises on purpose. Its text is one line fit for a user.

    `kind`: a word or two for its sort, by which failures can be counted; "" where whoever raises it has none.
    """

    kind: str = ""


class BadInput(CoebenchError):
    """What the user asked for cannot be done as asked: the text says what is wrong and what to do. Exit code 2."""


class Unsupported(CoebenchError):
    """A driver, engine, kernel or provisioner lacks a capability; the reason is part of the result."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what = what
        self.reason = reason


class EngineError(CoebenchError):
    """The engine refused or failed a request. `said` holds the engine's own words, cut to a line."""

    def __init__(self, what: str, said: str) -> None:
        said = " ".join(said.split())[:400]
        super().__init__(f"{what}: {said}" if said else what)
        self.what = what
        self.said = said


class MissingService(EngineError):
    """The engine knows no such service."""


class Conflict(EngineError):
    """A service of that name is there already, or is locked by an operation under way."""


class Unplaceable(EngineError):
    """The engine says that instances cannot be placed (no node has the CPU, memory or port they ask for)."""


class BayFailed(CoebenchError):
    """A bay could not be made, or one of its engines ended. `evidence` is the tail of the log that shows it."""

    def __init__(self, what: str, evidence: str = "") -> None:
        super().__init__(what)
        self.evidence = evidence
        if evidence:
            self.add_note(evidence)  # a traceback shows it, the one-line message does not


class PhaseTimeout(CoebenchError):
    """A phase did not reach its fact in time. The measurement is censored at `seconds`, never averaged in. `evidence`: what
    was seen to hang, line by line."""

    kind = "not in time"

    def __init__(self, phase: str, seconds: float, waiting_for: str = "", evidence: str = "") -> None:
        super().__init__(f"{phase}: not within {seconds:g} s" + (f" ({waiting_for})" if waiting_for else ""))
        self.phase = phase
        self.seconds = seconds
        self.evidence = evidence
