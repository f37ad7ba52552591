"""Whose a resource is: every template and cluster carries the process that asked for it, so that what nobody minds any more is
found without a run folder, and what another run uses is left alone."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from ...lab import paths
from ...lab.process import Process

PREFIX = "coebench-"  # of every name
OWNER = "coebench_owner"  # label: IDENTITY.BOOT.NAMESPACE.PID.STARTED, or "kept"
PARTS, OLD_PARTS = 5, 4  # of that label; releases before had MACHINE.BOOT.PID.STARTED
LETTERS = 16  # of an identity
RUN = "coebench_run"  # label: the name that coebench itself has for the bay
KEPT = "kept"
LONGEST = 60  # Magnum makes the name the common name of a certificate, which has room for 64


def mine() -> str:
    """This process, so that no other is ever taken for it."""
    p = Process.of(os.getpid())
    return f"{_identity()}.{_boot()}.{_pids()}.{p.pid}.{p.started}"


def left(labels: Mapping[str, str]) -> bool:
    """Whether the labels are those of a process of this state folder that is known to have ended: of an earlier boot, or of this
    boot and this namespace of pids and not there any more. Markers of older releases, which have no identity, are nobody's."""
    parts = str(labels.get(OWNER, "")).split(".")
    if len(parts) != PARTS or parts[0] != _identity(make=False):
        return False
    try:
        process = Process(int(parts[3]), int(parts[4]))
    except ValueError:
        return False
    if parts[1] != _boot():
        return True
    return parts[2] == _pids() and not process.alive


def foreign(labels: Mapping[str, str]) -> bool:
    """Whether they are those of a process of which nothing can be known here: another identity's, another container's, or of a
    release whose markers had four parts."""
    parts = str(labels.get(OWNER, "")).split(".")
    if len(parts) == OLD_PARTS:
        return True
    if len(parts) != PARTS:
        return False
    return parts[0] != _identity(make=False) or ((parts[1], parts[2]) != (_boot(), _pids()) and not left(labels))


def of_run(labels: Mapping[str, str], run: str) -> bool:
    """Whether they are those of a bay of this name, or of a run's bay: their names begin with the run's."""
    named = str(labels.get(RUN, ""))
    return named == run or named.startswith(f"{run}-")


def name(bay: str) -> str:
    """A bay's name as Magnum may have it: letters, digits, '-', '_', '.', beginning with a letter."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", bay)
    full = PREFIX + clean
    if len(full) > LONGEST:
        full = full[: LONGEST - 9] + "-" + hashlib.sha256(bay.encode()).hexdigest()[:8]
    return full


def _identity(make: bool = True) -> str:
    """Random, made once for a state folder on a machine, so that two with one machine id have two; "" where there is none yet."""
    file = paths.state().parent / f"identity-{_hardware()}"
    try:
        if make:
            file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(fd, "w") as out:
                    out.write(secrets.token_hex(LETTERS // 2))
        for _ in range(20):
            if re.fullmatch(rf"[0-9a-f]{{{LETTERS}}}", word := file.read_text()):
                return word
            time.sleep(0.05)  # another process is just writing it
    except (OSError, ValueError):
        pass
    return _unkept() if make else ""


@functools.cache
def _unkept() -> str:
    """An identity of this process alone, where none can be kept: what it makes is taken for nobody's afterwards."""
    return secrets.token_hex(LETTERS // 2)


def _hardware() -> str:
    """What a cloned machine has of its own: the addresses of its network cards, beside the id that it has not."""
    parts = []
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            parts.append(Path(file).read_text())
            break
    for card in sorted(Path("/sys/class/net").glob("*/device")):
        with contextlib.suppress(OSError):
            parts.append((card.parent / "address").read_text())
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]


def _pids() -> str:
    """This process' namespace of pids: of another one nothing can be said."""
    return f"{os.stat('/proc/self/ns/pid').st_ino:x}"
