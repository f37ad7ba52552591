"""What is about to be created, written down before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Something that outlives a crash of the harness. `where` holds what its provisioner needs to find it again."""

    kind: str  # "bay", "service", "template", …
    id: str
    provisioner: str
    where: Mapping[str, str] = {}


class Journal(Protocol):
    """Written through to disk before `creating` returns."""

    def creating(self, resource: Resource) -> None: ...
    def gone(self, resource: Resource) -> None: ...
