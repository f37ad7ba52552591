"""What the processes of a bay cost, as the machine's own accounting has it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from .bay import Bay, Role

ENGINE = "engine"  # `what` of all processes of a host that are no instance's, together
INSTANCES = "instances"  # and of all that are


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of some processes of one host, so far.

    `what`: `ENGINE`, `INSTANCES`, or an engine program's name ("kubelet", "containerd-shim"), which is a part of `ENGINE`.
    `cpu`: seconds of processor time since the host was made. For a program it leaves out its processes that have ended.
    `memory`: bytes that nobody else could use: anonymous memory for the two totals, the proportional share of all that is
    mapped (PSS) for a program; page cache is in neither.
    """

    host: str
    role: Role
    what: str
    processes: int
    cpu: float
    memory: int


@runtime_checkable
class UsagePort(Protocol):
    """What a provisioner has, besides `Provisioner`, if it can look at the hosts of its bays; many can't."""

    def usage(self, bay: Bay) -> tuple[Usage, ...]:
        """What each host's processes have used so far. Raises BayFailed if a host is gone meanwhile."""
