"""Whose a resource is: every template and cluster carries the process that asked for it, so that what nobody minds any more is
found without a run folder, and what another run uses is left alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from ...lab.process import Process

PREFIX = "coebench-"  # of every name
OWNER = "coebench_owner"  # label: MACHINE.BOOT.PID.STARTED, or "kept"
RUN = "coebench_run"  # label: the name that coebench itself has for the bay
KEPT = "kept"
LONGEST = 60  # Magnum makes the name the common name of a certificate, which has room for 64


def mine() -> str:
    """This process, so that no other is ever taken for it."""
    p = Process.of(os.getpid())
    return f"{_machine()}.{_boot()}.{p.pid}.{p.started}"


def left(labels: Mapping[str, str]) -> bool:
    """Whether the labels are those of a process of this machine that has ended."""
    parts = str(labels.get(OWNER, "")).split(".")
    if len(parts) != 4 or parts[0] != _machine():
        return False
    try:
        return parts[1] != _boot() or not Process(int(parts[2]), int(parts[3])).alive
    except ValueError:
        return False


def foreign(labels: Mapping[str, str]) -> bool:
    """Whether they are those of a process elsewhere, of which nothing can be known here."""
    parts = str(labels.get(OWNER, "")).split(".")
    return len(parts) == 4 and parts[0] != _machine()


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


def _machine() -> str:
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:8]
        except OSError:
            continue
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
