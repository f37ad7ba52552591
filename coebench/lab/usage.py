"""What a host's processes have used: totals from its cgroups, programs from /proc.

A host's own processes, its engine's, are in its cgroup `init`; what the engine starts in containers is in cgroups beside that
one. An engine that makes cgroups for itself, too, says which one has its instances (`Engine.instances`). So the two totals are
exact, and processes that have ended are in them.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from pathlib import Path

from ..contract import ENGINE, INSTANCES, BayFailed, Role, Usage
from . import cgroups
from .host import Host

_TICK = os.sysconf("SC_CLK_TCK")


def of(host: Host, instances: str = "") -> tuple[Usage, ...]:
    """The two totals of a host, then its engine's programs and those in containers, by name. `instances`: the host's cgroup that
    has what the engine started, if that is not all but `init`. Raises BayFailed."""
    if not host.alive:
        raise BayFailed(f"host {host.spec.name} of {host.spec.bay} is down")
    instances = instances if host.spec.role is Role.NODE else ""
    part = f"{host.cgroup}/{instances or 'init'}"
    mine, every = cgroups.pids(part), cgroups.pids(host.cgroup)
    cpu, memory = cgroups.cpu_seconds(part), cgroups.anonymous_bytes(part)
    rest_cpu = max(0.0, cgroups.cpu_seconds(host.cgroup) - cpu)
    rest_memory = max(0, cgroups.anonymous_bytes(host.cgroup) - memory)
    if instances:
        mine, cpu, memory, rest_cpu, rest_memory = every - mine, rest_cpu, rest_memory, cpu, memory

    def usage(what: str, processes: int, cpu: float, memory: int) -> Usage:
        return Usage(host=host.spec.name, role=host.spec.role, what=what, processes=processes, cpu=cpu, memory=memory)

    started = _started(host)
    programs: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for pid in every:
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has just ended
            proc = Path(f"/proc/{pid}")
            name = (started.get(_inner(proc)) if pid in mine else None) or (proc / "comm").read_text().strip()
            seconds, size = _cpu(proc), _pss(proc)
            entry = programs[name]
            entry[0] += 1
            entry[1] += seconds
            entry[2] += size
    return (
        usage(ENGINE, len(mine), cpu, memory),
        usage(INSTANCES, len(every - mine), rest_cpu, rest_memory),
        *(usage(name, int(n), seconds, int(size)) for name, (n, seconds, size) in sorted(programs.items())),
    )


def _started(host: Host) -> dict[int, str]:
    """Pid in the host's own namespace → the name that the engine's process was started by (`guest/lib.sh`)."""
    names = {}
    for file in host.run.glob("*.pid"):
        with contextlib.suppress(OSError, ValueError):
            names[int(file.read_text())] = file.stem
    return names


def _inner(proc: Path) -> int:
    """A process's pid in its innermost namespace."""
    for line in (proc / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return 0


def _cpu(proc: Path) -> float:
    """User and system time, in seconds, with that of children that were waited for."""
    words = (proc / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / _TICK


def _pss(proc: Path) -> int:
    for line in (proc / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0
