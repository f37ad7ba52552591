"""What a generator says, read with its types: whatever is not that is odd, and is named, never guessed at."""

from __future__ import annotations

import msgspec

Errors = dict[str, int]


class Counts(msgspec.Struct, kw_only=True):
    """Requests, by what became of them. `planned = sent + unsent`, `sent = ok + errors + in flight`, when all is over."""

    planned: int
    sent: int
    ok: int
    errors: Errors = {}
    unsent: int
    bytes: int = 0

    def add(self, other: Counts, sign: int = 1) -> None:
        self.planned += sign * other.planned
        self.sent += sign * other.sent
        self.ok += sign * other.ok
        self.unsent += sign * other.unsent
        self.bytes += sign * other.bytes
        if other.errors:
            self.errors = {
                kind: count
                for kind in self.errors | other.errors
                if (count := self.errors.get(kind, 0) + sign * other.errors.get(kind, 0))
            }

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def figures(self) -> tuple[int, int, int, int, Errors]:
        return self.planned, self.sent, self.ok, self.unsent, self.errors


def no_counts() -> Counts:
    return Counts(planned=0, sent=0, ok=0, unsent=0)


class Other(Counts, kw_only=True):
    """Of a second: what was planned in the other phase (after the warm-up: in the warm-up; else in the measured time)."""

    latency: str
    raw: str
    lag: str


class Second(Counts, kw_only=True):
    """A `second` event. Times are ns of the generator's clock."""

    seq: int
    phase: str
    begin: int = msgspec.field(name="from")
    at: int
    in_flight: int
    backlog: int = 0
    cpu: float = 0.0
    cpu_busiest: float = 0.0
    latency: str
    raw: str
    lag: str
    other: Other | None = None


class Warmup(Counts, kw_only=True):
    in_flight: int = 0


class PerTarget(msgspec.Struct, kw_only=True):
    ok: int
    sent: int = 0
    errors: Errors = {}
    in_flight: int = 0
    latency_ms: dict[str, float | None] = {}
    latency: str = ""


class Done(Counts, kw_only=True):
    """A `done` event: the measured phase's counts, and the warm-up's."""

    measured_from: int
    measured_to: int
    seconds: int  # `second` events that there were
    stopped: bool = False
    in_flight: int
    warmup: Warmup
    offered_rps: float
    achieved_rps: float
    latency_ms: dict[str, float | None] = {}
    raw_latency_ms: dict[str, float | None] = {}
    send_lag_ms: dict[str, float | None] = {}
    connections: int = 0
    cpu: float = 0.0
    cpu_busiest: float = 0.0
    throttled_ms: float | None = None
    throttled_periods: int | None = None
    periods: int | None = None
    uncovered: int = 0
    targets: dict[str, PerTarget] = {}


class Head(msgspec.Struct):
    """What every event has; the rest depends on its kind."""

    event: str
    id: str | None = None


class Told(msgspec.Struct, kw_only=True):
    """The events that are not figures, in one."""

    event: str
    id: str | None = None
    now: int = 0
    nonce: int = 0
    pid: int = 0
    proto: int = 0
    version: str = ""
    boot: str = ""
    name: str = ""
    message: str = ""
    at: int = 0
    late_ms: float = 0.0
    ns: int = 0


class Odd(ValueError):
    """A line that a generator can't have meant."""


_HEAD = msgspec.json.Decoder(Head)
_SECOND = msgspec.json.Decoder(Second)
_DONE = msgspec.json.Decoder(Done)
_TOLD = msgspec.json.Decoder(Told)
_START = b'{"event":"second",'  # how coeload begins the lines that matter for speed


def read(line: bytes) -> Told | Second | Done:
    """One line. Raises Odd."""
    try:
        if line.startswith(_START):
            second = _SECOND.decode(line)
            check(second)
            return second
        head = _HEAD.decode(line)
        if head.event == "second":
            second = _SECOND.decode(line)
            check(second)
            return second
        return _DONE.decode(line) if head.event == "done" else _TOLD.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise Odd(str(e)) from None


def check(second: Second) -> None:
    """Whether a second can be one at all. Raises Odd."""
    if second.phase not in ("warmup", "measured", "drain"):
        raise Odd(f"phase {second.phase!r}")
    numbers = (second.seq, second.planned, second.sent, second.ok, second.unsent, second.in_flight, *second.errors.values())
    if min(numbers) < 0 or second.at < second.begin:
        raise Odd("a negative number")
