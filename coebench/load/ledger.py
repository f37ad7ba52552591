"""One generator's account: what it said, what of that was had, and whether it adds up."""

from __future__ import annotations

import msgspec

from ..contract import Account
from . import saturation
from .frames import Counts, Done, Second, no_counts

NAMED = 3  # odd lines that are quoted; the rest is counted


class Ledger(msgspec.Struct, kw_only=True):
    """Everything that must outlive the coordinator's process, so it goes into checkpoints as it is.

    `state`: absent, ready, asked, accepted, running, done, refused, lost. `next` is the first second that is not had,
    `ahead` those beyond it that are. Counts are kept apart by the phase in which requests were planned.
    """

    name: str
    index: int
    address: tuple[str, int] | None = None  # of one that is called; None for one behind a relay
    state: str = "absent"
    base: int = 0  # the common number of its second 0; not 0 for one that came late
    offset: float = 0.0  # its clock minus ours, s
    uncertainty: float = 0.0
    pid: int = 0
    boot: str = ""  # of its machine
    late: float = 0.0  # s after the common start that it began
    next: int = 0
    ahead: set[int] = set()
    warm: Counts = msgspec.field(default_factory=no_counts)
    main: Counts = msgspec.field(default_factory=no_counts)
    ok_in_time: int = 0
    last: float = 0.0  # the end of the latest second that is had, harness's clock
    done: Done | None = None
    repeats: int = 0
    odd: int = 0
    reconnects: int = 0
    steps: list[float] = []  # s, of its wall clock
    notes: list[str] = []
    why: str = ""  # of "refused" and "lost"
    given_up: bool = False  # what is missing will not come

    @property
    def over(self) -> bool:
        """Nothing more is expected of it."""
        return self.state in ("refused", "lost") or (self.state == "done" and (self.given_up or not self.missing))

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of seconds that should have come and have not."""
        beyond = max(self.ahead, default=self.next - 1) + 1
        end = max(beyond, self.done.seconds) if self.done else beyond
        return tuple(n for n in range(self.next, end) if n not in self.ahead)

    def had(self, seq: int) -> bool:
        return seq < self.next or seq in self.ahead

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def is_odd(self, what: str) -> None:
        """A line that can't be used."""
        self.odd += 1
        if self.odd <= NAMED:
            self.note(f"odd line: {what[:120]}")

    def take(self, second: Second) -> None:
        """Count a second that was not had before."""
        mine, other = (self.warm, self.main) if second.phase == "warmup" else (self.main, self.warm)
        mine.add(second)
        if second.other:
            mine.add(second.other, -1)
            other.add(second.other)
        if second.phase == "measured":
            self.ok_in_time += second.ok
        self.last = max(self.last, second.at / 1e9 - self.offset)
        self.ahead.add(second.seq)
        while self.next in self.ahead:
            self.ahead.discard(self.next)
            self.next += 1

    def unbalanced(self) -> str:
        """Why its own figures contradict each other, in words; empty if they add up."""
        done = self.done
        if done is None:
            return ""
        for what, counts, flying in (("measured", done, done.in_flight), ("warm-up", done.warmup, done.warmup.in_flight)):
            if counts.planned != counts.sent + counts.unsent:
                return f"{what}: planned {counts.planned} is not sent {counts.sent} + unsent {counts.unsent}"
            if counts.sent != counts.ok + counts.failed + flying:
                return f"{what}: sent {counts.sent} is not {counts.ok} good + {counts.failed} errors + {flying} unanswered"
        if not self.missing:
            if self.main.figures() != Counts.figures(done):
                return f"its seconds sum up to {self.main.figures()}, its end says {Counts.figures(done)}"
            if self.warm.figures() != done.warmup.figures():
                return f"its warm-up's seconds sum up to {self.warm.figures()}, its end says {done.warmup.figures()}"
        return ""

    def figures(self) -> tuple[Counts, int]:
        """Counts of the measured phase, and how many of the sent were neither good nor failed.

        Of one that was lost: what its seconds say. What was due and is not known to have been sent counts as unsent, what
        was sent and is not known to have been answered as unanswered, so that sums hold for it too.
        """
        if self.done:
            return self.done, self.done.in_flight
        told = msgspec.structs.replace(self.main, unsent=self.main.planned - self.main.sent)
        return told, told.sent - told.ok - told.failed

    @property
    def answered_in_time(self) -> int:
        """Good answers within the measured time. Its end knows them too, where seconds never came."""
        if self.done and self.missing:
            return round(self.done.achieved_rps * (self.done.measured_to - self.done.measured_from) / 1e9)
        return self.ok_in_time

    def account(self, open_loop: bool) -> Account:
        counts, in_flight = self.figures()
        done = self.done
        return Account(
            name=self.name,
            state=self.state,
            why=self.why,
            offset=self.offset,
            uncertainty=self.uncertainty,
            late=self.late,
            seconds=self.next + len(self.ahead),
            missing=self.missing,
            repeats=self.repeats,
            reconnects=self.reconnects,
            clock_steps=tuple(self.steps),
            planned=counts.planned,
            sent=counts.sent,
            ok=counts.ok,
            errors=counts.errors,
            unsent=counts.unsent,
            inflight=in_flight,
            cpu=done.cpu if done else 0.0,
            throttled_ms=done.throttled_ms if done else None,
            saturated=saturation.reason(msgspec.structs.asdict(done), open_loop) if done else "",
            notes=tuple(self.notes),
        )

    def flags(self, late_limit: float) -> list[str]:
        """What was not as planned, a sentence each, with its name."""
        said: list[str] = []
        me = f"generator {self.name}"
        if self.state == "absent":
            said.append(f"{me} never came")
        elif self.state == "refused":
            said.append(f"{me} refused: {self.why}")
        elif self.state == "lost":
            said.append(f"{me} was lost after {self.next} s of load: {self.why}")
        if self.late > late_limit:
            said.append(f"{me} began {self.late:.3f} s late")
        if self.done and self.missing:
            said.append(f"{me}: seconds {_ranges(self.missing)} never came; counts are from its end, its latencies lack them")
        elif self.missing:
            said.append(f"{me}: seconds {_ranges(self.missing)} never came")
        if odd := self.unbalanced():
            said.append(f"{me} does not add up: {odd}")
        if self.odd:
            said.append(f"{me} sent {self.odd} lines that can't be read; {'; '.join(self.notes[:NAMED])}")
        if self.steps:
            said.append(f"{me}: its wall clock was set, by {', '.join(f'{s:+.3f} s' for s in self.steps[:3])}")
        if self.done and self.done.stopped:
            said.append(f"{me} was stopped before its end")
        return said


def _ranges(numbers: tuple[int, ...]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in parts)
