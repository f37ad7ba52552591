"""A client inside the bay: the load generator's agent, deployed by the driver under test, as in every trial."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from ..contract import Driver, EngineError, Instance, ServiceSpec
from ..load import secret
from ..load.agent import Agent
from .registry import Failed


class Reply(msgspec.Struct, frozen=True):
    """An answer over HTTP. `status` is 0 where none came; then `body` says why. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def instance(self) -> str:
        """Which instance says that it answers."""
        return self.headers.get("x-coebench-instance", "")

    @property
    def version(self) -> str:
        """The version of its image."""
        return self.headers.get("x-coebench-version", "")

    @property
    def started(self) -> str:
        """When its process began: another time is another process."""
        return self.headers.get("x-coebench-started", "")


class Eyes:
    """Asks instances from where a client would. Safe to use from several threads."""

    def __init__(self, driver: Driver, spec: ServiceSpec, timeout: float) -> None:
        """Deploy the agent and connect. Raises Failed, CoebenchError."""
        self.service = spec.name
        self._secret = secret.draw()
        deadline = time.monotonic() + timeout
        said = "nothing was listed"
        with driver.watch(spec.name) as watch:
            driver.deploy(secret.told(spec, self._secret, executes=True))
            while True:
                change = watch.next(0.2)
                if change and change.kind != "removed" and change.instance.live:
                    i = change.instance
                    said = f"{i.engine_state} {i.reason}".strip()
                    if i.published:
                        self.instance = i
                        break
                if time.monotonic() > deadline:
                    raise Failed(f"the agent's service was not published within {timeout:g} s: {said}")
        self.agent = self._connect(self.instance, deadline)

    def _connect(self, instance: Instance, deadline: float) -> Agent:
        assert instance.published
        while True:  # the address is told before anybody listens there
            try:
                return Agent(*instance.published, secret=self._secret)
            except EngineError as e:
                if time.monotonic() > deadline:
                    raise Failed(f"the agent's published address {instance.published} does not answer: {e}") from e
                time.sleep(0.02)

    def close(self) -> None:
        self.agent.close()

    def fetch(self, address: str, port: int, path: str = "/id", timeout: float = 5.0) -> Reply:
        """GET, sent by a process of the agent's inside the bay. Raises EngineError if the agent is gone."""
        try:
            return _reply(*self.execute(["wget", "-S", "-q", "-O", "-", f"http://{address}:{port}{path}"], timeout))
        except TimeoutError as e:
            return Reply(0, {}, str(e))

    def execute(self, argv: list[str], timeout: float = 15.0) -> tuple[str, str]:
        """Run a program beside the agent; its standard output and standard error. No element may hold a comma.

        Raises TimeoutError, EngineError if the agent is gone.
        """
        events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        out: dict[str, list[str]] = {"stdout": [], "stderr": []}
        ident = self.agent.begin("exec", events.put, argv=",".join(argv))
        try:
            while True:
                event = events.get(timeout=timeout)
                if event["event"] == "output":
                    out.setdefault(event["stream"], []).append(event["data"])
                elif event["event"] == "exit":
                    return "".join(out["stdout"]), "".join(out["stderr"])
                elif event["event"] in ("error", "lost"):
                    raise EngineError("the agent", event.get("message", "its connection ended"))
        except queue.Empty:
            self.agent.tell("stop", ident)
            raise TimeoutError(f"'{argv[0]}' did not end within {timeout:g} s") from None
        finally:
            self.agent.forget(ident)

    def look(self) -> Look:
        """Begin to ask instances without pause."""
        return Look(self.agent)


class Seen(msgspec.Struct, frozen=True):
    """From `at` on (the harness's clock), the instance `asked` answers (`up`) or doesn't; who answered, with which version."""

    at: float
    asked: str
    up: bool
    instance: str = ""
    version: str = ""


class Look:
    """Asks a growing set of instances every 10 ms and notes when each begins and ceases to answer. A context."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._ids: dict[str, str] = {}
        self._changed = threading.Condition()
        self.seen: list[Seen] = []

    def add(self, instance: Instance) -> None:
        """Ask this one too, from now on, once it has an address."""
        if instance.id in self._ids or not instance.address or not instance.port:
            return
        words = {"addr": instance.address, "port": instance.port, "path": "/id", "interval": "10ms", "timeout": "1s"}
        asked = instance.id
        self._ids[asked] = self._agent.begin("watch", lambda event: self._event(asked, event), **words)

    def _event(self, asked: str, event: dict[str, Any]) -> None:
        if event["event"] == "change":
            at = self._agent.time(event["at"])
            with self._changed:
                self.seen.append(Seen(at, asked, event["up"], event.get("instance") or "", event.get("version") or ""))
                self._changed.notify_all()

    def up(self, at: float | None = None) -> frozenset[str]:
        """The instances that answer now, or did at a time."""
        found: dict[str, bool] = {}
        with self._changed:
            for s in self.seen:
                if at is None or s.at <= at:
                    found[s.asked] = s.up
        return frozenset(i for i, up in found.items() if up)

    def first(self, instance: str) -> float | None:
        """When it first answered."""
        with self._changed:
            return next((s.at for s in self.seen if s.asked == instance and s.up), None)

    def least(self, begin: float, end: float, shortest: float = 0.1) -> int:
        """The smallest number that answered at once between two times; a dip shorter than `shortest` seconds is not one."""
        with self._changed:
            times = [begin, *sorted(s.at for s in self.seen if begin < s.at < end), end]
        return min((len(self.up(a)) for a, b in itertools.pairwise(times) if b - a >= shortest), default=0)

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        for ident in self._ids.values():
            self._agent.forget(ident)
            with contextlib.suppress(EngineError):
                self._agent.tell("unwatch", ident)


def _reply(out: str, err: str) -> Reply:
    """busybox wget's words: the head on standard error, indented, the body on standard output."""
    status, headers = 0, {}
    for line in err.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.startswith("HTTP/"):
            status = int(rest.split()[0])
        elif line.startswith("  ") and word.endswith(":"):
            headers[word[:-1].lower()] = rest.strip()
        elif "HTTP/1." in line:
            status = int(line.split("HTTP/1.")[1].split()[1])
    return Reply(status, headers, out if status else err.strip())
