"""Following several services at once: what `following` does for one, with one pair of eyes for all.

Each service's watch says which instances there are and where; each address is handed to the prober at once. The prober tells
of all in one stream, so who speaks is sorted here. Observed in `following`'s words: `instance`, `gone`, `answer`. An address
may pass from one instance to another, even of another service (ports on Mesos): an answer counts for the instance that it
names, and its former owner counts as silent from then on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from ..contract import (
    Answer,
    Change,
    Deadline,
    EngineError,
    Instance,
    InstanceState,
    MissingService,
    Target,
    Trial,
    Unplaceable,
    Watch,
)
from .following import interruptions, tell_fallback

TICK = 1.0  # seconds between two looks at the deadline while nothing happens
STUCK = 3  # seconds without any event after which the engine is asked whether it can go on


class Followed:
    """What is known of one service."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.instances: dict[str, Instance] = {}  # as the engine lists them
        self.speaking: dict[str, str] = {}  # instance → the version that it answers with

    @property
    def listed(self) -> dict[str, Instance]:
        """Those that have not ended."""
        return {k: i for k, i in self.instances.items() if i.state is not InstanceState.ENDED}

    @property
    def ready(self) -> set[str]:
        return {k for k, i in self.instances.items() if i.state is InstanceState.READY}


class Crowd:
    """A context. `follow` before a service is deployed; `leave` when it is gone."""

    def __init__(self, trial: Trial, path: str = "/id") -> None:
        self.trial = trial
        self.path = path
        self.services: dict[str, Followed] = {}
        self._watches: dict[str, Watch] = {}
        self._threads: list[threading.Thread] = []
        self._probes: dict[str, tuple[str, str]] = {}  # the prober's watch → service and instance
        self._probed: dict[str, str] = {}  # instance → the prober's watch
        self._home: dict[str, str] = {}  # instance → service
        self._events: queue.SimpleQueue[tuple[str, Change] | Answer | EngineError] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Crowd:
        self._spawn(self._sight)
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for service in list(self.services):
            self.leave(service)
        for thread in self._threads:
            thread.join(timeout=5)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def follow(self, *services: str) -> None:
        """Begin to follow services that need not exist yet."""
        for service in services:
            watch = self.trial.driver.watch(service)
            self.services[service] = Followed(service)
            self._watches[service] = watch
            self._spawn(self._engine, service, watch)

    def leave(self, service: str) -> None:
        """End to follow a service: its watch and its probes."""
        if watch := self._watches.pop(service, None):
            watch.close()
        self.services.pop(service, None)
        self.hush(service)

    def hush(self, service: str) -> None:
        """Stop asking the instances that a service has now, while going on to follow it: asking costs them something."""
        with self._lock:
            mine = [(w, i) for w, (s, i) in self._probes.items() if s == service]
        for probe, _ in mine:
            self._unwatch(probe)

    def _unwatch(self, probe: str) -> None:
        with self._lock:
            gone = self._probes.pop(probe, None)
        if gone:
            self.trial.prober.unwatch(probe)

    def _engine(self, service: str, watch: Watch) -> None:
        told = tell_fallback(self.trial, service, watch)
        try:
            while not self._stop.is_set() and self._watches.get(service) is watch:
                change = watch.next(0.2)
                told = tell_fallback(self.trial, service, watch, told)
                for said in interruptions(watch):
                    self.trial.observe("watch.interrupted", service=service, said=said)
                if change is not None:
                    i = change.instance
                    if change.kind != "removed" and i.live and i.address and i.port and i.id not in self._probed:
                        with self._lock:  # its first answer must not come before we know whose it is
                            self._home[i.id] = service
                            probe = self.trial.prober.watch(Target(i.address, i.port), self.path)
                            self._probes[probe] = (service, i.id)
                            self._probed[i.id] = probe
                    self._events.put((service, change))
        except EngineError as e:
            if not self._stop.is_set() and service in self._watches:
                self._events.put(e)

    def _sight(self) -> None:
        try:
            while not self._stop.is_set():
                if (answer := self.trial.prober.next(0.2)) is not None:
                    self._events.put(answer)
        except EngineError as e:
            if not self._stop.is_set():
                self._events.put(e)

    def step(self, timeout: float) -> bool:
        """Take in the next thing that happens; False if none did in `timeout` seconds. Raises EngineError."""
        try:
            event = self._events.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return False
        if isinstance(event, EngineError):
            raise event
        if isinstance(event, Answer):
            self._heard(event)
        else:
            self._told(*event)
        return True

    def rest(self, seconds: float) -> None:
        """Let time pass; what happens meanwhile is taken in."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.step(left)

    def until(self, fact: Callable[[], bool], deadline: Deadline, what: Callable[[], str], ask: Iterable[str] = ()) -> None:
        """Take in what happens until `fact()` is true. Raises PhaseTimeout, naming `what()`; EngineError.

        `ask`: services that are to be placed; Unplaceable is raised as soon as the engine says that one of them can't be.
        """
        services, quiet = tuple(ask), 0
        while not fact():
            deadline.waiting_for(what())
            if self.step(min(TICK, deadline.left())):
                quiet = 0
                continue
            quiet += 1
            if quiet >= STUCK:
                for name in services:
                    try:
                        progress = self.trial.driver.progress(name)
                    except MissingService:
                        continue  # it is still being asked for
                    if progress.blocked:
                        raise Unplaceable(f"{progress.wanted} instances of {name}", progress.blocked)

    def _told(self, service: str, change: Change) -> None:
        followed = self.services.get(service)
        if followed is None:
            return
        i = change.instance
        if change.kind == "removed":
            followed.instances.pop(i.id, None)
            self.trial.observe("gone", at=change.seen, service=service, id=i.id)
        else:
            followed.instances[i.id] = i
            self.trial.observe(
                "instance",
                at=change.seen,
                service=service,
                id=i.id,
                state=i.state.value,
                engine_state=i.engine_state,
                node=i.node,
                address=i.address,
                port=i.port,
                version=i.version,
                reason=i.reason,
                claims={c.name: c.at for c in i.claims},
            )
        self._let_go(i.id, followed)

    def _let_go(self, ident: str, followed: Followed) -> None:
        """An instance that is silent and that the engine counts on no more is asked no more: each failure would be told."""
        now_listed = followed.instances.get(ident)
        if ident not in followed.speaking and (now_listed is None or not now_listed.live) and ident in self._probed:
            self._unwatch(self._probed[ident])

    def _heard(self, answer: Answer) -> None:
        with self._lock:
            owner = self._probes.get(answer.watch)
        if owner is None:
            return  # it was hushed
        service, ident = owner
        if answer.kind in ("up", "changed") and answer.instance and answer.instance != ident:
            self._note(service, ident, "down", answer, f"{answer.instance} answers in its place")
            service, ident = self._home.get(answer.instance, ""), answer.instance
            if service not in self.services:
                return  # its own service's watch has not told of it yet: it will be asked anew then
        self._note(service, ident, answer.kind, answer, answer.error)

    def _note(self, service: str, ident: str, kind: str, answer: Answer, error: str) -> None:
        followed = self.services.get(service)
        if followed is None:
            return
        up = kind in ("up", "changed")
        if up:
            followed.speaking[ident] = answer.version
        elif kind == "down" and followed.speaking.pop(ident, None) is None:
            return  # it never spoke, or that is known
        self.trial.observe(
            "answer",
            at=answer.at,
            service=service,
            kind=kind,
            instance=ident,
            version=answer.version if up else "",
            sent=answer.sent,
            started=answer.started if up else 0.0,
            tries=answer.tries,
            error=error,
        )
        if not up:
            self._let_go(ident, followed)


def serving(followed: Followed, count: int) -> Callable[[], bool]:
    """Whether that many answer, and the engine calls that many ready and lists no more."""
    return lambda: len(followed.speaking) >= count and len(followed.ready) == len(followed.listed) == count


def gone(followed: Followed) -> Callable[[], bool]:
    """Whether none answers and none is listed, ended ones aside."""
    return lambda: not followed.speaking and not followed.listed


def saying(followed: Followed) -> Callable[[], str]:
    """`said`, later."""
    return lambda: said(followed)


def said(followed: Followed) -> str:
    """What is known of a service, for a timeout's message."""
    waiting = [i for i in followed.listed.values() if i.state is not InstanceState.READY]
    words = sorted({f"{i.engine_state}: {i.reason}" if i.reason else i.engine_state for i in waiting})
    text = f"{followed.name}: {len(followed.speaking)} answer, the engine lists {len(followed.listed)}"
    return (text + (f" ({'; '.join(words)})" if words else ""))[:300]
