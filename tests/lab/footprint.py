"""What a machine looks like from outside: to be the same before and after anything that the lab does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from coebench.lab import cgroups, paths

SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")


class Footprint(NamedTuple):
    """Sets of everything that could be left behind."""

    namespaces: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    links: frozenset[str]
    sysctls: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def take(cls) -> Footprint:
        namespaces, processes = set(), set()
        for proc in Path("/proc").iterdir():
            if not proc.name.isdigit():
                continue
            try:
                for ns in (proc / "ns").iterdir():
                    namespaces.add(os.readlink(ns))
                # what lives in one of this lab's cgroups is the lab's; another lab may be at work beside it
                if f"/{paths.tag()}/" in (proc / "cgroup").read_text():
                    processes.add(proc.name)
            except OSError:
                continue
        return cls(
            namespaces=frozenset(namespaces),
            mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
            cgroups=frozenset(str(f) for top in cgroups.hierarchies() for f in top.glob(f"{paths.tag()}/**/")),
            links=frozenset(line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]),
            sysctls=frozenset(f"{s}={(Path('/proc/sys') / s).read_text().strip()}" for s in SYSCTLS),
            processes=frozenset(processes),
        )

    def more_than(self, before: Footprint) -> dict[str, list[str]]:
        """What is there now and was not before, and sysctls that changed. Namespaces of processes that have nothing to do
        with the lab come and go: only those that a lab process holds would count, and there are none left."""
        found = {}
        for name in ("mounts", "cgroups", "links", "sysctls", "processes"):
            if new := getattr(self, name) - getattr(before, name):
                found[name] = sorted(new)
        return found


def network_namespaces() -> frozenset[str]:
    """Those that some process is in or that a mount holds."""
    held = set()
    for proc in Path("/proc").iterdir():
        if proc.name.isdigit():
            try:
                held.add(os.readlink(proc / "ns/net"))
            except OSError:
                continue
    return frozenset(held)
