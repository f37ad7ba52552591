"""Faults that the lab can make: of hosts, of single engine processes, of instances' processes; and their undoing."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from ..contract import BadInput, BayFailed, EngineError, Instance, NodeFault, Role, Unsupported, now
from . import cgroups
from .bay import LabBay
from .host import Host
from .process import Process, kill_all

LISTEN = "0A"  # of a socket, in /proc/net/tcp


def fail(bay: LabBay, name: str, fault: NodeFault) -> float:
    """Make a host fail; returns once it has, with when that was begun. Raises Unsupported, BadInput, BayFailed."""
    host = bay.host(name)
    at = now()
    if fault is NodeFault.CRASH:
        bay.crash(name)
    elif fault is NodeFault.CUT:
        bay.cable(name, up=False)
    elif fault is NodeFault.AGENT:
        if host.spec.role is not Role.NODE:
            raise Unsupported("stopping an agent alone", f"{name} is no node")
        host.stop_engine(bay.engine.agent)
    elif fault is NodeFault.CONTROL:
        if host.spec.role is not Role.CONTROL:
            raise Unsupported("stopping the control plane", f"{name} is no control host")
        for process in reversed(bay.engine.control):
            host.stop_engine(process)
    else:
        raise Unsupported(f"fault '{fault}'", "the lab doesn't know it")
    return at


def heal(bay: LabBay, name: str, step: Callable[[str], None]) -> None:
    """Undo `fail`, whatever it was."""
    host = bay.host(name)
    if not host.alive:
        bay.restart(name, step)
        return
    bay.cable(name, up=True)
    stopped = host.stopped_engines()
    order = [n for n in bay.engine.control if n in stopped]
    with bay.network():
        bay.engine.revive(bay.hosts, host, [*order, *(n for n in stopped if n not in order)])


def end_instance(bay: LabBay, instance: Instance) -> float:
    """SIGKILL to all processes that listen at an instance's address; returns when. Raises EngineError if there are none."""
    what = f"ending {instance.id}"
    if not instance.node or not instance.address or not instance.port:
        raise EngineError(what, "its engine doesn't say where it is")
    try:
        host = bay.host(instance.node)
    except BadInput as e:
        raise EngineError(what, str(e)) from e
    found = listeners(host, instance.address, instance.port)
    if not found:
        raise EngineError(what, f"nothing on {instance.node} listens at {instance.address}:{instance.port}")
    at = now()
    if stuck := kill_all(found):
        raise BayFailed(f"{what}: processes {[p.pid for p in stuck]} do not end")
    return at


def listeners(host: Host, address: str, port: int) -> list[Process]:
    """The processes of a host, in containers or not, that listen on a TCP port in a network that has this address."""
    networks: dict[int, set[str]] = {}  # of a network namespace: the inodes of sockets that listen
    found = []
    for pid in sorted(cgroups.pids(host.cgroup)):
        with contextlib.suppress(OSError, ProcessLookupError):
            proc = Path(f"/proc/{pid}")
            space = os.stat(proc / "ns/net").st_ino
            if space not in networks:
                networks[space] = _listening(proc, port) if _has(proc, address) else set()
            if networks[space] and any(_socket(fd) in networks[space] for fd in (proc / "fd").iterdir()):
                found.append(Process.of(pid))
    return found


def _has(proc: Path, address: str) -> bool:
    """Whether an address is one of this network's own."""
    return re.search(rf"-- {re.escape(address)}\n\s*/32 host LOCAL", (proc / "net/fib_trie").read_text()) is not None


def _listening(proc: Path, port: int) -> set[str]:
    inodes = set()
    for file in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in (proc / "net" / file).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTEN and int(words[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(words[9])
    return inodes


def _socket(fd: Path) -> str:
    """The inode of the socket behind a descriptor; empty if it is none."""
    with contextlib.suppress(OSError):
        link = os.readlink(fd)
        if link.startswith("socket:["):
            return link[8:-1]
    return ""
