"""What behaviours are given: a driver on a bay, eyes inside it, and services that are always taken away again."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from ..contract import (
    Access,
    Capability,
    Change,
    CoebenchError,
    Driver,
    EngineError,
    Health,
    Instance,
    InstanceState,
    ServiceSpec,
    Support,
    Workload,
)
from .eyes import Eyes
from .registry import Failed

T = TypeVar("T")
TOLERANT = Health(path="/healthz", interval=1.0, timeout=1.0, failures=10)  # forgives a busy machine
START = "/srv/start.sh"  # what the http workload's image runs


class Bench:
    """One driver under test. Use as a context, inside the bay's network; `close` removes every service it deployed.

    `connect` makes another connection with an access, as the driver's class does. `patience` is how long, in seconds, a
    fact may take before a behaviour fails: generous, since nothing is measured here.
    """

    def __init__(
        self,
        connect: Callable[[Access], Driver],
        access: Access,
        workload: Workload,
        generator: Workload,
        patience: float = 60.0,
    ) -> None:
        self.connect = connect
        self.access = access
        self.workload = workload
        self.patience = patience
        self.token = secrets.token_hex(2)
        self.driver: Driver = connect(access)
        self._generator = generator
        self._deployed: list[str] = []
        self._stories: dict[Any, Story] = {}
        self._eyes: Eyes | None = None
        self._count = 0
        self._diaries: list[Diary] = []

    # services

    def name(self, what: str) -> str:
        """A service name that nobody else has."""
        self._count += 1
        return f"cf-{what}-{self.token}{self._count}"

    def spec(self, what: str, instances: int = 1, version: str = "", **changes: Any) -> ServiceSpec:
        """The http workload as a service of its own name, without a health check unless `changes` give one."""
        base = self.workload.service(self.name(what), instances, version or self.workload.versions[0])
        return msgspec.structs.replace(base, **{"health": None, **changes})

    def other_version(self, spec: ServiceSpec, **changes: Any) -> ServiceSpec:
        """The same service in the workload's second version."""
        v2 = self.workload.versions[1]
        return msgspec.structs.replace(spec, **{"image": f"{self.workload.image}:{v2}", "version": v2, **changes})

    def deploy(self, spec: ServiceSpec) -> None:
        """Deploy, and remember to remove."""
        self._deployed.append(spec.name)
        self.driver.deploy(spec)

    def remove(self, service: str) -> None:
        """Remove without waiting."""
        self.driver.remove(service)

    def ready(self, service: str) -> tuple[Instance, ...]:
        """Those that the engine calls ready."""
        return tuple(i for i in self.driver.instances(service) if i.state is InstanceState.READY)

    def wait_ready(self, service: str, count: int) -> tuple[Instance, ...]:
        """Wait until the engine calls so many ready and no more than these live."""
        what = f"{count} instances of {service} to be ready"

        def fact() -> tuple[Instance, ...] | None:
            listed = self.driver.instances(service)
            found = tuple(i for i in listed if i.state is InstanceState.READY)
            return found if len(found) == count == sum(i.live for i in listed) else None

        return self.until(fact, what, lambda: self.told(service))

    def wait_gone(self, service: str) -> None:
        """Wait until nothing of a service is listed, ended ones aside, and its name is free."""
        self.until(
            lambda: (
                service not in self.driver.services()
                and all(i.state is InstanceState.ENDED for i in self.driver.instances(service))
            ),
            f"{service} to be gone",
            lambda: self.told(service),
        )

    def wait_removed(self, service: str) -> None:
        """Remove and wait."""
        self.remove(service)
        self.wait_gone(service)

    def told(self, service: str) -> str:
        """What the engine says of a service, for a failure's text."""
        words = [f"{i.id[:24]} {i.engine_state} {i.reason}".strip() for i in self.driver.instances(service)]
        with contextlib.suppress(CoebenchError):
            p = self.driver.progress(service)
            words.append(f"{p.ready} of {p.wanted}; {p.said} {p.blocked}")
        return "; ".join(words)[:600]

    # waiting

    def until(
        self, fact: Callable[[], T | None], what: str, told: Callable[[], str] = str, timeout: float = 0, every: float = 0.05
    ) -> T:
        """The first true value of `fact`, which is looked at every `every` seconds. Raises Failed."""
        limit = timeout or self.patience
        deadline = time.monotonic() + limit
        while True:
            value = fact()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failed(f"waited {limit:g} s for {what}; {told()}")
            time.sleep(every)

    def never(self, fact: Callable[[], object], seconds: float, what: str, every: float = 0.1) -> None:
        """Look for so many seconds that `fact` stays false. Raises Failed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := fact():
                raise Failed(f"{what}: {value}")
            time.sleep(every)

    # seeing

    @property
    def eyes(self) -> Eyes:
        """The client inside the bay; deployed when it is first needed. Raises Failed if it can't be had, each time."""
        return self.story(_open_eyes)

    def diary(self, service: str) -> Diary:
        """Begin to note all changes of a service."""
        diary = Diary(self.driver, service, self.patience)
        self._diaries.append(diary)
        return diary

    # what several behaviours look at

    def begin(self, *stories: Callable[[Bench], object]) -> None:
        """Begin to tell stories, all at the same time: most of each is waiting. `story` then waits for its end."""
        for tell in stories:
            if tell not in self._stories:
                told = self._stories[tell] = Story(tell)
                told.thread = threading.Thread(target=told.run, args=(self,), name=tell.__name__, daemon=True)
                told.thread.start()

    def story(self, tell: Callable[[Bench], T]) -> T:
        """What `tell` returns; told once, since deploying takes long. Raises Failed, also if it raised a CoebenchError."""
        if tell not in self._stories:
            self._stories[tell] = Story(tell)
            self._stories[tell].run(self)
        told: Story = self._stories[tell]
        if told.thread:
            told.thread.join()
        if told.error is not None:
            raise Failed(f"{tell.__name__.strip('_').replace('_', ' ')}: {told.error}") from told.error
        return told.value  # type: ignore[no-any-return]

    # capabilities

    def support(self, capability: Capability) -> Support:
        """What the driver says of a capability."""
        return self.driver.capabilities().get(capability, Support(False))

    # the end

    def close(self) -> list[str]:
        """Remove all that was deployed, wait until it is gone, let go. Returns what would not go, one line each."""
        left = []
        for told in self._stories.values():
            if told.thread:
                told.thread.join()
        for diary in self._diaries:
            diary.close()
        for service in dict.fromkeys(self._deployed):
            with contextlib.suppress(CoebenchError):
                self.driver.remove(service)
        for service in dict.fromkeys(self._deployed):
            try:
                self.wait_gone(service)
            except (Failed, CoebenchError) as e:
                left.append(str(e))
        if self._eyes:
            self._eyes.close()
        with contextlib.suppress(CoebenchError):
            self.driver.close()
        return left

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def open_eyes(self) -> Eyes:
        """Deploy the client. For `eyes`."""
        version = self._generator.versions[0]
        spec = self._generator.service(self.name("eyes"), 1, version)
        self._deployed.append(spec.name)
        self._eyes = Eyes(self.driver, spec, self.patience)
        return self._eyes


def _open_eyes(bench: Bench) -> Eyes:
    return bench.open_eyes()


class Story:
    """What was told once, or why it could not be."""

    def __init__(self, tell: Callable[[Bench], object]) -> None:
        self._tell = tell
        self.value: Any = None
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None

    def run(self, bench: Bench) -> None:
        try:
            self.value = self._tell(bench)
        except Exception as e:  # told to every behaviour that asks
            self.error = e


class Diary:
    """All changes that a watch tells, noted by a thread of its own."""

    def __init__(self, driver: Driver, service: str, patience: float) -> None:
        self.service = service
        self.changes: list[Change] = []
        self.trouble: Exception | None = None
        self._patience = patience
        self._changed = threading.Condition()
        self._closing = False
        self.watch = driver.watch(service)
        self._thread = threading.Thread(target=self._read, name=f"diary {service}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while not self._closing:
                change = self.watch.next(0.5)
                if change is not None:
                    with self._changed:
                        self.changes.append(change)
                        self._changed.notify_all()
        except EngineError as e:
            if not self._closing:
                with self._changed:
                    self.trouble = e
                    self._changed.notify_all()

    def now(self) -> dict[str, Instance]:
        """The instances as last told, by id."""
        with self._changed:
            return _after(self.changes)

    def wait(self, fact: Callable[[Mapping[str, Instance]], T | None], what: str, timeout: float = 0) -> T:
        """Wait until what was told makes a fact true. Raises Failed."""
        deadline = time.monotonic() + (timeout or self._patience)
        with self._changed:
            while True:
                current = _after(self.changes)
                if value := fact(current):
                    return value
                left = deadline - time.monotonic()
                if self.trouble:
                    raise Failed(f"the watch of {self.service} ended while waiting for {what}: {self.trouble}")
                if left <= 0:
                    states = ", ".join(f"{i.id[:24]} {i.state} ({i.engine_state}) {i.reason}" for i in current.values())
                    raise Failed(f"the watch of {self.service} did not tell of {what} in time; it told: {states or 'nothing'}")
                self._changed.wait(min(left, 1.0))

    def wait_ready(self, count: int, version: str = "") -> list[Instance]:
        """Wait until so many, and no others that live, are ready (of a version)."""

        def fact(current: Mapping[str, Instance]) -> list[Instance] | None:
            live = [i for i in current.values() if i.live]
            good = [i for i in live if i.state is InstanceState.READY and (not version or i.version == version)]
            return good if len(live) == len(good) == count else None

        found = self.wait(fact if count else lambda c: [1] if not any(i.live for i in c.values()) else None, f"{count} ready")
        return found if count else []  # type: ignore[return-value]

    def faults(self) -> list[str]:
        """Where what was told contradicts itself: removed before added, told twice, changed without a change."""
        found = []
        known: dict[str, Instance] = {}
        with self._changed:
            changes = list(self.changes)
        for n, c in enumerate(changes):
            before = known.get(c.instance.id)
            if (c.kind == "added") == (before is not None):
                found.append(f"#{n}: {c.instance.id} is {c.kind}, but was {'' if before else 'not '}there")
            if c.kind == "changed" and before == c.instance:
                found.append(f"#{n}: {c.instance.id} is told twice")
            if c.kind not in ("added", "changed", "removed"):
                found.append(f"#{n}: a change can't be '{c.kind}'")
            if n and c.seen < changes[n - 1].seen:
                found.append(f"#{n}: seen before the change that came before it")
            if c.kind == "removed":
                known.pop(c.instance.id, None)
            else:
                known[c.instance.id] = c.instance
        return found

    def close(self) -> None:
        self._closing = True
        self.watch.close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Diary:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _after(changes: list[Change]) -> dict[str, Instance]:
    known: dict[str, Instance] = {}
    for c in changes:
        if c.kind == "removed":
            known.pop(c.instance.id, None)
        else:
            known[c.instance.id] = c.instance
    return known
