"""What this machine is, for the manifest."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil


def facts() -> dict[str, Any]:
    """Facts that a figure depends on. Memory in bytes."""
    load = os.getloadavg()
    return {
        "system": _system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": psutil.virtual_memory().total,
        "load_before": list(load),
        "cgroup": 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "ip_vs": ip_vs(),
        "python": sys.version.split()[0],
    }


def ip_vs() -> bool:
    """Whether the kernel has ip_vs, without which Swarm's virtual IPs and routing mesh are silent."""
    return Path("/proc/net/ip_vs").exists() or module("ip_vs")


def module(name: str) -> bool:
    """Whether the kernel that runs has a module built in, loaded, or on disk; a kernel without lists says nothing of itself."""
    return Path(f"/sys/module/{name}").exists() or built_in(name) or _listed(name, "modules.dep")


def built_in(name: str) -> bool:
    """Whether the kernel's list of what is built in names a module."""
    return _listed(name, "modules.builtin")


def _listed(name: str, listing: str) -> bool:
    try:
        return f"/{name}.ko" in (Path("/lib/modules") / platform.release() / listing).read_text()
    except OSError:
        return False


def _system() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
        return next(line.split("=", 1)[1].strip('"') for line in lines if line.startswith("PRETTY_NAME="))
    except (OSError, StopIteration):
        return platform.system()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
