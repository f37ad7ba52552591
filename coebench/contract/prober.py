"""The eyes inside the bay: what a client there would see, and when; and the requests that a client there would send."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec


class Target(msgspec.Struct, frozen=True):
    """One address to be asked."""

    address: str
    port: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the prober saw of one target. Times are on the harness's clock, in seconds since the epoch.

    `kind`: "up" (first good answer, or good again), "changed" (another instance or version answers), "down" (it had been
    up), "failure" (one failed request after the first good answer).
    """

    watch: str
    kind: str
    at: float  # the answer's last byte, or when the failure was known
    sent: float  # when that request began
    target: Target
    instance: str = ""
    version: str = ""
    started: float = 0.0  # when the instance says that its process began (its node's clock), 0 if it doesn't say
    tries: int = 0
    error: str = ""


class Mishap(msgspec.Struct, frozen=True, kw_only=True):
    """A request that failed, or whose good answer was slow. Times are on the harness's clock, in seconds since the epoch."""

    planned: float
    sent: float
    ended: float  # when it was known
    kind: str  # "refused", "reset", "timeout", …; "slow" for a good answer
    target: str  # "address:port"


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """One second of load as a generator counted it, told as soon as it is over: a scenario observes it as `load.second`.

    `at` is its end, in seconds since the epoch on the harness's clock; `seconds` its length. `phase`: "warmup",
    "measured" or "drain" (what is answered after the end). Histograms are HdrHistogram V2, base64, in nanoseconds.
    """

    at: float
    planned: int
    sent: int
    ok: int
    seconds: float = 1.0
    phase: str = "measured"
    errors: Mapping[str, int] = {}
    unsent: int = 0
    in_flight: int = 0
    cpu: float = 0.0  # cores
    latency: str = ""
    raw: str = ""
    latency_ms: Mapping[str, float] = {}
    generators: int = 1  # that are in it
    mishaps: tuple[Mishap, ...] = ()  # in the order in which they ended; `untold` are those that were too many to tell
    untold: int = 0


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `rate` 0 is a closed loop: each connection sends when its last answer is in. Times in seconds."""

    targets: tuple[Target, ...]
    rate: float = 0.0
    arrivals: str = "poisson"
    connections: int = 32
    threads: int = 1
    duration: float = 10.0
    warmup: float = 2.0
    path: str = "/"
    timeout: float = 5.0
    generators: int = 1  # that send together, see Prober.recruit; rate and connections are of all of them
    method: str = "GET"
    headers: tuple[str, ...] = ()  # "Name: value"
    body: str = ""
    expect_status: str = "2xx"  # or one code, such as "404"; anything else is an error, as are answers without the next two
    expect_version: str = ""  # of the service, by its answers' header
    expect_body: str = ""  # a text in the answer's body
    slow: float = 0.0  # of `Prober.begin` only: seconds after which a good answer is told of as a mishap; 0: none is


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What one of several generators did. Times in seconds; counts are of the measured phase.

    `state`: "done", or what became of it instead: "absent" (never came), "refused", "lost" (`why` says how).
    """

    name: str
    state: str
    why: str = ""
    offset: float = 0.0  # its clock minus the harness's
    uncertainty: float = 0.0  # of that: half the shortest round trip
    late: float = 0.0  # how long after the common start it began
    seconds: int = 0  # seconds of load that it told of
    missing: tuple[int, ...] = ()  # numbers of those that never came
    repeats: int = 0  # told more than once, counted once
    reconnects: int = 0
    clock_steps: tuple[float, ...] = ()  # of its wall clock; its times are by a steady one
    planned: int = 0
    sent: int = 0
    ok: int = 0
    errors: Mapping[str, int] = {}
    unsent: int = 0
    inflight: int = 0
    cpu: float = 0.0
    throttled_ms: float | None = None
    saturated: str = ""
    notes: tuple[str, ...] = ()


class AtTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a load's requests to one of its targets, warm-up left out. Latencies in ms: "p50", "p99", "max"."""

    sent: int
    ok: int
    errors: Mapping[str, int] = {}
    inflight: int = 0
    latency_ms: Mapping[str, float] = {}


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a plan, warm-up left out. Latencies in milliseconds by percentile ("p50", …, "max").

    `latency` counts from the planned send time (open loop) or from the send (closed loop); `raw` always from the send.
    """

    tool: str
    seconds: float
    planned: int
    sent: int
    ok: int
    errors: Mapping[str, int] = {}
    unsent: int = 0
    inflight: int = 0
    offered_rps: float = 0.0
    achieved_rps: float = 0.0
    latency_ms: Mapping[str, float] = {}
    raw_ms: Mapping[str, float] = {}
    lag_ms: Mapping[str, float] = {}
    cpu: float = 0.0  # cores that the generator used
    throttled_ms: float | None = None  # CPU time that a quota kept from the generators; None where no cgroup tells
    saturated: str = ""  # why the figure is a lower bound, if it is
    per_target: Mapping[str, int] = {}  # good answers; empty where a generator's are not known, so that they add up
    targets: Mapping[str, AtTarget] = {}  # by "address:port", of those generators that told their end
    histogram: str = ""  # HdrHistogram V2, base64; unit in `histogram_unit_ns`
    raw_histogram: str = ""
    histogram_unit_ns: int = 1
    accounts: tuple[Account, ...] = ()  # of each generator
    flags: tuple[str, ...] = ()  # what was not as planned with the generators, a sentence each: the figures lack it


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a program. `code` is its exit code, or minus the signal that ended it."""

    code: int
    out: str
    err: str
    seconds: float


class Flow(Protocol):
    """Load that goes on while other things happen."""

    def retarget(self, targets: Sequence[Target]) -> None:
        """Send to these from now on. Connections move only where they must; without any target the old ones stay."""

    def stop(self) -> LoadResult:
        """End it and wait until all is counted. Safe to call twice. Raises EngineError if the generator failed meanwhile."""


class Prober(Protocol):
    """A client inside the bay, deployed there as a service of its own."""

    def watch(self, target: Target, path: str = "/id", interval: float = 0.005, timeout: float = 1.0) -> str:
        """Begin to ask a target every `interval` seconds; returns the watch's id."""

    def unwatch(self, watch: str) -> None:
        """Stop asking."""

    def next(self, timeout: float) -> Answer | None:
        """The next thing that was seen, over all watches, or None after `timeout` seconds."""

    def load(self, plan: LoadPlan, second: Callable[[Burst], None] | None = None, tool: str = "") -> LoadResult:
        """Send load and wait for its end; each second is told to `second`, in the caller's thread, as it ends.

        `tool` names another generator (`coebench.generators`), for a cross-check: it runs where ours would, and tells no
        seconds. Raises EngineError if the generator fails, Unsupported if the tool can't send such a load.
        """

    def execute(self, argv: Sequence[str], timeout: float) -> Ran:
        """Run a program that the prober's image has, there. Raises EngineError if it can't be begun or does not end in time."""

    def recruit(self, generators: int, inside: bool, timeout: float) -> Sequence[str]:
        """Deploy generators beside the prober and send loads with them from now on; returns the names of their services.

        `inside`: for a bay whose nodes can't be called one by one: they register with a relay in the bay, which alone is
        reached from outside. Raises PhaseTimeout, EngineError.
        """

    def dismiss(self) -> None:
        """Ask for the end of what was recruited; loads are the prober's own again."""

    def begin(self, plan: LoadPlan, told: Callable[[Burst], None]) -> Flow:
        """Begin to send; returns when it has begun. It goes on for `plan.duration` at most, until stopped if that is 0.

        `told` is called each second, from another thread: it must be quick. Raises EngineError."""

    def offset(self) -> tuple[float, float]:
        """Clock offset to the harness and its uncertainty, in seconds (half the shortest round trip)."""

    def generators(self) -> Sequence[str]:
        """The instances that generate, by id."""
