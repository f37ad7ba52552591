"""Kernel modules that engines count on. A stock kernel has them on disk only, and a host, whose file system holds none, can't
load them. The lab loads what is missing before a bay is made. What was loaded stays, as after any program that needed it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .. import machine

# module → a file that is there once it is loaded or if it is built in
PROOFS = {
    "br_netfilter": "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "ip_vs": "/proc/net/ip_vs",
}


def there(name: str) -> bool:
    """Whether a module is loaded or built in."""
    return Path(PROOFS[name]).exists() or Path(f"/sys/module/{name}").exists() or machine.built_in(name)


def load(names: Iterable[str]) -> dict[str, str]:
    """Load those that are not there. Returns, for each that can't be loaded, why."""
    lacking = {}
    for name in names:
        if there(name):
            continue
        if not shutil.which("modprobe"):
            lacking[name] = "modprobe is not on this machine: apt-get install kmod"
            continue
        p = subprocess.run(["modprobe", name], capture_output=True, text=True)
        if not there(name):
            said = p.stderr.strip().splitlines()
            lacking[name] = said[-1].removeprefix("modprobe: ") if said else "modprobe loaded nothing"
    return lacking


def loadable(name: str) -> str:
    """Why a module that is not there could not be loaded either; empty if it could be."""
    if not machine.module(name):
        return f"the kernel's modules on disk have no {name}"
    return "" if shutil.which("modprobe") else "modprobe is not on this machine: apt-get install kmod"
