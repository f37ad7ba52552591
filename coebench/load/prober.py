"""The prober: a service of the bay's own, deployed by the driver under test, reached through its published port."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

from .. import plugins
from ..contract import (
    Answer,
    Burst,
    Driver,
    EngineError,
    LoadPlan,
    LoadResult,
    PhaseTimeout,
    Ran,
    Target,
    Workload,
)
from . import secret
from .agent import Agent, argv_word
from .coordinator import Coordinator
from .flow import AgentFlow
from .recruits import Recruits, recruit

SERVICE = "coebench-prober"
CHECK = 2.0  # seconds between two questions to the engine whether it can be started at all


class BayProber:
    """Deployed once a bay and shared by its trials. `start` before use, `stop` to take it away."""

    def __init__(self, driver: Driver, workload: Workload, executes: bool = False) -> None:
        """`executes`: whether programs may be run beside it (`execute`, and `load` by another tool)."""
        self._secret = secret.draw()
        self._executes = executes
        self._driver = driver
        self._workload = workload
        self._agents: dict[str, Agent] = {}
        self._seen: queue.SimpleQueue[Answer | EngineError] = queue.SimpleQueue()
        self._targets: dict[str, Target] = {}
        self._down: dict[str, bool] = {}
        self._recruits: Recruits | None = None

    def start(self, timeout: float) -> None:
        """Deploy it and connect. Raises PhaseTimeout, EngineError."""
        deadline = time.monotonic() + timeout
        with self._driver.watch(SERVICE) as watch:
            spec = self._workload.service(SERVICE, 1, self._workload.versions[0])
            self._driver.deploy(secret.told(spec, self._secret, self._executes))
            last = ""
            while not self._agents:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PhaseTimeout("starting the prober", timeout, last or "no instance of it was ever listed")
                change = watch.next(min(left, 1.0))
                if change is None:
                    self._check()
                    continue
                i = change.instance
                last = f"{i.id}: {i.engine_state} {i.reason}".strip()
                if change.kind != "removed" and i.live and i.published:
                    self._connect(i.id, i.published, deadline)

    def _connect(self, ident: str, published: tuple[str, int], deadline: float) -> None:
        """An address may be told before anybody listens there, or where nobody ever will."""
        check = time.monotonic() + CHECK
        while True:
            try:
                self._agents[ident] = Agent(*published, secret=self._secret)
                return
            except EngineError:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > check:
                self._check()
                check = time.monotonic() + CHECK
            time.sleep(0.02)

    def _check(self) -> None:
        """Raises EngineError, with the engine's words, if it says that the prober can't be started."""
        if blocked := self._driver.progress(SERVICE).blocked:
            raise EngineError("starting the prober", blocked)

    def stop(self) -> None:
        """Disconnect and remove the service."""
        self.close()
        self._driver.remove(SERVICE)

    def close(self) -> None:
        for agent in self._agents.values():
            agent.close()
        self._agents.clear()

    @property
    def _agent(self) -> Agent:
        if not self._agents:
            raise EngineError("the prober", "it is not connected")
        return next(iter(self._agents.values()))

    # the port: sight

    def watch(self, target: Target, path: str = "/id", interval: float = 0.005, timeout: float = 1.0) -> str:
        agent = self._agent
        words = {"addr": target.address, "port": target.port, "path": path}
        words |= {"interval": f"{interval * 1000:g}ms", "timeout": f"{timeout * 1000:g}ms"}
        return agent.begin("watch", lambda event: self._event(agent, target, event), **words)

    def _event(self, agent: Agent, target: Target, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind in ("lost", "error"):
            self._seen.put(EngineError("the prober", event.get("message", "its connection ended")))
        if kind not in ("change", "failure"):
            return
        ident = event["id"]
        if kind == "change":
            was_down = self._down.get(ident, True)
            self._down[ident] = not event["up"]
            kind = ("up" if was_down else "changed") if event["up"] else "down"
        self._seen.put(
            Answer(
                watch=ident,
                kind=kind,
                at=agent.time(event["at"]),
                sent=agent.time(event["sent"]),
                target=target,
                instance=event.get("instance") or "",
                version=event.get("version") or "",
                started=_number(event.get("started")),
                tries=event.get("tries", 0),
                error=event.get("error") or "",
            )
        )

    def unwatch(self, watch: str) -> None:
        for agent in self._agents.values():
            agent.forget(watch)
            with contextlib.suppress(EngineError):
                agent.tell("unwatch", watch)
        self._down.pop(watch, None)

    def next(self, timeout: float) -> Answer | None:
        try:
            seen = self._seen.get(timeout=max(0.0, timeout))
        except queue.Empty:
            if any(agent.lost for agent in self._agents.values()):  # also while nothing is watched
                raise EngineError("the prober", "its connection ended") from None
            return None
        if isinstance(seen, EngineError):
            raise seen
        return seen

    def offset(self) -> tuple[float, float]:
        return self._agent.offset, self._agent.uncertainty

    def generators(self) -> Sequence[str]:
        return tuple(self._agents)

    # the port: load

    def begin(self, plan: LoadPlan, told: Callable[[Burst], None]) -> AgentFlow:
        return AgentFlow(self._agent, plan, told)

    def load(self, plan: LoadPlan, second: Callable[[Burst], None] | None = None, tool: str = "") -> LoadResult:
        if tool:
            return self._other(tool, plan)
        if self._recruits:
            return self._recruits.coordinator(plan).run(second)
        if plan.generators > 1:
            raise EngineError("the prober", f"{plan.generators} generators are asked for, and none was recruited")
        (name, agent), *_ = self._agents.items()
        return Coordinator(plan, [(name, agent.address)], secret=self._secret).run(second)

    def recruit(self, generators: int, inside: bool, timeout: float) -> Sequence[str]:
        self._recruits = recruit(self._driver, self._workload, generators, inside, timeout, self._secret)
        return self._recruits.names

    def dismiss(self) -> None:
        names, self._recruits = (self._recruits.names if self._recruits else ()), None
        for name in names:
            self._driver.remove(name)

    def _other(self, tool: str, plan: LoadPlan) -> LoadResult:
        """A generator of another make, in the same place as ours."""
        generator = plugins.load("generators", tool, "generator")()
        ran = self.execute(generator.command(plan), plan.warmup + plan.duration + plan.timeout + 15)
        if ran.code:
            raise EngineError(f"{tool} in the bay", f"it ended with {ran.code}: {ran.err or ran.out}")
        result: LoadResult = generator.result(plan, ran.out)
        return result

    def execute(self, argv: Sequence[str], timeout: float) -> Ran:
        agent = self._agent
        events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        begun = time.monotonic()
        said = {"stdout": "", "stderr": ""}
        ident = agent.begin("exec", events.put, argv=argv_word(argv))
        try:
            while True:
                try:
                    event = events.get(timeout=max(0.0, begun + timeout - time.monotonic()))
                except queue.Empty:
                    agent.tell("stop", ident)
                    raise EngineError(f"{argv[0]} in the bay", f"it did not end within {timeout:g} s") from None
                if event["event"] in ("error", "lost"):
                    raise EngineError(f"{argv[0]} in the bay", event.get("message", "the agent's connection ended"))
                if event["event"] == "output":
                    said[event["stream"]] += event["data"]
                if event["event"] == "exit":
                    code = -event["signal"] if event["signal"] else event["code"]
                    return Ran(code=code, out=said["stdout"], err=said["stderr"], seconds=time.monotonic() - begun)
        finally:
            agent.forget(ident)


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
