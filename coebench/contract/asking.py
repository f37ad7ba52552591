"""Single requests to an engine's API, for those who time the API itself."""

from __future__ import annotations

import enum
from typing import Protocol, runtime_checkable


class Verb(enum.StrEnum):
    """What one request does."""

    GET = "get"  # one service's object
    LIST = "list"  # the instances of one service
    LIST_ALL = "list all"  # all services
    DELETE = "delete"  # one service


@runtime_checkable
class AskingPort(Protocol):
    """What a driver has, besides `Driver`, if it can send requests one by one: the methods of `Driver` may need several.

    `Driver.deploy` of such a driver is one request, too.
    """

    def ask(self, verb: Verb, service: str = "") -> None:
        """Send exactly one request and read its answer whole. Raises MissingService, EngineError."""
