"""Seconds of many generators into one: each counted once, however often and in whatever order it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from ..contract import Account, AtTarget, Burst, EngineError, LoadPlan, LoadResult
from . import hdr
from .frames import Counts, Odd, PerTarget, Second, no_counts
from .ledger import Ledger
from .timeline import Timeline

PARTS = ("latency", "raw", "lag")
TOLD = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
TOLD_AT_TARGET = ("p50", "p99", "max")  # a run's record has this of every target of every load: little
LATE = 0.1  # s after the common start from which a generator is called late
SPLIT = 128  # histograms that are decoded at once: their numbers stay in the processor's cache


class Open(msgspec.Struct, kw_only=True):
    """A second that is not told yet."""

    row: int  # the first of its PARTS rows
    counts: Counts = msgspec.field(default_factory=no_counts)
    in_flight: int = 0
    cpu: float = 0.0
    generators: int = 0
    end: float = 0.0  # of the latest that is in it, harness's clock


class Merge:
    """`take` seconds, `close` each in turn for the view, `result` in the end. Not safe for several threads."""

    def __init__(self, plan: LoadPlan, timeline: Timeline) -> None:
        self._plan = plan
        self.timeline = timeline
        self.told = 0  # seconds before this number have been closed
        self.overdue = 0  # seconds of single generators that came after theirs was closed
        self._open: dict[int, Open] = {}
        self._free: list[int] = []
        # Rows of histograms: first the sum of the measured phase, then PARTS for each second that is open.
        self._rows = np.zeros((len(PARTS), hdr.SLOTS), np.int64)

    def take(self, batch: Iterable[tuple[Ledger, Second]]) -> int:
        """Count those that were not had before; returns how many. What can't be read is noted as odd and not had."""
        work: list[_Job] = []
        chosen: set[tuple[str, int]] = set()
        taken = 0
        for ledger, second in batch:
            key = (ledger.name, second.seq)
            if ledger.had(second.seq) or key in chosen:
                ledger.repeats += 1
                continue
            try:
                job = self._job(ledger, second)
            except (hdr.OddHistogram, Odd) as e:
                ledger.is_odd(f"second {second.seq}: {e}")
                continue
            chosen.add(key)
            work.append(job)
            taken += 1
            if sum(len(j.payloads) for j in work) >= SPLIT:
                self._add(work)
                work = []
        self._add(work)
        return taken

    def _job(self, ledger: Ledger, second: Second) -> _Job:
        payloads = [hdr.payload(p) for p in (second.latency, second.raw, second.lag)]
        if other := second.other:
            payloads += [hdr.payload(p) for p in (other.latency, other.raw, other.lag)]
        return _Job(ledger, second, payloads)

    def _add(self, work: list[_Job]) -> None:
        if not work:
            return
        try:
            self._add_all(work)
        except hdr.OddHistogram:
            for job in work:  # find the one; none of them has been added
                try:
                    self._add_all([job])
                except hdr.OddHistogram as e:
                    job.ledger.is_odd(f"second {job.second.seq}: {e}")

    def _add_all(self, work: list[_Job]) -> None:
        payloads: list[bytes] = []
        rows: list[int] = []
        signs: list[int] = []
        for job in work:
            row = self._row(job.ledger.base + job.second.seq, job.second.phase)
            job.seen = row is not None
            if row is None and job.second.phase != "warmup":
                row = 0  # straight into the sum
            if row is not None:
                payloads += job.payloads[:3]
                rows += (row, row + 1, row + 2)
                signs += (1, 1, 1)
            if job.second.other:
                payloads += job.payloads[3:]
                rows += (0, 1, 2)
                signs += (1, 1, 1) if job.second.phase == "warmup" else (-1, -1, -1)
        if payloads:
            hdr.add_many(self._rows, payloads, rows, signs)
        for job in work:
            self._count(job.ledger, job.second, job.seen)

    def _count(self, ledger: Ledger, second: Second, seen: bool) -> None:
        ledger.take(second)
        if not seen:
            self.overdue += 1
            return
        entry = self._open[ledger.base + second.seq]
        entry.counts.add(second)
        entry.in_flight += second.in_flight
        entry.cpu += second.cpu
        entry.generators += 1
        entry.end = max(entry.end, second.at / 1e9 - ledger.offset)

    def _row(self, number: int, phase: str) -> int | None:
        """The rows of an open second; None for one that is closed, or of another phase (of a load that was stopped)."""
        if number < self.told or self.timeline.second(number)[0] != phase:
            return None
        entry = self._open.get(number)
        if entry is None:
            if not self._free:
                rows = len(self._rows)
                self._rows = np.concatenate([self._rows, np.zeros((4 * len(PARTS), hdr.SLOTS), np.int64)])
                self._free = list(range(rows, len(self._rows), len(PARTS)))
            entry = self._open[number] = Open(row=self._free.pop())
        return entry.row

    @property
    def pending(self) -> bool:
        """Whether a second is open."""
        return bool(self._open)

    def close(self) -> Burst:
        """The next second in turn, as far as it has come; what of it comes later counts in the result alone."""
        phase, begin, end = self.timeline.second(self.told)
        entry = self._open.pop(self.told, None)
        self.told += 1
        if entry is None:
            return Burst(at=end, seconds=end - begin, phase=phase, planned=0, sent=0, ok=0, generators=0)
        rows = self._rows[entry.row : entry.row + len(PARTS)]
        if phase == "drain":
            end = entry.end  # as soon as the last answer is in
        burst = Burst(
            at=end,
            seconds=end - begin,
            phase=phase,
            planned=entry.counts.planned,
            sent=entry.counts.sent,
            ok=entry.counts.ok,
            errors=entry.counts.errors,
            unsent=entry.counts.unsent,
            in_flight=entry.in_flight,
            cpu=entry.cpu,
            latency=hdr.encode(rows[0]),
            raw=hdr.encode(rows[1]),
            latency_ms=_percentiles(rows[0], 0),
            generators=entry.generators,
        )
        if phase != "warmup":
            self._rows[: len(PARTS)] += rows
        rows[:] = 0
        self._free.append(entry.row)
        return burst

    def result(self, ledgers: list[Ledger]) -> LoadResult:
        """What came of the plan. Every second must have been closed. Raises EngineError if no generator told of any."""
        open_loop = bool(self._plan.rate)
        done = [g.done for g in ledgers if g.done]
        heard = [g for g in ledgers if g.done or g.next or g.ahead]
        if not heard:
            whys = "; ".join(f"{g.name}: {g.why or g.state}" for g in ledgers[:3])
            raise EngineError("the generators", f"none of {len(ledgers)} sent any load: {whys}")
        counts, flying = no_counts(), 0
        in_time = 0
        cpu = 0.0
        for ledger in heard:
            mine, in_flight = ledger.figures()
            counts.add(mine)
            flying += in_flight
            in_time += ledger.answered_in_time
            if end := ledger.done:
                cpu += end.cpu
        seconds = self._seconds(heard)
        complete = len(done) == len(heard) and not any(g.missing for g in ledgers)
        targets = by_target((g.done.targets, g.is_odd) for g in heard if g.done)
        throttled = [d.throttled_ms for d in done if d.throttled_ms is not None]
        accounts = tuple(g.account(open_loop) for g in ledgers)
        return LoadResult(
            tool="coeload",
            seconds=seconds,
            planned=counts.planned,
            sent=counts.sent,
            ok=counts.ok,
            errors=counts.errors,
            unsent=counts.unsent,
            inflight=flying,
            offered_rps=counts.planned / seconds,
            achieved_rps=in_time / seconds,
            latency_ms=self._percentiles(0, [d.latency_ms for d in done] if complete else None),
            raw_ms=self._percentiles(1, [d.raw_latency_ms for d in done] if complete else None),
            lag_ms=self._percentiles(2, [d.send_lag_ms for d in done] if complete else None),
            cpu=cpu,
            throttled_ms=sum(throttled) if throttled else None,
            saturated=_saturated(accounts),
            per_target={n: t.ok for n, t in targets.items()} if len(done) == len(heard) else {},  # a part would not add up
            targets=targets,
            histogram=hdr.encode(self._rows[0]),
            raw_histogram=hdr.encode(self._rows[1]),
            accounts=accounts,
            flags=tuple(self._flags(ledgers, counts, flying)),
        )

    def _seconds(self, heard: list[Ledger]) -> float:
        """Over which all rates are: the plan's, whoever came late or was lost; less only if all were stopped before its end."""
        ends = [g.done.measured_to / 1e9 - g.offset for g in heard if g.done and g.done.stopped]
        length = max(ends) - self.timeline.measured if len(ends) == len(heard) else 0.0
        return length if 0 < length < self._plan.duration else self._plan.duration

    def _flags(self, ledgers: list[Ledger], counts: Counts, flying: int) -> Iterable[str]:
        for ledger in ledgers:
            yield from ledger.flags(LATE)
        if counts.planned != counts.sent + counts.unsent or counts.sent != counts.ok + counts.failed + flying:
            yield (
                f"the sum does not add up: planned {counts.planned}, sent {counts.sent}, unsent {counts.unsent}, "
                f"good {counts.ok}, errors {counts.failed}, unanswered {flying}"
            )
        if beyond := hdr.beyond(self._rows[0]):
            yield f"{beyond} latencies are {hdr.HIGHEST / 1e9:.0f} s or more: their figures are lower bounds"
        counted = int(self._rows[0].sum())
        if counted != counts.ok and not any(g.missing for g in ledgers):
            yield f"the sum does not add up: {counted} latencies of {counts.ok} good answers"

    def _percentiles(self, row: int, exact: list[dict[str, float | None]] | None) -> dict[str, float]:
        """In ms. `exact` are the generators' own figures, for the greatest value to the nanosecond; None where one lacks."""
        greatest = max((round((m.get("max") or 0) * 1e6) for m in exact), default=0) if exact else 0
        return _percentiles(self._rows[row], greatest)

    # checkpoints

    def state(self) -> dict[str, Any]:
        """All that is not in the ledgers."""
        return {
            "told": self.told,
            "overdue": self.overdue,
            "sum": [hdr.encode(self._rows[i]) for i in range(len(PARTS))],
            "open": {
                str(n): {
                    "counts": msgspec.to_builtins(o.counts),
                    "in_flight": o.in_flight,
                    "cpu": o.cpu,
                    "generators": o.generators,
                    "end": o.end,
                    "rows": [hdr.encode(self._rows[o.row + i]) for i in range(len(PARTS))],
                }
                for n, o in self._open.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` was told of. Raises OddHistogram and others for what it never told."""
        self.told, self.overdue = state["told"], state["overdue"]
        for i, text in enumerate(state["sum"]):
            self._rows[i] = hdr.decode(text)
        for number, entry in state["open"].items():
            row = self._row(int(number), self.timeline.second(int(number))[0])
            assert row is not None
            mine = self._open[int(number)]
            mine.counts = msgspec.convert(entry["counts"], Counts)
            mine.in_flight, mine.cpu, mine.generators = entry["in_flight"], entry["cpu"], entry["generators"]
            mine.end = entry["end"]
            for i, text in enumerate(entry["rows"]):
                self._rows[row + i] = hdr.decode(text)


def by_target(ends: Iterable[tuple[Mapping[str, PerTarget], Callable[[str], None]]]) -> dict[str, AtTarget]:
    """What generators told of each target, added up; with each of them, what is told of a histogram that can't be read."""
    told: dict[str, list[tuple[PerTarget, bytes]]] = {}
    for targets, is_odd in ends:
        for name, target in targets.items():
            try:
                packed = hdr.payload(target.latency) if target.latency else b""
                hdr.add_many(np.zeros((1, hdr.SLOTS), np.int64), [packed], [0], [1])
            except hdr.OddHistogram as e:
                is_odd(f"target {name}: {e}")
                packed = b""
            told.setdefault(name, []).append((target, packed))
    return {name: _at_target(parts) for name, parts in told.items()}


def _at_target(parts: list[tuple[PerTarget, bytes]]) -> AtTarget:
    counts, sums = hdr.empty(), no_counts()
    hdr.add_many(counts[None], [packed for _, packed in parts], [0] * len(parts), [1] * len(parts))
    for part, _ in parts:
        sums.add(Counts(planned=0, sent=part.sent, ok=part.ok, errors=part.errors, unsent=0))
    greatest = max(round((p.latency_ms.get("max") or 0) * 1e6) for p, _ in parts)
    found = _percentiles(counts, greatest)
    return AtTarget(
        sent=sums.sent,
        ok=sums.ok,
        errors=sums.errors,
        inflight=sum(p.in_flight for p, _ in parts),
        latency_ms={k: v for k, v in found.items() if k in TOLD_AT_TARGET},
    )


class _Job:
    __slots__ = ("ledger", "payloads", "second", "seen")

    def __init__(self, ledger: Ledger, second: Second, payloads: list[bytes]) -> None:
        self.ledger, self.second, self.payloads = ledger, second, payloads
        self.seen = False  # by the view


def _percentiles(counts: hdr.Counts, greatest: int) -> dict[str, float]:
    """In ms; `greatest` in ns, 0 if it isn't known but by its slot."""
    if not counts.any():
        return {}
    return {name: hdr.percentile(counts, p, greatest) / 1e6 for name, p in TOLD.items()}


def _saturated(accounts: tuple[Account, ...]) -> str:
    """The reason of one generator; of several, who and how many."""
    limited = [a for a in accounts if a.saturated]
    if not limited:
        return ""
    if len(accounts) == 1:
        return limited[0].saturated
    return f"{len(limited)} of {len(accounts)} generators; {limited[0].name}: {limited[0].saturated}"
