"""What a host and its images are, which systemd does not say by itself."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from typing import Any

from coebench.contract import EngineError

from . import units
from .bus import Bus

SIZE = 'systemd-notify --status="$(nproc) $(sed -n "s/^MemTotal: *//p" /proc/meminfo)"'
ASKED = 10.0  # seconds that a host may take to say its size


def image(bus: Bus, name: str) -> Mapping[str, Any]:
    """The properties that an instance takes over from the unit that describes its image. Raises EngineError if there is none."""
    what = f"looking for image {name}"
    path = bus.call(what, "LoadUnit", "s", units.image_unit(name))
    wanted = ("RootDirectory", "WorkingDirectory", "Environment", "ExecStart")
    (state, *values) = bus.properties(what, [(path, "Unit", "LoadState"), *((path, "Service", p) for p in wanted)])
    found = dict(zip(wanted, values, strict=True))
    if state != "loaded" or not found["RootDirectory"] or not found["ExecStart"]:
        raise EngineError(
            what, f"no unit {units.image_unit(name)} with RootDirectory= and ExecStart= ({state}): it would be {name}"
        )
    return {**found, "ExecStart": found["ExecStart"][0][1]}


def size(bus: Bus) -> tuple[float, int]:
    """Cores and bytes of memory of a host. systemd tells neither, so a unit of a moment writes them into its own status."""
    what, name = "asking for a host's size", f"coebench-size-{secrets.token_hex(4)}.service"
    shell = ("/bin/sh", ["/bin/sh", "-c", SIZE], ["no-env-expand"])
    properties = [
        ("Description", ("s", "asks for this host's size")),
        ("Type", ("s", "oneshot")),
        ("RemainAfterExit", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("NotifyAccess", ("s", "all")),
        ("ExecStartEx", ("a(sasas)", [shell])),
    ]
    bus.call(what, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", properties, [])
    try:
        path = bus.call(what, "GetUnit", "s", name)
        deadline = time.monotonic() + ASKED
        while True:
            state, said = bus.properties(what, [(path, "Unit", "ActiveState"), (path, "Service", "StatusText")])
            if said:
                cores, memory, _ = str(said).split()
                return float(cores), int(memory) << 10
            if state not in ("activating", "active") or time.monotonic() > deadline:
                raise EngineError(what, f"it is {state}, and has said nothing")
            time.sleep(0.01)
    except ValueError as e:
        raise EngineError(what, f"it said {said!r}") from e
    finally:
        with contextlib.suppress(EngineError):
            bus.call(what, "StopUnit", "ss", name, "replace")
