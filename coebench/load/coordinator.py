"""Several generators as one: started together, counted together, and every one of them accounted for.

    plan → a session with each generator → a common start → a frame a second from each → one sum

The coordinator calls generators at their own addresses, or all of them behind the one port of a relay (`coeload relay`),
where they have registered themselves. It works in a thread of its own that it makes in `run`, because a bay's network
belongs to the thread that calls; everything that the caller is told, it is told in the caller's thread.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from ..contract import Account, BadInput, Burst, CoebenchError, EngineError, LoadPlan, LoadResult, now
from . import calibrate, checkpoint, native, share
from .frames import Second
from .ledger import Ledger
from .links import CALLS, Ear, Link, RelayEar
from .merge import Merge
from .session import Session
from .timeline import Timeline

TICK = 0.1  # s
LOOK = 0.5  # s between looks at who is missing
FLUSH = 256  # seconds of single generators that are merged at once at most
MEASURING = 32  # generators whose clocks are measured at once: more would only measure our own queue
LEAD = 0.3  # s between the decision to start and the start, and more for each connection and generator
ACK = 2.0  # s between acknowledgements, and between checkpoints
VIEW = 1.5  # s that a second is waited for before the view goes on without it
DRAIN = 1.0  # s that a generator waits for outstanding answers at the end
GRACE = 5.0  # s after that until one that has not told its end is lost


class Coordinator:
    """One load, once. `run` or `resume` it; nothing of it can be used twice.

    `generators`: name and address of each, to be called. `relay`: instead, the address of a relay behind which `expect`
    generators register. `patience`: seconds to wait for all of them; who is not there by then is named and, should it come
    later, joins in at the next full second. `secret`: what the agents, or the relay, were started with. `checkpoint`: a file
    from which `resume` can go on after the process has died.
    """

    def __init__(
        self,
        plan: LoadPlan,
        generators: Sequence[tuple[str, tuple[str, int]]] = (),
        *,
        relay: tuple[str, int] | None = None,
        expect: int = 0,
        patience: float = 10.0,
        checkpoint: Path | None = None,
        ident: str = "",
        secret: str = "",
    ) -> None:
        """Raises BadInput for a plan that can't be spread over so many, and for names that are not one each."""
        count = expect if relay else len(generators)
        share.check(plan, count)
        names = [name for name, _ in generators]
        if twice := {n for n in names if names.count(n) > 1}:
            raise BadInput(f"two generators are called {min(twice)}: each needs a name of its own")
        self.plan = plan
        self.ident = ident or f"load-{secrets.token_hex(4)}"
        self.timeline: Timeline | None = None
        self._relay = relay
        self._secret = secret
        self._expect = count
        self._patience = patience
        self._file = checkpoint
        self._sessions: list[Session] = [Session(Ledger(name=n, index=i, address=a), self) for i, (n, a) in enumerate(generators)]
        self._merge: Merge | None = None
        self._flags: list[str] = []
        self._frames: list[tuple[Ledger, Second]] = []
        self._clock_queue: deque[Session] = deque()
        self._measuring: set[Session] = set()
        self._links: dict[Session, Link] = {}
        self._out: queue.SimpleQueue[Burst | LoadResult | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._acked_at = 0.0

    @classmethod
    def resume(cls, file: Path, secret: str = "") -> Coordinator:
        """One that goes on where the process that wrote the checkpoint ended; the secret is not in the file.

        Raises BadInput if the file can't be used."""
        saved = checkpoint.read(file)
        mine = cls(
            saved.plan,
            [(g.name, g.address) for g in saved.ledgers if g.address] if not saved.relay else (),
            relay=saved.relay,
            expect=saved.expect,
            checkpoint=file,
            ident=saved.ident,
            secret=secret,
        )
        mine._sessions = [Session(g, mine) for g in saved.ledgers]
        mine.timeline = saved.timeline
        mine._merge = Merge(saved.plan, saved.timeline)
        mine._merge.restore(saved.merge)
        mine._flags = [*saved.flags, "the coordinator was restarted; what the generators had kept was fetched"]
        return mine

    def run(self, second: Callable[[Burst], None] | None = None) -> LoadResult:
        """Do it all and wait for the end. Each second is told to `second` in the caller's thread, in turn, when all have told
        of it or the time for it is up. What is raised there stops the load.

        Raises EngineError if no generator sends any load.
        """
        thread = threading.Thread(target=self._thread, name="coordinator", daemon=True)
        thread.start()
        try:
            while True:
                told = self._out.get()
                if isinstance(told, BaseException):
                    raise told
                if isinstance(told, LoadResult):
                    return told
                if second:
                    second(told)
        finally:
            self._stop.set()
            thread.join()

    # in the coordinator's own thread

    def _thread(self) -> None:
        try:
            self._out.put(asyncio.run(self._go()))
        except CoebenchError as e:
            self._out.put(e)
        except BaseException as e:
            self._out.put(EngineError("the coordinator", f"{type(e).__name__}: {e}"))

    async def _go(self) -> LoadResult:
        calls = asyncio.Semaphore(CALLS)
        relay_link: Link | None = None
        relay_ear = RelayEar(self._welcome, self._duplicate)
        if self._relay:
            relay_link = Link(self._relay, relay_ear, calls, self._secret)
        else:
            for session in self._sessions:
                self._links[session] = Link(session.ledger.address or ("", 0), session, calls, self._secret)
        try:
            if self.timeline is None:
                await self._gather(relay_ear)
                self._begin()
            return await self._follow()
        finally:
            await self._leave()
            for link in (*self._links.values(), *([relay_link] if relay_link else [])):
                link.close()
            await asyncio.sleep(0)

    def _welcome(self, name: str) -> Ear | None:
        for session in self._sessions:
            if session.ledger.name == name:
                return session
        if len(self._sessions) >= self._expect:
            self._flag(f"generator {name} registered beyond the {self._expect} that are expected: it was not used")
            return None
        session = Session(Ledger(name=name, index=len(self._sessions)), self)
        self._sessions.append(session)
        return session

    def _duplicate(self, name: str) -> None:
        self._flag(f"a second process registered as generator {name}: it was refused")

    def _flag(self, text: str) -> None:
        if text not in self._flags:
            self._flags.append(text)

    # Desk: what sessions ask and tell

    def measuring(self, session: Session) -> bool:
        if len(self._measuring) >= MEASURING:
            self._clock_queue.append(session)
            return False
        self._measuring.add(session)
        return True

    def ready(self, session: Session) -> None:
        self._free_clock(session)
        if self.timeline is not None and session.ledger.state == "ready":
            self._ask_late(session)

    def _free_clock(self, session: Session) -> None:
        self._measuring.discard(session)
        while self._clock_queue and len(self._measuring) < MEASURING:
            following = self._clock_queue.popleft()
            if following.connected:
                self._measuring.add(following)
                following.measure()

    def again(self, session: Session) -> None:
        assert self.timeline
        if now() < self.timeline.start - 0.05:
            session.ask(session.words)
        else:
            self._ask_late(session)

    def second(self, session: Session, second: Second) -> None:
        self._frames.append((session.ledger, second))

    def hang_up(self, session: Session) -> None:
        if link := self._links.get(session):
            link.hang_up()

    # the phases

    async def _gather(self, relay_ear: RelayEar) -> None:
        """Until all are ready, or patience ends."""
        deadline = now() + self._patience
        while True:
            for session in list(self._measuring):
                if not session.connected:
                    self._free_clock(session)
            settled = [s for s in self._sessions if s.measured or s.ledger.state == "refused"]
            if len(settled) == self._expect:
                break
            if self._stop.is_set():
                raise EngineError("the coordinator", "it was stopped before the load began")
            if now() > deadline:
                break
            await asyncio.sleep(0.005)
        if not any(s.ledger.state == "ready" for s in self._sessions):
            whys = "; ".join(f"{s.ledger.name}: {s.ledger.why or s.last_error}" for s in self._sessions[:3])
            if self._relay and not self._sessions:
                whys = f"nobody registered with the relay {relay_ear.said}".strip()
            raise EngineError("the generators", f"none was ready within {self._patience:g} s: {whys}")

    def _begin(self) -> None:
        """The common instant, and what each is asked to do from then on, by its own clock."""
        lead = LEAD + min(1.0, self.plan.connections * 20e-6) + self._expect * 0.5e-3
        self.timeline = Timeline(now() + lead, self.plan.warmup, self.plan.duration)
        self._merge = Merge(self.plan, self.timeline)
        while len(self._sessions) < self._expect:  # behind a relay, those that did not come have no name
            number = len(self._sessions)
            self._sessions.append(Session(Ledger(name=f"#{number + 1}", index=number), self))
        self._save()
        for session in self._sessions:
            if session.ledger.state == "ready":
                self._ask(session, self.timeline.start, self.plan.warmup, self.plan.duration)

    def _ask(self, session: Session, start: float, warmup: float, duration: float) -> None:
        index = session.ledger.index
        start += share.phase_shift(self.plan, index, self._expect)
        words = share.words(self.plan, index, self._expect)
        at = round((start + session.ledger.offset) * 1e9)
        session.ask(words | {"start": at, "warmup": f"{warmup:.6f}s", "duration": f"{duration:.6f}s", "drain": f"{DRAIN:g}s"})

    def _ask_late(self, session: Session) -> None:
        assert self.timeline
        late = self.timeline.joined_late(now() + LEAD)
        if late is None:
            session.ledger.state, session.ledger.why = "refused", "it came when the load was all but over"
            return
        start, warmup, duration, number = late
        session.ledger.base, session.ledger.late = number, start - self.timeline.start
        self._ask(session, start, warmup, duration)

    async def _follow(self) -> LoadResult:
        assert self.timeline and self._merge
        last = self.timeline.end + DRAIN + GRACE
        looked = 0.0
        while not all(s.ledger.over or s.ledger.state == "absent" for s in self._sessions):
            await asyncio.sleep(TICK)
            self._flush()
            if now() - looked > LOOK:
                looked = now()
                self._look(last)
            self._tell_view(False)
            self._acknowledge(False)
            if self._stop.is_set():
                raise EngineError("the coordinator", "it was stopped")
        self._flush()
        self._tell_view(True)
        self._acknowledge(True)
        result = self._merge.result([s.ledger for s in self._sessions])
        refused = [s.ledger for s in self._sessions if s.ledger.state == "refused"]
        if refused and len(refused) == len(self._sessions):
            raise EngineError("the generators", refused[0].why)
        saturated = result.saturated or self._near_limit(result.seconds)
        return replace(result, flags=(*self._flags, *result.flags), saturated=saturated)

    def _near_limit(self, seconds: float) -> str:
        """Of the generators that share this machine, all together: it has no more cores for several than for one."""
        here = [s.ledger for s in self._sessions if s.ledger.done and calibrate.is_here(s.ledger.boot)]
        if not here:
            return ""
        achieved = sum(g.answered_in_time for g in here) / seconds
        threads = sum(share.threads(self.plan, g.index, self._expect) for g in here)
        return calibrate.compared(native.place(), achieved, bool(self.plan.rate), threads)

    def _flush(self) -> None:
        assert self._merge
        frames, self._frames = self._frames, []
        for i in range(0, len(frames), FLUSH):
            self._merge.take(frames[i : i + FLUSH])

    def _look(self, last: float) -> None:
        """Who is missing what, and who is given up."""
        at = now()
        for session in self._sessions:
            ledger = session.ledger
            if ledger.over or ledger.state == "absent":
                continue
            session.ask_for_missing()
            if at > last:
                if ledger.state == "done":
                    ledger.given_up = True
                else:
                    session.lose(session.last_error if not session.connected else "it did not tell its end in time")
        undone = [s for s in self._sessions if not s.ledger.over and s.ledger.state != "absent"]
        # All gone, and for longer than a network hiccup: there is nobody to wait for.
        if undone and all(s.gone_since and at - s.gone_since > GRACE for s in undone):
            for session in undone:
                session.lose(session.last_error)

    def _tell_view(self, all_of_it: bool) -> None:
        assert self.timeline and self._merge
        at = now()
        live = [s.ledger for s in self._sessions if s.ledger.state in ("asked", "accepted", "running")]
        least = min((g.base + g.next for g in live), default=None)
        planned = self.timeline.warm_seconds + self.timeline.measured_seconds
        while True:
            number = self._merge.told
            _, _, end = self.timeline.second(number)
            if not self._merge.pending and (number >= planned or all_of_it):
                return
            whole = least is not None and number < least
            if not (all_of_it or whole or at > end + VIEW):
                return
            self._out.put(self._merge.close())

    def _acknowledge(self, last: bool) -> None:
        at = now()
        ending = any(s.ledger.state == "done" and not s.ended for s in self._sessions)
        if not (last or ending or at - self._acked_at > ACK):
            return
        if ending and not last and at - self._acked_at < 4 * TICK:
            return  # many end at once: once for all of them
        self._acked_at = at
        self._save()
        for session in self._sessions:
            if session.connected and session.ledger.state in ("running", "done") and not session.ended:
                session.acknowledge()

    def _save(self) -> None:
        if not self._file or not self.timeline or not self._merge:
            return
        checkpoint.write(
            self._file,
            checkpoint.Checkpoint(
                ident=self.ident,
                plan=self.plan,
                timeline=self.timeline,
                relay=self._relay,
                expect=self._expect,
                ledgers=[s.ledger for s in self._sessions],
                merge=self._merge.state(),
                flags=self._flags,
            ),
        )

    async def _leave(self) -> None:
        """Nobody is left sending: who still is, is stopped and heard out, for a moment."""
        for session in self._sessions:
            session.stop()
        deadline = now() + DRAIN + 0.5
        while now() < deadline and any(
            s.connected and s.ledger.state in ("asked", "accepted", "running") for s in self._sessions
        ):
            await asyncio.sleep(0.01)
        for session in self._sessions:
            session.ledger.given_up = True
            if session.connected and not session.ended:
                session.acknowledge()

    def accounts(self) -> tuple[Account, ...]:
        """Of each generator, as far as is known."""
        return tuple(s.ledger.account(bool(self.plan.rate)) for s in self._sessions)
