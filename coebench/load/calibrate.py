"""What this machine's generator can do, measured against a server that answers from memory, and remembered.

The server has one core and the generator another, where there are two. What is found is a limit of this machine with this
program: it is kept by both, in the cache, and says nothing of a generator elsewhere.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from .. import machine
from ..contract import EngineError
from ..scenarios.edge import Try, edge, following

HELD = 0.001  # of the offered rate that may be missing
CLOSE = 0.8  # of the limit: a rate above this may be the generator's as well as the service's
CONNECTIONS = 32
RESTLESS = 1.0  # load average above which what is found is the machine's other work, and not kept
BOOT = "/proc/sys/kernel/random/boot_id"
Say = Callable[[str], None]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one thread with CONNECTIONS connections. Rates in requests a second, times in milliseconds."""

    machine: str
    program: str
    at: float  # seconds since the epoch
    seconds: float  # of each load
    closed_rps: float  # the median of three
    open_rps: float  # the highest rate that was held: all sent, and 99.9 % answered in the measured time
    open_low: float  # every try up to it was held
    open_high: float | None  # every try from it on was not
    lag_p50_ms: float  # from planned to actual send, at 1000/s; the medians of three
    lag_p99_ms: float
    floor_ms: float  # the median raw latency at 1000/s: no answer is seen to come sooner than some like it
    cores: int  # that the two had: 2, or 1
    load: float  # the machine's load average when it began


def measure(program: Path, seconds: float, say: Say) -> Limits:
    """Some 25 loads of `seconds` each. Raises EngineError."""
    before = os.getloadavg()[0]
    cores = sorted(os.sched_getaffinity(0))
    server_core, own_core = (cores[0], cores[1]) if len(cores) > 1 else (cores[0], cores[0])
    with _server(program, server_core) as url:

        def load(*words: str) -> Mapping[str, Any]:
            length = ["--duration", f"{seconds:g}s", "--warmup", "200ms", "--connections", str(CONNECTIONS)]
            command = [str(program), "run", url, "--json", *length, *words]
            p = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {own_core}))
            if p.returncode:
                raise EngineError("the generator", p.stderr)
            done: Mapping[str, Any] = json.loads(p.stdout)
            return done

        say("closed loop: how many requests a second it sends at most")
        closed = statistics.median(load("--closed")["achieved_rps"] for _ in range(3))
        say(f"{closed:.0f}/s; at 1000/s: send lag and the floor of latency")
        slow = [load("--rate", "1000") for _ in range(3)]
        say("open loop: the highest rate that it holds")
        tries: list[Try] = []
        while (rate := following(tries, min(20_000.0, closed / 2), 3, 1.05, 2 * closed)) is not None:
            done = load("--rate", f"{rate:g}")
            held = not done["unsent"] and done["achieved_rps"] >= (1 - HELD) * done["offered_rps"]
            say(f"{rate:.0f}/s: {'held' if held else 'not held'} ({done['achieved_rps'] / done['offered_rps'] - 1:+.2%})")
            tries.append(Try(rate, held))
    found = edge(tries)
    return Limits(
        machine=this_machine(),
        program=program.name,
        at=time.time(),
        seconds=seconds,
        closed_rps=round(closed, 1),
        open_rps=found.rate,
        open_low=found.low,
        open_high=found.high,
        lag_p50_ms=statistics.median(d["send_lag_ms"]["p50"] for d in slow),
        lag_p99_ms=statistics.median(d["send_lag_ms"]["p99"] for d in slow),
        floor_ms=statistics.median(d["raw_latency_ms"]["p50"] for d in slow),
        cores=min(2, len(cores)),
        load=before,
    )


@contextmanager
def _server(program: Path, core: int) -> Iterator[str]:
    pin = lambda: os.sched_setaffinity(0, {core})  # noqa: E731
    with subprocess.Popen([program, "null", "--port", "0"], stdout=subprocess.PIPE, text=True, preexec_fn=pin) as server:
        try:
            assert server.stdout
            said = server.stdout.readline()
            if not said.strip().rpartition(" ")[2].isdigit():
                raise EngineError("the null server", said or "it ended at once")
            yield f"http://127.0.0.1:{said.strip().rpartition(' ')[2]}/"
        finally:
            server.kill()


def this_machine() -> str:
    """What a limit depends on besides the program."""
    facts = machine.facts()
    return f"{facts['cpu']}, {facts['cpus']} CPUs, kernel {facts['kernel']}"


def file(program: Path) -> Path:
    """Where the limits are kept: beside the program, whose name tells its sources."""
    from . import native

    return native.cache() / f"{program.name}.limits.json"


def remember(limits: Limits, program: Path) -> Path:
    """Keep them for later runs."""
    target = file(program)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(limits)) + b"\n")
    part.replace(target)
    return target


def recall(program: Path) -> Limits | None:
    """Those of this program on this machine, if it was calibrated."""
    try:
        limits = msgspec.json.decode(file(program).read_bytes(), type=Limits)
    except (OSError, msgspec.MsgspecError):
        return None
    return limits if limits.machine == this_machine() else None


def verdict(limits: Limits, achieved: float, open_loop: bool, threads: int = 1) -> str:
    """Why a rate may be the generators' own limit; empty if it is far from it. `threads` are all that this machine had: more
    than it has cores do no more than the cores can."""
    most = min(threads, os.cpu_count() or 1) * (limits.open_rps if open_loop else limits.closed_rps)
    if not most or achieved < CLOSE * most:
        return ""
    way = "holds" if open_loop else "reaches"
    return f"{achieved:.0f}/s is {achieved / most:.0%} of what the generator {way} on this machine ({most:.0f}/s, calibrated)"


def compared(program: Path, achieved: float, open_loop: bool, threads: int) -> str:
    """The verdict by what was kept of this program on this machine; empty where it was not calibrated."""
    limits = recall(program)
    return verdict(limits, achieved, open_loop, threads) if limits else ""


def is_here(boot: str) -> bool:
    """Whether a generator runs on this machine, in whatever container, by the boot that its agent tells of."""
    try:
        return bool(boot) and boot == Path(BOOT).read_text().strip()
    except OSError:
        return False
