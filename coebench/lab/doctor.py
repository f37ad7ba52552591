"""What this machine can and cannot do, found out by looking, not by assuming."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import psutil

from .. import machine
from ..contract import BadInput
from . import bay, cgroups, install, paths
from .engines import ENGINES


class Finding(msgspec.Struct, frozen=True):
    """`verdict`: "ok"; "note", it works but a figure may depend on it; "no", the lab can't be here."""

    verdict: str
    what: str
    told: str


def findings() -> tuple[Finding, ...]:
    """All of them, the fatal ones too."""
    found = [_machine(), *_kernel(), _cgroup(), *_size(), *_ready()]
    left = bay.names()
    if left:
        found.append(
            Finding("note", "leftovers", f"bays are up or left: {', '.join(left)} (coebench lab status, coebench clean)")
        )
    else:
        found.append(Finding("ok", "leftovers", "none"))
    return tuple(found)


def _machine() -> Finding:
    try:
        install.check_machine()
    except BadInput as e:
        return Finding("no", "machine", str(e))
    facts = machine.facts()
    return Finding("ok", "machine", f"{facts['system']}, Linux {facts['kernel']}, root")


def _kernel() -> list[Finding]:
    with open("/proc/filesystems") as f:
        systems = {line.split()[-1] for line in f}
    found = []
    if "overlay" in systems or _module("overlay"):
        found.append(Finding("ok", "overlayfs", "there"))
    else:
        found.append(Finding("no", "overlayfs", "this kernel has none: hosts can't have root file systems"))
    for space in ("net", "mnt", "pid", "uts", "ipc", "cgroup"):
        if not Path(f"/proc/self/ns/{space}").exists():
            found.append(Finding("no", "namespaces", f"this kernel has no {space} namespaces"))
    if machine.ip_vs():
        found.append(Finding("ok", "ip_vs", "there: Swarm's virtual IPs could be served"))
    else:
        found.append(
            Finding("note", "ip_vs", "not in this kernel: Swarm's virtual IPs and mesh stay silent; endpoints routing is used")
        )
    return found


def _cgroup() -> Finding:
    version = cgroups.version()
    if version == 1:
        return Finding("ok", "cgroups", "version 1")
    return Finding("note", "cgroups", "version 2: Mesos 1.11 knows none of it, so its tasks have no limits")


def _size() -> list[Finding]:
    memory = psutil.virtual_memory()
    cpus = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    folder = paths.existing(paths.cache())
    free = shutil.disk_usage(folder).free
    enough = memory.available > (3 << 30)
    return [
        Finding("ok" if enough else "note", "memory", f"{memory.available >> 20} MiB free of {memory.total >> 20}"),
        Finding("ok" if cpus >= 2 else "note", "CPUs", f"{cpus}; shared by engines, services, generators and this tool"),
        Finding("ok" if load < cpus / 2 else "note", "load", f"{load:.2f}: figures want an idle machine"),
        Finding("ok" if free > install.DISK_NEEDED else "note", "disk", f"{free >> 30} GiB free at {folder}"),
    ]


def _ready() -> list[Finding]:
    return [
        Finding("ok", coe, "installed")
        if install.installed(coe)
        else Finding("note", coe, "not installed yet: coebench lab install (compare does it too)")
        for coe in ENGINES
    ]


def _module(name: str) -> bool:
    return Path(f"/sys/module/{name}").exists() or shutil.which("modprobe") is not None
