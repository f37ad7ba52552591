"""The conformance suite on a bay that a provisioner gives: what `coebench driver check` and the pytest plug-in share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import plugins
from ..conformance import Bench, Outcome, Report, behaviours
from ..contract import Access, BadInput, Bay, BaySpec, Driver, HoldingPort, Provisioner
from ..runner.connecting import connect


class NoJournal:
    """For bays that are taken away by who made them."""

    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


@contextlib.contextmanager
def bay(provisioner: Provisioner, spec: BaySpec, name: str, say: Callable[[str], None]) -> Iterator[Bay]:
    """A bay for a while; this thread is in its network meanwhile. Raises BadInput if there are leftovers."""
    if isinstance(provisioner, HoldingPort):
        provisioner.free()
    provisioner.check(spec)
    if left := provisioner.leftovers():
        raise BadInput(f"up, or left by an earlier run: {', '.join(left[:3])}; coebench clean takes all of it away")

    def observe(name: str, *, at: float | None = None, **data: Any) -> None: ...

    made: Bay | None = None
    try:
        provisioner.prepare((spec.coe,), say)
        try:
            made = provisioner.create(name, spec, NoJournal(), observe)
            with provisioner.network(made):
                yield made
        finally:
            provisioner.delete(made or name, NoJournal(), observe)
    finally:
        if isinstance(provisioner, HoldingPort):
            provisioner.release()


@contextlib.contextmanager
def bench(
    driver: str,
    provisioner: str,
    nodes: int = 2,
    options: Mapping[str, str] | None = None,
    patience: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Bench]:
    """The suite's bench for an installed driver, on a bay of its own. Raises BadInput, and what `connect` raises."""
    kind: type[Driver] = plugins.load("drivers", driver, "driver")
    giver: Provisioner = plugins.load("provisioners", provisioner, "provisioner")()
    http, generator = (plugins.load("workloads", name, "workload") for name in ("http", "loadgen"))
    if hasattr(giver, "strict"):  # the driver may be half written: what it can't do yet is what the suite is to tell
        giver.strict = False
    spec = BaySpec(coe=driver, nodes=nodes, options=dict(options or {}))

    def connected(access: Access) -> Driver:
        return connect(kind, access)

    with bay(giver, spec, f"check-{driver}", say) as made:
        yield Bench(connected, giver.access(made), http, generator, patience)


def chosen(words: list[str]) -> tuple[str, ...]:
    """Behaviours by name or group. Raises BadInput for a word that is neither."""
    known = behaviours()
    names: list[str] = []
    for word in words:
        found = [b.name for b in known if word in (b.name, b.group)]
        if not found:
            groups = ", ".join(dict.fromkeys(b.group for b in known))
            raise BadInput(f"no behaviour or group is called '{word}'; groups: {groups}; all: coebench driver behaviours")
        names += found
    return tuple(dict.fromkeys(names))


def summary(report: Report) -> list[str]:
    """A report's last lines: the score, the claims that are not true, what was left behind."""
    judged = len(report.passed) + len(report.failed)
    lines = [
        f"{report.coe}: score {report.score:.0%}: {len(report.passed)} of {judged} behaviours passed, "
        f"{len(report.not_applicable)} do not apply; {report.seconds:.0f} s"
    ]
    for capability, failed in report.lies.items():
        lines.append(f"error: claims '{capability}', and fails {len(failed)} of its behaviours: {', '.join(failed)}")
    lines += [f"error: left behind: {line}" for line in dict.fromkeys(report.left)]
    return lines


def told(outcome: Outcome) -> str:
    """One behaviour's line, or lines where it failed."""
    mark = {"passed": "ok", "failed": "FAIL", "not applicable": "-"}[outcome.result]
    line = f"{mark:<5}{outcome.group}: {outcome.name.replace('_', ' ')}"
    if outcome.result == "failed":
        return f"{line}\n     {outcome.reason}\n     asked for because: {outcome.why}"
    return f"{line} ({outcome.reason})" if outcome.reason else line
