"""The lab's cgroups: one for each host, in every hierarchy of version 1 or in the one of version 2.

All lie below one (`paths.tag`), which is also how leftovers are found: any process in there is ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from ..contract import BadInput
from . import paths

_MOUNT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000


def version() -> int:
    """1 or 2."""
    return 2 if (_MOUNT / "cgroup.controllers").exists() else 1


def hierarchies() -> list[Path]:
    """Where cgroups are made: the mount points of all v1 hierarchies with their controllers, or the v2 mount."""
    if version() == 2:
        return [_MOUNT]
    with open("/proc/mounts") as f:
        mounts = [line.split() for line in f]
    return [Path(m[1]) for m in mounts if m[2] == "cgroup"]


def create(name: str, cpu: float, memory: int) -> list[Path]:
    """Make the cgroup NAME ("BAY/HOST") and limit it; 0 is no limit. Returns the `cgroup.procs` files to join by.

    The order matters on version 1: a limit set after children exist can be refused, so it is set here, at once.
    """
    joins = []
    for top in hierarchies():
        folder = top
        for part in (paths.tag(), *name.split("/")):
            if version() == 2:
                controllers = (folder / "cgroup.controllers").read_text().split()
                for c in controllers:
                    with contextlib.suppress(OSError):
                        (folder / "cgroup.subtree_control").write_text(f"+{c}")
            new = folder / part
            new.mkdir(exist_ok=True)
            if (new / "cpuset.cpus").exists() and version() == 1:
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if not (new / file).read_text().strip():
                        (new / file).write_text((folder / file).read_text())
                (new / "cgroup.clone_children").write_text("1")
            folder = new
        _limit(folder, cpu, memory)
        joins.append(folder / "cgroup.procs")
    return joins


def _limit(folder: Path, cpu: float, memory: int) -> None:
    try:
        if version() == 2:
            if cpu and (folder / "cpu.max").exists():
                (folder / "cpu.max").write_text(f"{int(cpu * PERIOD_US)} {PERIOD_US}")
            if memory and (folder / "memory.max").exists():
                (folder / "memory.max").write_text(str(memory))
        else:
            if cpu and (folder / "cpu.cfs_quota_us").exists():
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(int(cpu * PERIOD_US)))
            if memory and (folder / "memory.limit_in_bytes").exists():
                (folder / "memory.limit_in_bytes").write_text(str(memory))
    except OSError as e:
        raise BadInput(f"cgroup {folder}: the limits (cpu {cpu:g}, memory {memory}) were refused: {e.strerror}") from e


def folders(name: str = "") -> list[Path]:
    """The cgroup NAME, or the lab's whole, in each hierarchy where it exists."""
    return [f for top in hierarchies() if (f := top / paths.tag() / name if name else top / paths.tag()).is_dir()]


def pids(name: str = "") -> set[int]:
    """All processes in a cgroup and below it."""
    found: set[int] = set()
    for folder in folders(name):
        for sub, _, _ in os.walk(folder):  # which, unlike rglob, is not upset by a cgroup that goes meanwhile
            with contextlib.suppress(OSError):
                found.update(int(p) for p in (Path(sub) / "cgroup.procs").read_text().split())
    return found


def cpu_seconds(name: str) -> float:
    """CPU time used by a cgroup and all below it since it was made."""
    for folder in folders(name):
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        if (folder / "cpu.stat").exists() and version() == 2:
            for line in (folder / "cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec"):
                    return int(line.split()[1]) / 1e6
    return 0.0


def memory_bytes(name: str) -> int:
    """Memory charged to a cgroup and all below it, page cache included."""
    for folder in folders(name):
        for file in ("memory.usage_in_bytes", "memory.current"):
            if (folder / file).exists():
                return int((folder / file).read_text())
    return 0


def anonymous_bytes(name: str) -> int:
    """Anonymous memory of a cgroup and all below it: what its processes hold, and no page cache."""
    word = "total_rss" if version() == 1 else "anon"
    for folder in folders(name):
        if (folder / "memory.stat").exists():
            for line in (folder / "memory.stat").read_text().splitlines():
                if line.startswith(f"{word} "):
                    return int(line.split()[1])
    return 0


def remove(name: str, timeout: float = 5.0) -> None:
    """Remove a cgroup and all below it. Its processes must be dead or dying: a dying task holds it for some ms."""
    deadline = time.monotonic() + timeout
    for folder in folders(name):
        while True:
            try:
                for sub, _, _ in os.walk(folder, topdown=False):
                    os.rmdir(sub)
                break
            except FileNotFoundError:
                if not folder.exists():
                    break
            except OSError as e:
                if e.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.002)
    if name and "/" not in name:
        with contextlib.suppress(OSError):
            for folder in folders():
                os.rmdir(folder)  # the last bay takes the root with it
