"""What the tests of this folder share."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from coebench.lab import bay as bays
from coebench.lab.magnum import plane, spool
from coebench.provision.magnum import MagnumProvisioner

WEIGHTLESS = {"weightless": "yes"}


class NoJournal:
    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


class Seen:
    """Remembers what was observed, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, *, at: float | None = None, **data: Any) -> None:
        self.names.append(name)


def coebench(*args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "coebench", *args], capture_output=True, text=True, timeout=timeout)


def nothing_is_left(provisioner: MagnumProvisioner) -> None:
    assert provisioner.clusters.all() == [] and provisioner.clusters.templates() == []
    assert [n for n in bays.names() if n.startswith(spool.PREFIX)] == []
    assert list((plane.folder() / "spool").iterdir()) == []
