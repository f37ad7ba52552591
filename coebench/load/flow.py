"""A load that goes on meanwhile, on one agent: the contract's `Flow`."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..contract import Burst, EngineError, LoadPlan, LoadResult, Mishap, Target
from . import calibrate, native, saturation, share
from .agent import Agent, targets_word
from .frames import PerTarget
from .merge import by_target

BEGIN = 5.0  # seconds that an agent may take to begin a load
END = 10.0  # seconds beyond a request's own limit that it may take to count and report


class AgentFlow:
    """The contract's Flow, on one agent."""

    def __init__(
        self,
        agent: Agent,
        plan: LoadPlan,
        told: Callable[[Burst], None],
    ) -> None:
        """Begins it. Raises EngineError."""
        self._agent = agent
        self._plan = plan
        self._told = told
        self._begun = threading.Event()
        self._ends: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._result: LoadResult | None = None
        self._error = ""
        self._ident = agent.begin("load", self._event, **_words(plan))
        if not self._begun.wait(BEGIN):
            self._forget()
            raise EngineError("the generator", self._error or f"it did not begin within {BEGIN:g} s")
        if self._error:
            self._forget()
            raise EngineError("the generator", self._error)

    def _event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "started":
            self._begun.set()
        elif kind == "second":
            self._told(_burst(self._agent, event))
        elif kind == "done":
            self._ends.put(event)
        elif kind in ("error", "lost"):
            self._error = event.get("message", "its connection ended")
            self._begun.set()
            self._ends.put(event)

    def retarget(self, targets: Sequence[Target]) -> None:
        if targets:
            self._agent.tell("retarget", self._ident, targets=targets_word((t.address, t.port) for t in targets))

    def stop(self) -> LoadResult:
        if self._result is None:
            with contextlib.suppress(EngineError):  # if the connection is gone, `lost` has told
                self._agent.tell("stop", self._ident)
            limit = self._plan.timeout + END
            try:
                end = self._ends.get(timeout=limit)
            except queue.Empty:
                end = {"event": "error"}
                self._error = f"it did not report its end within {limit:g} s"
            self._forget()
            if end["event"] != "done":
                raise EngineError("the generator", self._error)
            self._result = self._judged(_result(self._plan, end))
        return self._result

    def _judged(self, result: LoadResult) -> LoadResult:
        if result.saturated or not calibrate.is_here(self._agent.hello.get("boot") or ""):
            return result
        why = calibrate.compared(native.place(), result.achieved_rps, bool(self._plan.rate), self._plan.threads)
        return msgspec.structs.replace(result, saturated=why)

    def _forget(self) -> None:
        self._agent.forget(self._ident)


def _words(plan: LoadPlan) -> dict[str, Any]:
    """A plan in the words of the agent's `load`, every mishap told."""
    words: dict[str, Any] = {
        "targets": targets_word((t.address, t.port) for t in plan.targets),
        **share.request_words(plan),
        "mode": "open" if plan.rate else "closed",
        "connections": plan.connections,
        "threads": plan.threads,
        "duration": f"{plan.duration:g}s",
        "warmup": f"{plan.warmup:g}s",
        "timeout": f"{plan.timeout:g}s",
        "mishaps": 1,
    }
    if plan.slow:
        words["slow"] = f"{plan.slow:g}s"
    if plan.rate:
        words |= {"rate": f"{plan.rate:g}", "arrivals": plan.arrivals}
    return words


def _burst(agent: Agent, event: Mapping[str, Any]) -> Burst:
    told = (
        Mishap(planned=agent.time(planned), sent=agent.time(begun), ended=agent.time(ended), kind=kind, target=target)
        for planned, begun, ended, kind, target in event.get("mishaps") or ()
    )
    return Burst(
        at=agent.time(event["at"]),
        seconds=(event["at"] - event["from"]) / 1e9,
        phase=event["phase"],
        planned=event["planned"],
        sent=event["sent"],
        ok=event["ok"],
        errors=event.get("errors") or {},
        unsent=event["unsent"],
        in_flight=event.get("in_flight", 0),
        cpu=event.get("cpu", 0.0),
        latency_ms=_numbers(event.get("latency_ms")),
        latency=event.get("latency") or "",
        raw=event.get("raw") or "",
        mishaps=tuple(sorted(told, key=lambda m: m.ended)),
        untold=event.get("untold", 0),
    )


def _result(plan: LoadPlan, done: dict[str, Any]) -> LoadResult:
    targets = by_target([(msgspec.convert(done.get("targets") or {}, dict[str, PerTarget]), lambda odd: None)])
    return LoadResult(
        tool="coeload",
        seconds=(done["measured_to"] - done["measured_from"]) / 1e9,
        planned=done["planned"],
        sent=done["sent"],
        ok=done["ok"],
        errors=done.get("errors") or {},
        unsent=done["unsent"],
        inflight=done.get("in_flight", 0),
        offered_rps=done["offered_rps"],
        achieved_rps=done["achieved_rps"],
        latency_ms=_numbers(done.get("latency_ms")),
        raw_ms=_numbers(done.get("raw_latency_ms")),
        lag_ms=_numbers(done.get("send_lag_ms")),
        cpu=done["cpu"],
        throttled_ms=done.get("throttled_ms"),
        saturated=saturation.reason(done, bool(plan.rate)),
        per_target={name: t.ok for name, t in targets.items()},
        targets=targets,
        histogram=done.get("latency") or "",
        raw_histogram=done.get("raw") or "",
    )


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {k: float(v) for k, v in (values or {}).items() if v is not None}
