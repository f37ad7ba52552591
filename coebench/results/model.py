"""The result: what `--json` prints, what `result.json` holds, and all that a report may read.

Numbers that do not exist are null, never NaN or infinity, which JSON has not. Times are in seconds unless a metric's
`unit` says otherwise; memory is in bytes; `subject` is always a name of `bays`, a column of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..contract import Better

SCHEMA = "coebench.result/1"


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a bay. `cpu` in cores, 0 where hosts share the machine by weight; `memory` in bytes."""

    name: str
    role: str
    cpu: float = 0.0
    memory: int = 0


class BayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What stood behind one column.

    `ready`: the seconds that each bay of this subject took to be ready. `timeout_profile`: "stock" or "harmonised".
    `timeouts`: those in force, by the engine's own names. `notes`: what is not the upstream's, or not as usual.
    """

    coe: str
    engine: str = ""
    version: str = ""
    components: Mapping[str, str] = {}
    nodes: int = 0
    controls: int = 0
    hosts: tuple[HostFacts, ...] = ()
    provisioner: str = ""
    options: Mapping[str, Any] = {}
    network: str = ""
    timeout_profile: str = ""
    timeouts: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()
    ready: tuple[float, ...] = ()
    baseline: bool = False  # no COE: stands beside the others, and is never called best


class Harness(msgspec.Struct, frozen=True, kw_only=True):
    """What measuring cost. `cores`: CPU seconds of the harness by second of the run; `share` of one core, the same as a
    percentage of the wall time; `by_scenario` in cores. Null where it was not measured."""

    cores: float | None = None
    share: float | None = None
    wall: float | None = None
    by_scenario: Mapping[str, Any] = {}


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found different between columns that were the same thing (`--aa`): the noise floor.

    `different` of `compared` comparisons called a difference; `largest` is the largest ratio among all of them.
    """

    compared: int
    different: int
    expected: float  # how many of `compared` chance alone may call different, at the level used
    largest: float | None = None
    found: tuple[str, ...] = ()


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which run. `started` and `ended` are ISO 8601 in UTC; `order` are trial ids in the planned order; `complete` is
    false for a run that ended before its plan did."""

    id: str
    started: str = ""
    ended: str = ""
    seconds: float = 0.0
    command: tuple[str, ...] = ()
    seed: int = 0
    blocks: int = 0
    profile: str = ""
    order: tuple[str, ...] = ()
    complete: bool = True
    folder: str = ""
    harness: Harness = Harness()
    host: Mapping[str, Any] = {}
    version: str = ""
    noise: Noise | None = None
    stopped: str = ""  # why the run ended before its plan's last block, where it was meant to


class SampleValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One trial's value. `censored`: the truth is above `value`. `limited`: the generator was the limit."""

    trial: str
    block: int
    value: float
    censored: bool = False
    limited: bool = False


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of the table.

    median: null where there is no sample, or where it lies among the censored; then `above` is what it is above.
    low, high: interval of the median, at `level`; null where there is none (n < 2) or where that side has no end.
        With few trials no interval of the median reaches 95 %: then they are the smallest and the largest value, and
        `level` says what that is worth (n = 5: 0.9375, n = 3: 0.75).
    n: trials with a value, censored ones too. failed: trials that failed before they had one; timed_out: trials that a
        timeout ended before this was asked (nothing is known of it, unlike a censored one). skipped: the COE can't do it.
    mad: median absolute deviation, in the metric's unit.
    lower_bound: set where the truth may be higher than the figure, with the reason (a saturated generator).
    limited: set where a generator at its limit spoilt the figure in a way that has no direction.
    unstable: set where the values scatter so much that the figure should not be quoted; says what to do.
    polled: set where the watch polled, with how: the figure may be late by `poll` seconds, if that is
        known. Both are left out of the JSON where the engine told of changes.
    """

    median: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    above: float | None = None
    mad: float | None = None
    n: int = 0
    censored: int = 0
    failed: int = 0
    timed_out: int = 0
    skipped: int = 0
    samples: tuple[SampleValue, ...] = ()
    lower_bound: str | None = None
    limited: str | None = None
    unstable: str | None = None
    polled: str | msgspec.UnsetType = msgspec.UNSET
    poll: float | msgspec.UnsetType = msgspec.UNSET


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """How two columns compare: `a`'s median over `b`'s, and the interval in which that ratio lies.

    The intervals of all pairs of one metric hold together at 95 % (simultaneously), and `distinguishable` says that
    this one leaves out 1. `ratio` is null where one median is unknown; `low` or `high` where that side has no end.
    `reason` says why no verdict could be had, where none could.
    """

    a: str
    b: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    distinguishable: bool = False
    paired: bool = False
    reason: str = ""


class MetricResult(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a metric at one setting of the factors. `claim_of`: it is the engine's own account of that metric.

    `best`: the subject that is better than every other, distinguishably and without failed trials; else null.
    """

    scenario: str
    name: str
    unit: str
    better: Better
    title: str
    definition: str = ""
    factors: Mapping[str, str | int | float] = {}
    claim_of: str = ""
    values: Mapping[str, Values] = {}
    best: str | None = None
    ratios: tuple[Ratio, ...] = ()


class ScenarioInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario of the run and the question that it puts. `published`: sentences of what others published for it."""

    name: str
    question: str = ""
    published: tuple[str, ...] = ()


class TrialResult(msgspec.Struct, frozen=True, kw_only=True):
    """One trial. `status`: ok, failed, timeout, skipped, interrupted. `evidence`: tail of a log, where there is one. `flag`:
    what must be known of a trial that is ok all the same."""

    id: str
    block: int
    subject: str
    scenario: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    evidence: str = ""
    flag: str = ""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that was put to a result (`--fail-if`), and what became of it. `reason`: the figures that decided it."""

    text: str
    passed: bool
    reason: str = ""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `gates` are those that were asked for with this report: a run folder's own result has none."""

    schema: str = SCHEMA
    run: RunInfo
    bays: Mapping[str, BayResult] = {}
    scenarios: tuple[ScenarioInfo, ...] = ()
    metrics: tuple[MetricResult, ...] = ()
    trials: tuple[TrialResult, ...] = ()
    warnings: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether every planned trial came to its end: what exit code 0 says. What a COE can't do was not planned."""
        return self.run.complete and all(t.status in ("ok", "skipped") for t in self.trials)


def encode(result: Result) -> bytes:
    """The result as JSON, indented, with a newline at its end: byte-identical for equal results."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"


def decode(data: bytes | str) -> Result:
    """The result of its JSON. Fields of a later minor addition are passed over.

    Raises msgspec.DecodeError (malformed), msgspec.ValidationError (not a result); the schema's number is checked by
    `results.folder`, which can name the file.
    """
    return msgspec.json.decode(data, type=Result)
