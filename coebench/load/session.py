"""The conversation with one generator: who are you, what is your clock, do this, what have you done.

States go one way (see `Ledger.state`); a connection may come and go at any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..contract import now
from .agent import request_line
from .frames import Done, Odd, Second, Told, read
from .ledger import Ledger

PINGS = 8
PROTO = 1
ASK_AGAIN = 1.0  # s until missing seconds are asked for again
ODD_LIMIT = 20  # lines that can't be read in a row: then the connection is no use


class Desk(Protocol):
    """What a session needs of its coordinator."""

    ident: str

    def ready(self, session: Session) -> None:
        """Its clock is known."""

    def measuring(self, session: Session) -> bool:
        """Whether it may measure its clock now; if not, it will be called when it may."""

    def again(self, session: Session) -> None:
        """It has no load, though it was asked: ask again."""

    def second(self, session: Session, second: Second) -> None: ...
    def hang_up(self, session: Session) -> None: ...


class Session:
    """An `Ear` that keeps a ledger."""

    def __init__(self, ledger: Ledger, desk: Desk) -> None:
        self.ledger = ledger
        self._desk = desk
        self._send: Callable[[bytes], None] | None = None
        self.words: dict[str, Any] = {}  # of its load request, once it is known
        self.gone_since = now()
        self.last_error = "it was never reached"
        self._pings = 0
        self._sent_at = 0.0
        self._best = float("inf")
        self._odd = 0
        self._asked_at = 0.0
        self.measured = False
        self.ended = False  # its end was acknowledged

    # the link's side

    def up(self, send: Callable[[bytes], None]) -> None:
        if self.ledger.pid:
            self.ledger.reconnects += 1
        self._send = send
        self.gone_since = 0.0
        self._odd = 0
        self._tell("hello")

    def down(self, why: str) -> None:
        self._send = None
        self.last_error = why
        self.measured = False
        self.gone_since = self.gone_since or now()

    @property
    def connected(self) -> bool:
        return self._send is not None

    def line(self, line: bytes) -> None:
        if not line:
            return
        try:
            event = read(line)
        except Odd as e:
            self.ledger.is_odd(str(e))
            self._odd += 1
            if self._odd >= ODD_LIMIT:
                self._desk.hang_up(self)
            return
        self._odd = 0
        if isinstance(event, Second):
            self._second(event)
        elif isinstance(event, Done):
            self._done(event)
        else:
            self._told(event)

    def _told(self, event: Told) -> None:
        if event.event == "hello":
            self._hello(event)
        elif event.event == "pong":
            self._pong(event)
        elif event.event == "clock_step":
            self.ledger.steps.append(event.ns / 1e9)
        elif event.event == "error":
            self._error(event)
        elif event.id != self._desk.ident:
            pass
        elif event.event == "accepted" and self.ledger.state == "asked":
            self.ledger.state = "accepted"
        elif event.event == "started":
            self._started(event)

    def _hello(self, event: Told) -> None:
        ledger = self.ledger
        if event.proto != PROTO:
            ledger.state, ledger.why = "refused", f"it speaks version {event.proto} of the protocol, not {PROTO}: rebuild it"
            return
        if ledger.pid and ledger.pid != event.pid and ledger.state in ("asked", "accepted", "running"):
            ledger.note(f"another process answers: {event.pid}, it was {ledger.pid}")
        ledger.pid, ledger.boot = event.pid, event.boot
        if ledger.state in ("absent", "ready", "asked", "accepted", "running") and self._desk.measuring(self):
            self.measure()
        if ledger.state in ("asked", "accepted", "running", "done"):
            self._tell("attach", id=self._desk.ident)

    # the clock: as NTP does, by the shortest of several round trips, uncertain by half of it

    def measure(self) -> None:
        self._pings, self._best = 0, float("inf")
        self._ping()

    def _ping(self) -> None:
        self._sent_at = now()
        self._tell("ping", id="clock")

    def _pong(self, event: Told) -> None:
        if event.id != "clock" or not self._sent_at:
            return
        back = now()
        trip = back - self._sent_at
        if trip < self._best:
            self._best = trip
            if self.ledger.state in ("absent", "ready") or not self.ledger.uncertainty:
                self.ledger.offset = event.now / 1e9 - (self._sent_at + back) / 2
                self.ledger.uncertainty = trip / 2
        self._sent_at = 0.0
        self._pings += 1
        if self._pings < PINGS:
            self._ping()
        else:
            self.measured = True
            if self.ledger.state == "absent":
                self.ledger.state = "ready"
            self._desk.ready(self)

    # the load

    def ask(self, words: dict[str, Any]) -> None:
        """Send the load request."""
        self.words = words
        self.ledger.state = "asked"
        self._tell("load", id=self._desk.ident, acked=1, **words)

    def _error(self, event: Told) -> None:
        ledger = self.ledger
        if event.id not in (None, self._desk.ident) or "no generator of this name" in event.message:
            return  # the relay says that it left: it will also say when it is back
        if "there is no job" in event.message:
            if ledger.state == "asked":
                self._desk.again(self)  # the request was lost with its connection
            elif ledger.state in ("accepted", "running"):
                self.lose("its process ended and another took its place, without the load")
        elif "is in use" in event.message and ledger.state == "asked":
            self._tell("attach", id=self._desk.ident)
        elif ledger.state in ("asked", "accepted"):
            ledger.state, ledger.why = "refused", event.message
        else:
            ledger.note(event.message)

    def lose(self, why: str) -> None:
        if not self.ledger.over:
            self.ledger.state, self.ledger.why = "lost", why

    def _started(self, event: Told) -> None:
        ledger = self.ledger
        if ledger.state in ("asked", "accepted"):
            ledger.state = "running"
        ledger.late += event.late_ms / 1e3

    def _second(self, event: Second) -> None:
        if self.ledger.state in ("asked", "accepted"):
            self.ledger.state = "running"
        self._desk.second(self, event)

    def _done(self, event: Done) -> None:
        if self.ledger.state in ("asked", "accepted", "running"):
            self.ledger.done = event
            self.ledger.state = "done"

    def ask_for_missing(self) -> None:
        """Seconds that should have come and did not: a relay dropped them, or a restart did."""
        at = now()
        if self.connected and self.ledger.missing and at - self._asked_at > ASK_AGAIN:
            self._asked_at = at
            self._tell("attach", id=self._desk.ident, since=self.ledger.next)

    def acknowledge(self) -> None:
        """What is had it need not keep. Lost acknowledgements do no harm: the next one says it again."""
        end = {"end": 1} if self.ledger.over and self.connected else {}
        self.ended = bool(end)
        self._tell("ack", id=self._desk.ident, next=self.ledger.next, **end)

    def stop(self) -> None:
        if self.ledger.state in ("asked", "accepted", "running", "lost"):
            self._tell("stop", id=self._desk.ident)

    def _tell(self, verb: str, **words: Any) -> None:
        if self._send:
            self._send(request_line(verb, words))
