"""What this machine can and cannot do, found out by looking, not by assuming."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import psutil

from .. import machine
from ..contract import BadInput
from . import bay, cgroups, install, netns, paths, trees
from .engines import ENGINES, engine
from .magnum import plane as magnum


class Finding(msgspec.Struct, frozen=True):
    """`verdict`: "ok"; "note", it works but a figure may depend on it; "no", the lab can't be here."""

    verdict: str
    what: str
    told: str


def findings() -> tuple[Finding, ...]:
    """All of them, the fatal ones too."""
    found = [_machine(), *_kernel(), _cgroup(), *_size(), *_ready()]
    left = [*(["the lab's Magnum"] if magnum.left() else []), *bay.names()]
    if left:
        found.append(Finding("note", "leftovers", f"up or left: {', '.join(left)} (coebench lab status, coebench clean)"))
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
    if "overlay" in systems or machine.module("overlay"):
        found.append(Finding("ok", "overlayfs", "there"))
    else:
        found.append(Finding("no", "overlayfs", "this kernel has none: hosts can't have root file systems"))
    for space in ("net", "mnt", "pid", "uts", "ipc", "cgroup"):
        if not Path(f"/proc/self/ns/{space}").exists():
            found.append(Finding("no", "namespaces", f"this kernel has no {space} namespaces"))
    if "mqueue" not in systems:
        found.append(Finding("no", "mqueue", "this kernel has no POSIX message queues: hosts mount /dev/mqueue"))
    found += _network()
    if machine.ip_vs():
        found.append(Finding("ok", "ip_vs", "there: Swarm's virtual IPs could be served"))
    else:
        found.append(
            Finding("note", "ip_vs", "not in this kernel: Swarm's virtual IPs and mesh stay silent; endpoints routing is used")
        )
    return found


def _network() -> list[Finding]:
    """What hosts' networks are made of, each tried in a network of its own, which is gone at once."""
    if os.geteuid() != 0:
        return []
    found = []
    for kind, verdict, use in (
        ("veth", "no", "hosts have no cables"),
        ("bridge", "no", "bays have no switch"),
        ("vxlan", "note", "Swarm has no overlay networks"),
    ):
        try:
            there = netns.has_link(kind)
        except OSError as e:  # root of a container alone
            return [Finding("no", "namespaces", f"none can be made here ({e.strerror}): run it on the machine itself")]
        if not there:
            found.append(Finding(verdict, kind, f"not in this kernel: {use}"))
    tree = trees.host_tree()
    if not tree.ready:
        found.append(Finding("note", "iptables", "not tried: the program comes with coebench lab install"))
        return found
    rule = ["-t", "nat", "-A", "POSTROUTING", "-m", "conntrack", "--ctstate", "NEW", "-j", "MASQUERADE"]
    command = ["unshare", "--net", "chroot", str(tree.path), "/usr/sbin/iptables", *rule]
    p = subprocess.run(command, capture_output=True, text=True)
    if p.returncode:
        said = (p.stderr.strip().splitlines() or ["it failed"])[-1]
        found.append(Finding("no", "iptables", f"NAT with conntrack can't be had, engines end without it: {said}"))
    else:
        found.append(Finding("ok", "network", "veth, bridge, NAT with conntrack" if len(found) == 0 else "NAT with conntrack"))
    return found


def _cgroup() -> Finding:
    if why := cgroups.problem():
        return Finding("no", "cgroups", why)
    if cgroups.version() == 1:
        return Finding("ok", "cgroups", "version 1")
    return Finding(
        "note",
        "cgroups",
        "version 2: Mesos 1.11 knows none of it, so its tasks have no limits; the lab was never tried on a machine with it",
    )


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
    found = []
    for coe in ENGINES:
        if why := engine(coe).missing():
            found.append(Finding("note", coe, f"can't run here: {why}"))
        elif install.installed(coe):
            found.append(Finding("ok", coe, "installed"))
        else:
            found.append(Finding("note", coe, "not installed yet: coebench lab install (compare does it too)"))
    return found
