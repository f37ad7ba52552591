"""How the clients of a scenario reach its service: the routing that was asked for, seen to answer, or refused with a reason.

reach {routing, how, targets}           the addresses that load is sent to
routing.refused {routing, reason}       why there is none
"""

from __future__ import annotations

import time

from ..contract import Capability, Reach, Routing, Target, Trial, Unsupported
from . import proxy

PATIENCE = 10.0  # seconds until the first answer of an address that its engine has told


def reach(trial: Trial, service: str, routing: Routing, alone: bool) -> Reach | None:
    """The addresses of a service whose instances answer already; None if that routing can't be had here.

    `alone`: nothing else is asked of this trial, so that Unsupported is raised instead and the trial counts as skipped.
    """
    try:
        if routing is Routing.PROXY:
            found = proxy.in_front(trial, service)
        else:
            support = trial.driver.capabilities()[Capability(routing.value)]
            if not support.ok:
                raise Unsupported(f"routing {routing.value}", support.reason)
            found = trial.driver.reach(service, routing)
        if routing is not Routing.ENDPOINTS:
            _until_answer(trial, found)
    except Unsupported as e:
        leave(trial, service, routing)
        if alone:
            raise
        trial.observe("routing.refused", routing=routing.value, reason=e.reason)
        title = getattr(trial.driver, "title", "")
        trial.observe("warning", text=f"{title}: routing {routing.value} was not measured: {e.reason}".lstrip(": "))
        return None
    trial.observe("reach", routing=routing.value, how=found.how, targets=[f"{a}:{p}" for a, p in found.targets])
    return found


def leave(trial: Trial, service: str, routing: Routing) -> None:
    """Take away what `reach` has put in front."""
    if routing is Routing.PROXY:
        trial.remove(proxy.name(service))


def _until_answer(trial: Trial, found: Reach) -> None:
    """Wait for each address's first good answer. What an engine tells, its kernel may not serve. Raises Unsupported."""
    prober = trial.prober
    waiting = {prober.watch(Target(*t)): t for t in found.targets}
    watches = list(waiting)
    deadline = time.monotonic() + PATIENCE
    try:
        while waiting and (left := deadline - time.monotonic()) > 0:
            answer = prober.next(min(left, 1.0))
            if answer is not None and answer.kind == "up":
                waiting.pop(answer.watch, None)
    finally:
        for watch in watches:
            prober.unwatch(watch)
    if waiting:
        address, port = next(iter(waiting.values()))
        raise Unsupported(
            f"routing {found.routing.value}", f"{address}:{port} ({found.how}) gave no answer within {PATIENCE:g} s"
        )
