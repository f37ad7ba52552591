"""What this machine can and cannot do, found out by looking, not by assuming."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec
import psutil

from .. import machine
from ..contract import BadInput
from . import bay, cgroups, install, modules, netns, paths, trees
from .engines import ENGINES, engine
from .magnum import plane as magnum


class Finding(msgspec.Struct, frozen=True):
    """`verdict`: "ok"; "note", it works but a figure may depend on it; "no", the lab can't be here."""

    verdict: str
    what: str
    told: str


def findings() -> tuple[Finding, ...]:
    """All of them, the fatal ones too."""
    found = [_machine(), *_kernel(), _cgroup(), *_folders(), *_source(), *_size(), *_ready()]
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
    return [*found, *_network(), *_modules()]


def _modules() -> list[Finding]:
    """Each module that an engine counts on: there, to be loaded before a bay, or lacking and what then does not work."""
    wanted: dict[str, list[str]] = {}
    for coe in ENGINES:
        for name, loss in engine(coe).modules.items():
            wanted.setdefault(name, []).append(f"{engine(coe).title}: {loss}")
    found = []
    for name, losses in wanted.items():
        if modules.there(name):
            found.append(Finding("ok", name, "there"))
        elif why := modules.loadable(name):
            found.append(Finding("note", name, f"{why}. {'; '.join(losses)}"))
        else:
            found.append(
                Finding("ok", name, f"a module on disk; the lab loads it before a bay (modprobe {name}) and leaves it loaded")
            )
    return found


def _folders() -> list[Finding]:
    """Whether hosts can have root file systems where their state is kept: one is mounted, as a bay would, and is gone at once."""
    if os.geteuid() != 0:
        return []
    state, cache = paths.existing(paths.state()), paths.existing(paths.cache())
    found = []
    with contextlib.ExitStack() as left:
        try:
            tried = Path(left.enter_context(tempfile.TemporaryDirectory(prefix=".coebench-", dir=state)))
        except OSError as e:
            return [Finding("no", "state", f"{state} can't be written ({e.strerror}): set COEBENCH_STATE to a folder that can")]
        for sub in ("lower", "upper", "work", "root"):
            (tried / sub).mkdir()
        mount = f"lowerdir={tried}/lower,upperdir={tried}/upper,workdir={tried}/work"
        command = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", mount, str(tried / "root")]
        p = subprocess.run(command, capture_output=True, text=True)
        if p.returncode:
            kind = "it is an overlay itself, or a file system that can't be one's upper layer"
            said = (p.stderr.strip().splitlines() or ["mount failed"])[-1]
            found.append(
                Finding(
                    "no",
                    "state",
                    f"hosts can't keep their files in {state}: {kind} ({said}); set COEBENCH_STATE to an ext4 or xfs",
                )
            )
    try:
        tempfile.TemporaryFile(dir=cache).close()
    except OSError as e:
        found.append(Finding("no", "cache", f"{cache} can't be written ({e.strerror}): set COEBENCH_CACHE to a folder that can"))
    if state.stat().st_dev != cache.stat().st_dev:
        found.append(
            Finding("note", "state", "on another file system than the cache: what nodes begin with is copied, not linked")
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
        "version 2: Mesos 1.11 knows none of it, so its tasks have no limits",
    )


def _source() -> list[Finding]:
    """Where packages would come from; asked only while something is not built. Nothing is fetched: whether the mirror has the
    suite is seen by the installation."""
    if all(install.installed(coe) for coe in ENGINES if not engine(coe).missing()):
        return []
    try:
        first = next((source for source in trees.sources(fetch=False) if source.suite == trees.SUITE), None)
    except BadInput as e:
        return [Finding("no", "packages", str(e))]
    if first is None:
        return [Finding("note", "packages", "apt has no package lists yet; coebench lab install fetches them")]
    own = "the machine's own" if not first.keyring else "signatures checked with " + first.keyring
    return [Finding("ok", "packages", f"Debian {first.suite} ({own})")]


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
