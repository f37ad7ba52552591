"""A load on this machine asked again by generators of another make, each between two loads of our own."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from .. import plugins
from ..contract import BadInput, EngineError, LoadPlan, LoadResult, Target, Unsupported
from . import alone

PATIENCE = 0.5  # s with an address of a name that has others
BEYOND = 60.0  # s that another generator may take to connect and to count
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_FLAGS = ("--closed", "--json", "--close", "--spin")


class Line(NamedTuple):
    """One load. `raw_ms` counts from the send, which is all that the others know; `why`: the tool can't do this. `done`: of
    ours, all that it told."""

    tool: str
    rps: float = 0.0
    raw_ms: Mapping[str, float] = {}
    errors: Mapping[str, int] = {}
    why: str = ""
    done: Mapping[str, Any] = {}


def run(program: Path, words: Sequence[str], tools: Sequence[str], say: Callable[[str], None]) -> tuple[Line, ...]:
    """Our own load, then for each tool the tool's and ours again. Raises BadInput, EngineError."""
    plan = plan_of(words)
    generators = {tool: plugins.load("generators", tool, "generator")() for tool in tools}
    for tool, generator in generators.items():
        if not shutil.which(tool):
            raise BadInput(f"{tool} is not installed here: apt-get install {generator.package}, or leave it out")
    lines = [_ours(program, words, say)]
    for tool, generator in generators.items():
        limit = plan.duration + BEYOND
        say(f"{tool}: {plan.duration:g} s")
        try:
            p = subprocess.run(generator.command(plan), capture_output=True, text=True, timeout=limit)
            if p.returncode:
                raise EngineError(tool, p.stderr or p.stdout)
            result: LoadResult = generator.result(plan, p.stdout)
            lines.append(Line(tool, result.achieved_rps, result.raw_ms, result.errors))
        except subprocess.TimeoutExpired:
            raise EngineError(
                tool, f"it did not end within {limit:g} s, {BEYOND:g} s more than it was asked to send for"
            ) from None
        except Unsupported as e:
            lines.append(Line(tool, why=e.reason))
            continue
        lines.append(_ours(program, words, say))
    return tuple(lines)


def _ours(program: Path, words: Sequence[str], say: Callable[[str], None]) -> Line:
    say("coeload")
    p = subprocess.run([str(program), "run", *[w for w in words if w != "--json"], "--json"], capture_output=True, text=True)
    if p.returncode == 2:
        raise BadInput(p.stderr.strip().removeprefix("coeload: "))
    if p.returncode:
        raise EngineError("coeload", p.stderr)
    done = json.loads(p.stdout)
    done["saturated"] = alone.limit(done, program)
    raw = {k: v for k, v in done["raw_latency_ms"].items() if v is not None}
    return Line("coeload", done["achieved_rps"], raw, done["errors"], done=done)


def plan_of(words: Sequence[str]) -> LoadPlan:
    """What the others need to know of a `run`'s words; coeload itself checks them all. Raises BadInput."""
    values: dict[str, str] = {}
    urls: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            urls.append(word)
        elif word not in _FLAGS:
            name, equals, value = word.partition("=")
            values[name] = value if equals else (rest.pop(0) if rest else "")
    if len(urls) != 1:
        raise BadInput("a cross-check is of one URL: the other generators know no more")
    if other := [n for n in values if n not in ("--rate", "--connections", "--threads", "--duration", "--warmup", "--timeout")]:
        raise BadInput(f"{other[0]} can't be cross-checked: the other generators don't know it")
    url = urlsplit(urls[0])
    try:
        address = _serving(url.hostname or "", url.port or 80)
        return LoadPlan(
            targets=(Target(address, url.port or 80),),
            path=(url.path or "/") + (f"?{url.query}" if url.query else ""),
            rate=float(values.get("--rate", 0)),
            connections=int(values.get("--connections", 32)),
            threads=int(values.get("--threads", 1)),
            duration=_seconds(values.get("--duration", "10s")),
            timeout=_seconds(values.get("--timeout", "10s")),
        )
    except (ValueError, OSError) as e:
        raise BadInput(f"{' '.join(words)}: {e}") from None


def _serving(host: str, port: int) -> str:
    """The first of a name's addresses that takes a connection, or its first if none does. Raises OSError for an unknown name."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found if len(found) > 1 else ():
        with contextlib.suppress(OSError), socket.create_connection((address, port), PATIENCE):
            return address
    return found[0]


def _seconds(text: str) -> float:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        seconds = float(number) * _SECONDS[text[len(number) :]]
        if not math.isfinite(seconds):
            raise ValueError
        return seconds
    except (ValueError, KeyError):
        raise BadInput(f"'{text}' is no duration: write it with its unit, such as 10s or 500ms") from None


def text(lines: Sequence[Line]) -> str:
    """A table, and each tool's figures as a share of the mean of our two beside it."""
    form = "{:9} {:>11} {:>9} {:>9} {:>9} {:>7}  {}"
    out = [form.format("", "requests/s", "p50 ms", "p99 ms", "max ms", "errors", "")]
    for n, line in enumerate(lines):
        if line.why:
            out.append(f"{line.tool:9} can't: {line.why}")
            continue
        beside = ""
        if line.tool != "coeload":
            ours = (lines[n - 1].rps or lines[0].rps) + lines[n + 1].rps
            beside = f"{2 * line.rps / ours:.3f} of ours" if ours else ""
        shown = [f"{line.raw_ms[k]:.3f}" if k in line.raw_ms else "-" for k in ("p50", "p99", "max")]
        out.append(form.format(line.tool, f"{line.rps:.1f}", *shown, sum(line.errors.values()), beside).rstrip())
    out.append("latency from the send, in each one's own resolution; errors are not in it")
    if why := next((line.done["saturated"] for line in lines if line.done.get("saturated")), ""):
        out.append(f"coeload was at its limit, so its figures are lower bounds: {why}")
    return "\n".join(out)


def encoded(lines: Sequence[Line]) -> str:
    """As JSON: all that our first load told, as without a cross-check, and the loads in their order in `cross_check`."""
    told = [
        {"tool": line.tool, "why": line.why}
        if line.why
        else {"tool": line.tool, "achieved_rps": line.rps, "raw_latency_ms": line.raw_ms, "errors": line.errors}
        for line in lines
    ]
    return msgspec.json.encode({**lines[0].done, "cross_check": told}).decode()
