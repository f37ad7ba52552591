"""One trial: what a scenario is given, and how its phases are limited."""

from __future__ import annotations

import contextlib
import resource
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from ..contract import (
    Bay,
    Capability,
    Driver,
    EndingPort,
    ImageRegistry,
    Instance,
    Journal,
    NodeFault,
    Observe,
    PhaseTimeout,
    Prober,
    Provisioner,
    RegistryPort,
    Unsupported,
    Usage,
    UsagePort,
    Workload,
    now,
)

HEALTH_EVERY = 1.0  # seconds between two looks at whether the bay's engines still run


class TrialRun:
    """The contract's Trial. `alive` raises BayFailed when an engine of the bay has ended."""

    def __init__(
        self,
        ident: str,
        bay: Bay,
        driver: Driver,
        prober: Prober,
        workload: Workload,
        settings: Mapping[str, Any],
        observe: Observe,
        alive: Callable[[], None],
        *,
        seed: int = 0,
        provisioner: Provisioner | None = None,
        bays: Any = None,
        tools: Workload | None = None,
        last: bool = False,
        journal: Journal | None = None,
    ) -> None:
        """`last`: the bay is deleted after this trial."""
        self.id = ident
        self.seed = zlib.crc32(f"{seed} {ident}".encode())
        self.bay = bay
        self.driver = driver
        self.prober = prober
        self.workload = workload
        self.settings = settings
        self.observe = observe
        self._alive = alive
        self._provisioner = provisioner
        self.bays = bays
        self.tools = tools or workload
        self._last = last
        self._journal = journal

    @contextlib.contextmanager
    def phase(self, name: str, timeout: float) -> Iterator[_Deadline]:
        self.observe("phase.begin", phase=name, timeout=timeout)
        begun, cpu = time.monotonic(), _cpu()
        deadline = _Deadline(name, timeout, self._alive)
        try:
            yield deadline
        except PhaseTimeout as e:
            self.observe("phase.timeout", phase=name, seconds=timeout, waiting_for=str(e))
            raise
        seconds = time.monotonic() - begun
        self.observe("phase.end", phase=name, seconds=seconds, harness_cpu=_cpu() - cpu)

    def remove(self, service: str) -> None:
        """Remove a service and follow the engine's stream until no instance of it is live."""
        limit = 120.0
        deadline = _Deadline(f"removing {service}", limit, self._alive)
        with self.driver.watch(service) as watch:
            self.driver.remove(service)
            while True:
                live = [i for i in self.driver.instances(service) if i.state.value not in ("ended", "lost")]
                if not live:
                    break
                deadline.waiting_for(f"{len(live)} instances are still listed, the first as {live[0].engine_state}")
                watch.next(min(1.0, deadline.left()))

    def leave(self, service: str) -> None:
        if self._last:
            self.driver.remove(service)
        else:
            self.remove(service)

    def fail(self, host: str, fault: NodeFault) -> None:
        self._bays("failing a host").fail_node(self.bay, host, fault, self.observe)

    def heal(self, host: str) -> None:
        self._bays("healing a host").heal_node(self.bay, host, self.observe)

    def end(self, instance: Instance) -> tuple[float, str]:
        if isinstance(self._provisioner, EndingPort):
            return self._provisioner.end_instance(self.bay, instance), "SIGKILL to its processes, behind the engine's back"
        at = now()
        self.driver.kill(instance)
        return at, self.driver.capabilities()[Capability.KILL].reason or "through the engine"

    def _bays(self, what: str) -> Provisioner:
        if self._provisioner is None:
            raise Unsupported(what, "this trial has no provisioner")
        return self._provisioner

    def usage(self) -> tuple[Usage, ...]:
        if not isinstance(self._provisioner, UsagePort):
            name = self._provisioner.name if self._provisioner else "none"
            raise Unsupported("the engine processes' CPU and memory", f"the provisioner '{name}' can't look at its hosts")
        return self._provisioner.usage(self.bay)

    def registry(self) -> AbstractContextManager[ImageRegistry]:
        if not isinstance(self._provisioner, RegistryPort) or self._journal is None:
            name = self._provisioner.name if self._provisioner else "none"
            raise Unsupported("pulling from a registry", f"the provisioner '{name}' has none that it could start in a bay")
        return self._provisioner.registry(self.bay, self._journal)


class _Deadline:
    def __init__(self, phase: str, timeout: float, alive: Callable[[], None]) -> None:
        self._phase = phase
        self._timeout = timeout
        self._end = time.monotonic() + timeout
        self._alive = alive
        self._looked = time.monotonic()
        self._what = ""

    def left(self) -> float:
        at = time.monotonic()
        if at - self._looked > HEALTH_EVERY:
            self._looked = at
            self._alive()
        if at >= self._end:
            raise PhaseTimeout(self._phase, self._timeout, self._what)
        return self._end - at

    def waiting_for(self, what: str) -> None:
        self._what = what


def _cpu() -> float:
    """CPU seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
