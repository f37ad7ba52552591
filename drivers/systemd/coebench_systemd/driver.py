"""A service is a slice of each host, which holds its name; an instance is a unit in it. The driver alone spreads them."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, Self, TypeVar

from coebench.contract import (
    Access,
    BadInput,
    Capability,
    Conflict,
    EngineError,
    EngineInfo,
    FollowingWatch,
    Instance,
    InstanceState,
    MissingService,
    Node,
    Progress,
    Reach,
    Routing,
    ServiceSpec,
    Strategy,
    Support,
    Unsupported,
    Watch,
    is_service_name,
)

from . import facts, follow, journal, units
from .bus import Bus, Call, path_of
from .units import Unit

T = TypeVar("T")
FORGET = 5.0  # seconds that systemd may take to forget a slice
PORTS = range(20000, 30000)  # below those that Linux gives to clients
MISSING = {
    Capability.NATIVE: "systemd has no virtual address for units",
    Capability.PROXY: "systemd has no proxy for units of several hosts",
    Capability.HEALTH: "systemd looks at a unit's health while it starts, and no longer",
    Capability.UPDATE: "systemd has no rolling update: a unit with another image is another unit",
    Capability.KILL: "systemd starts the unit that was killed again: nothing takes its place",
    Capability.DRAIN: "systemd knows its own host only: nobody moves units to another",
    Capability.RESERVE: "systemd limits memory and CPU, and reserves neither",
}


class SystemdDriver:
    """Connections to the systemd of each host."""

    coe: ClassVar[str] = "systemd"
    title: ClassVar[str] = "systemd"
    contract: ClassVar[int] = 1

    def __init__(self, hosts: Mapping[str, Bus], addresses: Mapping[str, str]) -> None:
        self._hosts = hosts
        self._addresses = addresses
        self._closed = False
        self._changing = threading.Lock()  # one change of a number at a time
        self._hands = ThreadPoolExecutor(max_workers=max(2, min(16, len(hosts))), thread_name_prefix="systemd")
        self._images: dict[str, Mapping[str, object]] = {}
        self._facts: dict[str, tuple[float, int]] = {}
        self._last: dict[str, list[Unit]] = {}  # by host: what it listed when it last answered

    @classmethod
    def connect(cls, access: Access) -> Self:
        urls = dict(access.nodes)
        if not urls:
            raise BadInput("systemd is reached by each host's D-Bus socket: node.NAME=unix:///PATH; there is none in this access")
        hosts = {name: Bus(name, url) for name, url in urls.items()}
        driver = cls(hosts, {name: _address(access, name) for name in hosts})
        try:
            driver._everywhere(lambda bus: bus.call("asking systemd", "ListUnitsByPatterns", "asas", [], ["-.slice"]))
        except EngineError:
            driver.close()
            raise
        return driver

    def close(self) -> None:
        self._closed = True
        self._hands.shutdown(wait=True)
        for bus in self._hosts.values():
            bus.close()

    def info(self) -> EngineInfo:
        bus = next(iter(self._hosts.values()))
        self._open("asking the version")
        (version,) = bus.properties("asking the version", [(bus.MANAGER_PATH, "Manager", "Version")])
        return EngineInfo(
            engine="systemd",
            version=str(version).split("-")[0],
            components={"systemd": str(version)},
            network="the hosts' own network, a port for each instance",
        )

    def capabilities(self) -> Mapping[Capability, Support]:
        missing = dict(MISSING)
        if not all(journal.there(b.path) for b in self._hosts.values()):
            missing[Capability.LOGS] = "no socket 'journal' (systemd-journal-gatewayd) beside each host's D-Bus socket"
        return {c: Support(c not in missing, missing.get(c, "")) for c in Capability}

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name: a DNS label of at most 40 characters is needed")
        what = f"deploying {spec.name}"
        self._open(what)
        with self._changing:
            image = self._image(spec.image)
            named: list[Bus] = []
            try:
                for bus in self._hosts.values():  # one after the other: of two that ask at once one gets the first host
                    self._claim(bus, what, spec)
                    named.append(bus)
                self._add(spec, image, spec.instances)
            except EngineError as e:
                for bus in named:
                    with contextlib.suppress(EngineError):
                        bus.call(what, "StopUnit", "ss", units.slice_of(spec.name), "replace")
                if isinstance(e, Conflict):
                    raise Conflict(what, e.said) from e
                raise

    def _claim(self, bus: Bus, what: str, spec: ServiceSpec) -> None:
        """A service's slice on one host. Raises Conflict where there is one."""
        name = units.slice_of(spec.name)
        record: tuple[Any, ...] = (name, "fail", units.record(spec), [])
        try:
            bus.call(what, "StartTransientUnit", "ssa(sv)a(sa(sv))", *record)
        except Conflict:
            if not self._forgotten(bus, what, name):
                raise
            bus.call(what, "StartTransientUnit", "ssa(sv)a(sa(sv))", *record)

    def _forgotten(self, bus: Bus, what: str, name: str) -> bool:
        """Whether a slice that is in the way has ended, and systemd could be made to forget it. systemd 252 keeps some (six
        of thirty, where many came and went at once) until it is asked to stop them once more."""
        listed = partial(bus.call, what, "ListUnitsByPatterns", "asas", [], [name])
        if any(units.holds(u) for u in units.read(bus.host, listed())):
            return False
        with contextlib.suppress(MissingService):
            bus.call(what, "StopUnit", "ss", name, "replace")
        deadline = time.monotonic() + FORGET
        while listed() and time.monotonic() < deadline:
            time.sleep(0.01)
        return True

    def _image(self, image: str) -> Mapping[str, object]:
        """What the unit that describes an image says: the same on every host."""
        if image not in self._images:
            bus = next(iter(self._hosts.values()))
            self._images[image] = facts.image(bus, image)
        return self._images[image]

    def _add(self, spec: ServiceSpec, image: Mapping[str, object], count: int) -> None:
        """So many more, each on the host that has the fewest of coebench's."""
        listed = [u for u in self._units() if u.mark.instance]
        held = Counter(dict.fromkeys(self._answering(), 0))
        held.update(u.node for u in listed if u.node in held)
        taken = {name: {u.mark.port for u in listed if u.node == name} for name in held}
        asked: dict[str, list[Call]] = {}
        for _ in range(count):
            node = min(held, key=lambda n: (held[n], n))
            held[node] += 1
            port = secrets.choice([p for p in PORTS if p not in taken[node]])
            taken[node].add(port)
            name = f"{spec.name}-{secrets.token_hex(4)}"
            unit: tuple[Any, ...] = (f"{units.PREFIX}{name}.service", "fail", units.instance(spec, image, name, port), [])
            asked.setdefault(node, []).append(("StartTransientUnit", "ssa(sv)a(sa(sv))", unit))
        self._ask(f"starting instances of {spec.name}", asked)

    def _ask(self, what: str, asked: Mapping[str, list[Call]]) -> None:
        """Each host its own, all at once."""
        for done in [self._hands.submit(self._hosts[node].calls, what, calls) for node, calls in asked.items()]:
            done.result()

    def scale(self, service: str, instances: int) -> None:
        with self._changing:
            spec = self._spec(service)
            live = [u for u in self._units(service) if units.state(u) not in (InstanceState.STOPPING, InstanceState.ENDED)]
            if instances > len(live):
                self._add(spec, self._image(spec.image), instances - len(live))
                return
            held = Counter(u.node for u in live)
            asked: dict[str, list[Call]] = {}
            for _ in range(len(live) - instances):
                node = max(held, key=lambda n: (held[n], n))
                held[node] -= 1
                unit = next(u for u in reversed(live) if u.node == node)
                live.remove(unit)
                asked.setdefault(node, []).append(("StopUnit", "ss", (unit.name, "replace")))
            with contextlib.suppress(MissingService):  # it has gone by itself
                self._ask(f"stopping instances of {service}", asked)

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        raise Unsupported("updating a service", MISSING[Capability.UPDATE])

    def remove(self, service: str) -> None:
        self._open(f"removing {service}")
        if not is_service_name(service):
            return
        with self._changing:
            asked: dict[str, list[Call]] = {}
            for unit in [*self._units(service), *(u for u in self._slices() if u.mark.service == service)]:
                asked.setdefault(unit.node, []).append(("StopUnit", "ss", (unit.name, "replace")))
            with contextlib.suppress(MissingService):
                self._ask(f"removing {service}", asked)

    def services(self) -> tuple[str, ...]:
        return tuple(sorted({u.mark.service for u in self._slices()}))

    def progress(self, service: str) -> Progress:
        wanted = self._spec(service)
        listed = self.instances(service)
        live = [i for i in listed if i.live]
        ready = [i for i in live if i.state is InstanceState.READY and i.version == wanted.version]
        said = "; ".join(dict.fromkeys(f"{i.id}: {i.reason}" for i in live if i.reason))
        return Progress(done=len(live) == len(ready) == len(listed), wanted=len(live), ready=len(ready), said=said)

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is not Routing.ENDPOINTS:
            raise Unsupported(f"routing {routing.value}", MISSING[Capability(routing.value)])
        self._spec(service)
        targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
        return Reach(routing=routing, targets=targets, how="hosts' addresses, a port for each unit, spread by the client")

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        self._open(f"listing {service}")
        if not is_service_name(service):
            return ()
        listed = self._units(service)
        answering = self._answering()
        return tuple(
            i for name in self._hosts for i in self._told(name, [u for u in listed if u.node == name], name in answering)
        )

    def _told(self, host: str, listed: list[Unit], answers: bool) -> list[Instance]:
        """Units as instances: LOST where their host does not answer."""
        found: list[object] = []
        if answers and listed:
            asked = [(u.path, "Service", p) for u in listed for p in ("ExecMainStartTimestamp", "Result")]
            try:
                found = self._hosts[host].properties("asking for instances", asked)
            except EngineError:
                answers = False
        told = []
        for n, unit in enumerate(listed):
            started, result = (found[2 * n], found[2 * n + 1]) if answers else (0, "")
            i = units.told(unit, self._addresses[host], int(str(started or 0)), str(result or "success"))
            told.append(i if answers else units.lost(i))
        return told

    def watch(self, service: str) -> Watch:
        self._open(f"watching {service}")
        mine, theirs = socket.socketpair()

        def run(watch: FollowingWatch) -> None:
            follow.follow(watch, theirs, self._hosts, service, lambda: self.instances(service))

        return FollowingWatch(run, on_close=mine.close)

    def kill(self, instance: Instance) -> None:
        raise Unsupported("killing an instance", MISSING[Capability.KILL])

    def logs(self, instance: Instance, lines: int = 50) -> str:
        what = f"reading the log of {instance.id}"
        self._open(what)
        if not (bus := self._hosts.get(instance.node or "")):
            raise MissingService(what, f"there is no host '{instance.node}'")
        if not any(u.mark.instance == instance.id for u in self._units(instance.service)):
            raise MissingService(what, "there is no such unit")
        return journal.tail(what, bus.path, f"{units.PREFIX}{instance.id}.service", lines)

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        self._open("listing hosts")
        answering = self._answering()
        for name in answering - set(self._facts):
            with contextlib.suppress(EngineError):
                self._facts[name] = facts.size(self._hosts[name])
        return tuple(
            Node(
                name=name,
                address=self._addresses[name],
                ready=name in answering,
                schedulable=name in answering,
                engine_state="answers" if name in answering else "does not answer",
                cpu=self._facts.get(name, (0.0, 0))[0],
                memory=self._facts.get(name, (0.0, 0))[1],
            )
            for name in self._hosts
        )

    def drain(self, node: str) -> None:
        raise Unsupported("draining a node", MISSING[Capability.DRAIN])

    def undrain(self, node: str) -> None:
        raise Unsupported("draining a node", MISSING[Capability.DRAIN])

    # helpers

    def _everywhere(self, call: Callable[[Bus], T]) -> dict[str, T]:
        """Ask every host, all at once. Raises the first error."""
        asked = {name: self._hands.submit(call, bus) for name, bus in self._hosts.items()}
        return {name: done.result() for name, done in asked.items()}

    def _list(self, pattern: str) -> dict[str, list[Unit] | None]:
        """By host; None where it does not answer. Raises EngineError where none does."""
        self._open("listing units")
        errors: list[EngineError] = []

        def ask(bus: Bus) -> list[Unit] | None:
            try:
                return units.read(bus.host, bus.call("listing units", "ListUnitsByPatterns", "asas", [], [pattern]))
            except EngineError as e:
                errors.append(e)
                return None

        found = self._everywhere(ask)
        if len(errors) == len(found):
            raise errors[0]
        return found

    def _units(self, service: str = "") -> list[Unit]:
        """Instances' units: of a host that does not answer, those that it had."""
        for name, listed in self._list(f"{units.PREFIX}*.service").items():
            if listed is not None:
                self._last[name] = listed
        known = [u for name in self._hosts for u in self._last.get(name, [])]
        return [u for u in known if u.mark.instance and service in ("", u.mark.service)]

    def _slices(self) -> list[Unit]:
        """Services' slices, but for those that have ended and that systemd has not forgotten."""
        return [u for listed in self._list("coebench-*.slice").values() for u in listed or [] if u.mark.spec and units.holds(u)]

    def _answering(self) -> set[str]:
        return {name for name, listed in self._list("-.slice").items() if listed is not None}

    def _spec(self, service: str) -> ServiceSpec:
        """As it was deployed. Raises MissingService."""
        what = f"asking for {service}"
        if is_service_name(service):
            for unit in self._slices():
                if unit.mark.service == service and unit.mark.spec and unit.job != "stop":
                    return unit.mark.spec
        raise MissingService(what, "coebench has deployed no service of that name")

    def _open(self, what: str) -> None:
        if self._closed:
            raise EngineError(what, "this connection was closed")


def _address(access: Access, name: str) -> str:
    """Where a host's instances are reached: as the access says, else what its name or its node's name leads to."""
    given = access.options.get(f"address.{name}")
    if given:
        return given
    path_of(access.nodes[name])
    try:
        return socket.gethostbyname(name)
    except OSError:
        raise BadInput(
            f"systemd: host '{name}' has no address here: name it as it is reached, node.ADDRESS=unix:///PATH"
        ) from None
