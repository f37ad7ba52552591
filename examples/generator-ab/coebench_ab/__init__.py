"""ApacheBench (https://httpd.apache.org/docs/2.4/programs/ab.html): a closed loop on one address."""

from __future__ import annotations

import re
from typing import ClassVar

from coebench.contract import EngineError, LoadPlan, LoadResult, Unsupported


class ApacheBench:
    """Prints percentiles in whole milliseconds: enough to cross-check a throughput, not a latency."""

    name: ClassVar[str] = "ab"
    package: ClassVar[str] = "apache2-utils"

    def command(self, plan: LoadPlan) -> tuple[str, ...]:
        if plan.rate:
            raise Unsupported("ab", "it can't be held to a rate: cross-check a closed loop")
        if len(plan.targets) != 1:
            raise Unsupported("ab", f"it sends to one address, not to {len(plan.targets)}")
        target = plan.targets[0]
        host = f"[{target.address}]" if ":" in target.address else target.address
        words = ("ab", "-k", "-q", "-c", str(plan.connections), "-t", str(max(1, round(plan.duration))), "-n", "100000000")
        return (*words, "-s", str(max(1, round(plan.timeout))), f"http://{host}:{target.port}{plan.path}")

    def result(self, plan: LoadPlan, output: str) -> LoadResult:
        done, failed = (int(_find(rf"^{word} requests:\s+(\d+)", output)) for word in ("Complete", "Failed"))
        bad = re.search(r"^Non-2xx responses:\s+(\d+)", output, re.M)
        errors = {"failed": failed, "bad_status": int(bad[1]) if bad else 0}
        seconds = float(_find(r"^Time taken for tests:\s+([\d.]+) seconds", output))
        latency = {f"p{p}": float(ms) for p, ms in re.findall(r"^\s+(50|90|99)%\s+(\d+)", output, re.M)}
        if longest := re.search(r"^\s*100%\s+(\d+)", output, re.M):
            latency["max"] = float(longest[1])
        good = done - sum(errors.values())
        return LoadResult(
            tool="ab",
            seconds=seconds,
            planned=done,
            sent=done,
            ok=good,
            errors={k: n for k, n in errors.items() if n},
            achieved_rps=good / seconds if seconds else 0.0,
            raw_ms=latency,
        )


def _find(pattern: str, output: str) -> str:
    found = re.search(pattern, output, re.M)
    if not found:
        raise EngineError("ab's output", f"not what ab prints: {output[-300:] or 'nothing'}")
    return found[1]
