"""wrk, h2load and hey, for cross-checks: how each is called, and how to read what it prints.

None of them has an open loop. wrk sends when an answer is in; h2load and hey can be held to a rate, and then count from the
send, so what they call latency is compared with our raw latency, never with the one from the planned send.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from ..contract import EngineError, LoadPlan, LoadResult, Unsupported

_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}
_TIME = r"([\d.]+)(us|ms|s|m|h)"


class Wrk:
    """https://github.com/wg/wrk: the closed loop that the others are measured by."""

    name: ClassVar[str] = "wrk"
    package: ClassVar[str] = "wrk"

    def command(self, plan: LoadPlan) -> tuple[str, ...]:
        if plan.rate:
            raise Unsupported("wrk", "it can't be held to a rate: cross-check a closed loop")
        words = ("wrk", f"-t{plan.threads}", f"-c{plan.connections}", f"-d{_whole('wrk', plan)}s")
        return (*words, f"--timeout={max(1, round(plan.timeout))}s", "--latency", _url("wrk", plan))

    def result(self, plan: LoadPlan, output: str) -> LoadResult:
        total = _find("wrk", r"(\d+) requests in " + _TIME, output)
        seconds = float(total[2]) * _MS[total[3]] / 1e3
        latency = {f"p{p}": float(n) * _MS[unit] for p, n, unit in re.findall(r"^\s+(50|90|99)%\s+" + _TIME, output, re.M)}
        worst = _find("wrk", r"Latency\s+" + r"\s+".join([_TIME] * 3), output)
        bad = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        errors = dict(zip(("connect", "read", "write", "timeout"), map(int, bad.groups()), strict=True)) if bad else {}
        if status := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
            errors["bad_status"] = int(status[1])
        latency["max"] = float(worst[5]) * _MS[worst[6]]
        return _told("wrk", seconds, int(total[1]) - errors.get("bad_status", 0), errors, latency)


class H2load:
    """https://nghttp2.org: written for HTTP/2, speaks HTTP/1.1 too. Tells no percentiles, but mean and greatest latency."""

    name: ClassVar[str] = "h2load"
    package: ClassVar[str] = "nghttp2-client"

    def command(self, plan: LoadPlan) -> tuple[str, ...]:
        words = ["h2load", "--h1", f"-c{plan.connections}", f"-t{plan.threads}", f"-D{_whole('h2load', plan)}"]
        if plan.rate:
            words.append(f"--rps={plan.rate / plan.connections:g}")
        return (*words, _url("h2load", plan))

    def result(self, plan: LoadPlan, output: str) -> LoadResult:
        seconds = _find("h2load", r"finished in " + _TIME, output)
        done = _find("h2load", r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
        time = _find("h2load", r"time for request:\s+" + r"\s+".join([_TIME] * 3), output)
        errors = {"failed": int(done[3]) - int(done[5]), "timeout": int(done[5])}
        latency = {"mean": float(time[5]) * _MS[time[6]], "max": float(time[3]) * _MS[time[4]]}
        wall = float(seconds[1]) * _MS[seconds[2]] / 1e3
        return _told("h2load", wall, int(done[2]), {k: n for k, n in errors.items() if n}, latency)


class Hey:
    """https://github.com/rakyll/hey: prints latencies to a tenth of a millisecond."""

    name: ClassVar[str] = "hey"
    package: ClassVar[str] = "hey"

    def command(self, plan: LoadPlan) -> tuple[str, ...]:
        words = ["hey", "-c", str(plan.connections), "-z", f"{plan.duration:g}s", "-t", str(max(1, round(plan.timeout)))]
        words += ["-cpus", str(plan.threads)]
        if plan.rate:
            words += ["-q", f"{plan.rate / plan.connections:g}"]
        return (*words, _url("hey", plan))

    def result(self, plan: LoadPlan, output: str) -> LoadResult:
        seconds = float(_find("hey", r"Total:\s+([\d.]+) secs", output)[1])
        latency = {f"p{p}": float(n) * 1e3 for p, n in re.findall(r"^\s+(50|90|99)%+ in ([\d.]+) secs", output, re.M)}
        statuses = {int(code): int(n) for code, n in re.findall(r"^\s+\[(\d{3})\]\s+(\d+) responses", output, re.M)}
        failed = sum(int(n) for n in re.findall(r"^\s+\[(\d+)\]\s+(?!\d+ responses)\S", output, re.M))
        good = sum(n for code, n in statuses.items() if 200 <= code < 300)
        errors = {"bad_status": sum(statuses.values()) - good, "failed": failed}
        if slowest := re.search(r"Slowest:\s+([\d.]+) secs", output):
            latency["max"] = float(slowest[1]) * 1e3
        return _told("hey", seconds, good, {k: n for k, n in errors.items() if n}, latency)


def _url(tool: str, plan: LoadPlan) -> str:
    if len(plan.targets) != 1:
        raise Unsupported(tool, f"it sends to one address, not to {len(plan.targets)}")
    asked, good = (plan.method, plan.headers, plan.body), (plan.expect_status, plan.expect_version, plan.expect_body)
    if asked != ("GET", (), "") or good != ("2xx", "", ""):
        raise Unsupported(tool, "it is asked plain GETs, and takes 2xx for good")
    target = plan.targets[0]
    host = f"[{target.address}]" if ":" in target.address else target.address
    return f"http://{host}:{target.port}{plan.path}"


def _whole(tool: str, plan: LoadPlan) -> int:
    if plan.duration < 1:
        raise Unsupported(tool, "it knows whole seconds only")
    return round(plan.duration)


def _find(tool: str, pattern: str, output: str) -> re.Match[str]:
    found = re.search(pattern, output)
    if not found:
        raise EngineError(f"{tool}'s output", f"not what {tool} prints: {output[-300:] or 'nothing'}")
    return found


def _told(tool: str, seconds: float, ok: int, errors: Mapping[str, int], latency: Mapping[str, float]) -> LoadResult:
    done = ok + sum(errors.values())
    return LoadResult(
        tool=tool,
        seconds=seconds,
        planned=done,
        sent=done,
        ok=ok,
        errors=errors,
        achieved_rps=ok / seconds if seconds else 0.0,
        raw_ms=latency,
    )
