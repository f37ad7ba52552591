"""Runs the suite and tells how a driver did."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable

import msgspec

from ..contract import Access, CoebenchError, Driver, Unsupported, Workload
from .bench import Bench
from .registry import Behaviour, Failed, behaviours


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one behaviour went: "passed", "failed" or "not applicable"; the latter two with the reason."""

    name: str
    group: str
    why: str
    result: str
    reason: str = ""
    seconds: float = 0.0
    needs: tuple[str, ...] = ()  # the capabilities that it is about


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a driver did. `left` is what its clean-up left behind, which fails the suite too."""

    coe: str
    outcomes: tuple[Outcome, ...]
    seconds: float
    left: tuple[str, ...] = ()

    def of(self, result: str) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.result == result)

    @property
    def passed(self) -> tuple[Outcome, ...]:
        return self.of("passed")

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return self.of("failed")

    @property
    def not_applicable(self) -> tuple[Outcome, ...]:
        return self.of("not applicable")

    @property
    def lies(self) -> dict[str, tuple[str, ...]]:
        """Capabilities that the driver claims and that it fails a behaviour of, with the names of these. Not one that is
        lacking without a reason: that is no claim."""
        found: dict[str, list[str]] = {}
        for o in self.failed:
            for capability in o.needs:
                if o.reason != f"{capability}: missing without a reason":
                    found.setdefault(capability, []).append(o.name)
        return {capability: tuple(names) for capability, names in found.items()}

    @property
    def score(self) -> float:
        """The share of the behaviours that apply which passed, from 0 to 1."""
        judged = len(self.passed) + len(self.failed)
        return len(self.passed) / judged if judged else 0.0

    @property
    def ok(self) -> bool:
        return not self.failed and not self.left


def check(bench: Bench, what: Behaviour) -> Outcome:
    """Put one behaviour to a driver."""
    begun = time.monotonic()
    result, reason = "passed", ""
    for capability in what.needs:
        support = bench.support(capability)
        if not support.ok:
            result = "not applicable" if support.reason.strip() else "failed"
            reason = f"{capability.value}: {support.reason or 'missing without a reason'}"
            break
    else:
        try:
            what.check(bench)
        except Failed as e:
            result, reason = "failed", str(e)
        except Unsupported as e:
            result, reason = "failed", f"Unsupported, though the capability is claimed: {e}"
        except CoebenchError as e:
            result, reason = "failed", f"{type(e).__name__}: {e}"
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)[-1]
            reason = (
                f"{type(e).__name__}: {e} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno}), none of the contract's errors"
            )
            result = "failed"
    return Outcome(
        name=what.name,
        group=what.group,
        why=what.why,
        result=result,
        reason=reason,
        seconds=time.monotonic() - begun,
        needs=tuple(c.value for c in what.needs),
    )


def run(
    connect: Callable[[Access], Driver],
    access: Access,
    workload: Workload,
    generator: Workload,
    only: Iterable[str] = (),
    patience: float = 60.0,
    told: Callable[[Outcome], None] = lambda _: None,
) -> Report:
    """Put all behaviours, or those named by `only`, to a driver; call it inside the bay's network.

    `connect` is the driver's. `told` is given each outcome as it is known. Raises what `connect` raises; nothing else.
    """
    return run_on(Bench(connect, access, workload, generator, patience), only, told)


def run_on(bench: Bench, only: Iterable[str] = (), told: Callable[[Outcome], None] = lambda _: None) -> Report:
    """As `run`, on a bench that is there; it is closed at the end."""
    chosen = set(only)
    begun = time.monotonic()
    outcomes = []
    left: list[str] = []
    try:
        for what in behaviours():
            if not chosen or what.name in chosen:
                outcomes.append(check(bench, what))
                told(outcomes[-1])
    finally:
        left = bench.close()
    return Report(coe=bench.driver.coe, outcomes=tuple(outcomes), seconds=time.monotonic() - begun, left=tuple(left))
