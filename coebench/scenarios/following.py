"""What scenarios share: following a service's instances with two pairs of eyes, the engine's and the prober's.

The engine's word (its watch) says which instances there are and where; each address is handed to the prober the moment it
is told, and the prober says when it answered. All that both say is observed, so that every figure can be derived anew:

    instance {service, id, state, engine_state, node, address, port, version, reason, claims}   the engine's word
    gone     {service, id}                                                                     it lists it no more
    answer   {service, instance, version, started, tries, kind, error}                          the prober's
    watch.fallback {service, how, seconds}                 the watch looks every so many seconds (0: not told); none is pushed
    watch.interrupted {service, said}    the engine's stream broke off and was begun again: its word may have come late
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from ..contract import Answer, Change, Deadline, EngineError, Instance, InstanceState, Target, Trial, Unplaceable, Watch

TICK = 1.0  # seconds between two looks at the deadline while nothing happens


def tell_fallback(trial: Trial, service: str, watch: Watch, told: str = "") -> str:
    """Observe that a watch polls, where it does and that was not `told` yet. What is told now."""
    if (how := watch.fallback) and how != told:
        trial.observe("watch.fallback", service=service, how=how, seconds=float(getattr(watch, "interval", 0.0)))
    return how


class Following:
    """A context: begins to watch a service, which need not exist yet; ends the watch and all probes when left."""

    def __init__(self, trial: Trial, service: str, path: str = "/id") -> None:
        self.trial = trial
        self.service = service
        self.path = path
        self.instances: dict[str, Instance] = {}
        self.answered: dict[str, Answer] = {}  # instance → its first good answer
        self.ready: set[str] = set()
        self.silent: set[str] = set()  # instances that had answered and do no more
        self.said = ""  # the engine's last words about the service as a whole
        self._probes: dict[str, str] = {}  # instance → the prober's watch
        self._fallback = ""  # what the watch has said of polling
        self._events: queue.SimpleQueue[Change | Answer | EngineError] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._watch = trial.driver.watch(service)
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._engine, self._sight)]

    def __enter__(self) -> Following:
        self._fallback = tell_fallback(self.trial, self.service, self._watch)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._poll_told()
        self._watch.close()
        for thread in self._threads:  # first: until it has ended, the engine's may have one more address asked
            thread.join(timeout=5)
        for probe in list(self._probes.values()):
            self.trial.prober.unwatch(probe)

    def _engine(self) -> None:
        """The engine's changes, as they come; addresses go straight on to the prober."""
        try:
            while not self._stop.is_set():
                change = self._watch.next(0.2)
                self._poll_told()
                for said in interruptions(self._watch):
                    self.trial.observe("watch.interrupted", service=self.service, said=said)
                if change is None:
                    continue
                i = change.instance
                if i.live and i.address and i.port and i.id not in self._probes and change.kind != "removed":
                    self._probes[i.id] = self.trial.prober.watch(Target(i.address, i.port), self.path)
                self._events.put(change)
        except EngineError as e:
            if not self._stop.is_set():
                self._events.put(e)

    def _poll_told(self) -> None:
        """Observe it if the watch has begun to poll: a stream may turn out to be refused only after it was asked for."""
        self._fallback = tell_fallback(self.trial, self.service, self._watch, self._fallback)

    def _sight(self) -> None:
        try:
            while not self._stop.is_set():
                answer = self.trial.prober.next(0.2)
                if answer is not None:
                    self._events.put(answer)
        except EngineError as e:
            if not self._stop.is_set():
                self._events.put(e)

    def step(self, deadline: Deadline) -> Change | Answer | None:
        """Take in the next thing that happens; None if a second passes without one. Raises PhaseTimeout, EngineError."""
        return self._step(min(TICK, deadline.left()))

    def pause(self, seconds: float) -> None:
        """Let time pass; what happens meanwhile is taken in. Raises EngineError."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._step(left)

    def _step(self, timeout: float) -> Change | Answer | None:
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, EngineError):
            raise event
        if isinstance(event, Change):
            self._take(event)
        else:
            self._saw(event)
        return event

    def _take(self, change: Change) -> None:
        i = change.instance
        if change.kind == "removed":
            self.instances.pop(i.id, None)
            self.ready.discard(i.id)
            self.trial.observe("gone", at=change.seen, service=self.service, id=i.id)
            return
        self.instances[i.id] = i
        if i.state is InstanceState.READY:
            self.ready.add(i.id)
        else:
            self.ready.discard(i.id)
        self.trial.observe(
            "instance",
            at=change.seen,
            service=self.service,
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

    def _saw(self, answer: Answer) -> None:
        if answer.kind in ("up", "changed") and answer.instance:
            self.answered.setdefault(answer.instance, answer)
            self.silent.discard(answer.instance)
        elif answer.kind == "down":
            self.silent.update(i for i, a in self.answered.items() if a.watch == answer.watch)
        self.trial.observe(
            "answer",
            at=answer.at,
            service=self.service,
            kind=answer.kind,
            instance=answer.instance or next((i for i, a in self.answered.items() if a.watch == answer.watch), ""),
            version=answer.version,
            sent=answer.sent,
            started=answer.started,
            tries=answer.tries,
            error=answer.error,
        )

    def rest(self, instance: str) -> None:
        """Stop asking an instance."""
        if answer := self.answered.get(instance):
            self.trial.prober.unwatch(answer.watch)

    def missing(self) -> str:
        """What the engine says of instances that have not answered, for a timeout's message."""
        waiting = [i for i in self.instances.values() if i.state is not InstanceState.READY]
        words = {f"{i.engine_state}: {i.reason}" if i.reason else i.engine_state for i in waiting}
        if self.said:
            words.add(self.said)
        return f"{len(self.answered)} have answered; the engine says: {'; '.join(sorted(words)) or 'nothing'}"[:400]


def interruptions(watch: Watch) -> Iterator[str]:
    """Why a watch's stream broke off since this was last asked; a driver's own kind of watch may not tell."""
    told: queue.SimpleQueue[str] | None = getattr(watch, "interruptions", None)
    while told is not None and not told.empty():
        yield told.get()


def until_answering(following: Following, wanted: int, deadline: Deadline, claims: bool = True) -> None:
    """Until `wanted` instances have answered and, with `claims`, until the engine calls as many ready.

    Raises Unplaceable, with the engine's words, as soon as it says that instances can't be placed.
    """
    driver = following.trial.driver
    quiet = 0
    while len(following.answered) < wanted or (claims and len(following.ready) < wanted):
        deadline.waiting_for(following.missing())
        if following.step(deadline) is not None:
            quiet = 0
            continue
        quiet += 1
        if quiet >= 3:  # nothing for seconds: is it stuck for good?
            progress = driver.progress(following.service)
            following.said = progress.said
            if progress.blocked:
                raise Unplaceable(f"{wanted} instances of {following.service}", progress.blocked)


def until_silent(following: Following, deadline: Deadline) -> None:
    """Until no instance that had answered does any more, and the engine lists none, ended ones aside."""
    resting: set[str] = set()
    while True:
        speaking = len(following.answered) - len(following.silent)
        listed = sum(i.state is not InstanceState.ENDED for i in following.instances.values())
        if not speaking and not listed:
            return
        deadline.waiting_for(f"{speaking} instances still answer, the engine lists {listed}")
        following.step(deadline)
        for instance in following.silent - resting:
            following.rest(instance)  # every further failure would be told
            resting.add(instance)
