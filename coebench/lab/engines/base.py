"""What the lab asks of an engine: small, since hosts, network, images and teardown are the lab's own."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from ...contract import Access, BadInput, BayFailed, BaySpec, Role, Unsupported
from .. import modules
from ..cache import Artefact
from ..host import Host
from ..plan import Layout

POLL = 0.01  # seconds between two looks at a fact that can't be waited for otherwise
MOST_POLL = 0.5  # the same on a machine so slow that a look takes long
STEP_TIMEOUT = BaySpec(coe="").step_timeout  # the default


class Engine(ABC):
    """An engine's part of one bay. It is made anew from the bay's spec and layout in every process that needs it."""

    title: ClassVar[str]
    version: ClassVar[str]
    layers: ClassVar[tuple[str, ...]] = ()  # artefacts put over the Debian tree, by name
    options: ClassVar[Mapping[str, str]] = {}  # option → what it does
    agent: ClassVar[str]  # the engine's process on a node without which the engine has no word of it
    instances: ClassVar[str] = ""  # the cgroup of a host that has its instances, where it makes cgroups for itself, too
    modules: ClassVar[Mapping[str, str]] = {}  # kernel module → what the engine lacks without it
    control: ClassVar[tuple[str, ...]]  # its processes on the control host, in the order in which they start

    def __init__(self, spec: BaySpec, layout: Layout) -> None:
        self.spec = spec
        self.layout = layout

    @classmethod
    def check(cls, spec: BaySpec) -> None:
        """Raise BadInput for options that the engine doesn't know, and if it can't run on this machine."""
        if why := cls.missing():
            raise BadInput(f"{cls.title} can't run on this machine: {why}")
        for name in spec.options:
            if name not in cls.options:
                known = ", ".join(cls.options) or "none"
                raise BadInput(f"{spec.coe} has no option '{name}' in the lab (it has: {known})")

    @classmethod
    def artefacts(cls) -> tuple[Artefact, ...]:
        """Layers of an engine that a package brings, uppermost first; built once, kept in the cache."""
        return ()

    @classmethod
    def missing(cls) -> str:
        """What this machine lacks for the engine, while others may run on it; empty if nothing."""
        return ""

    def provide(self) -> None:
        """Make what the machine has to have before a bay's first cgroup is made. Raises BadInput."""
        modules.load(self.modules)

    @abstractmethod
    def files(self, host: str, role: Role) -> Mapping[str, str]:
        """Path → text of what a host needs to find; the same on every call (secrets are made once, in `prepare`)."""

    @abstractmethod
    def payload(self, host: str, role: Role) -> tuple[str, ...]:
        """The guest script and its arguments."""

    def routes(self, host: str) -> tuple[str, ...]:
        """Routes that a host needs besides the default, in `ip route add` words."""
        return ()

    def prepare(self, secrets: dict[str, str]) -> None:  # noqa: B027
        """Make what must be made once a bay (certificates) into `secrets`, which is kept with the bay's state."""

    @abstractmethod
    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        """Bring the engine up on `hosts`, of which `new` have just started, until all nodes are ready and have their
        images. Called with the bay's network entered. `step(name)` marks what is reached."""

    def leave(self, hosts: list[Host], gone: list[Host]) -> None:  # noqa: B027
        """Make the engine forget nodes that are about to be taken away, where it needs telling."""

    def revive(self, hosts: list[Host], host: Host, names: list[str]) -> None:
        """Start engine processes of a host again, in this order. Called with the bay's network entered."""
        for name in names:
            host.start_engine(name)

    def pull(self, hosts: list[Host], registry: bool) -> str:
        """Have the nodes pull images from the bay's registry (`plan.registry`), by plain HTTP; or, with False, be as before.
        Called with the bay's network entered. Returns what the engine was told, in a few words. Raises Unsupported."""
        raise Unsupported("pulling from a registry", f"the lab does not know how {self.title} is told of one")

    @abstractmethod
    def access(self, hosts: list[Host]) -> Access:
        """Credentials for a client in the bay's network."""

    @abstractmethod
    def timeouts(self) -> Mapping[str, str]:
        """Failure detection and retry settings in force, by the engine's own names."""

    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """What is not the upstream's, or not as usual."""

    def patience(self, usual: float) -> float:
        """Seconds that one request of the lab's own may take: `usual`, or longer in proportion where the steps of the bay's
        making may take longer than by default."""
        return usual * max(1.0, self.spec.step_timeout / STEP_TIMEOUT)

    def components(self) -> Mapping[str, str]:
        """Component → version."""
        return {}

    def wait(self, fact: Callable[[], bool], hosts: list[Host], what: str) -> None:
        """Wait for a fact, `step_timeout` of the bay's spec at most; fails at once, with the log's tail, when an engine's
        process or a host ends. Raises BayFailed."""
        timeout = self.spec.step_timeout
        deadline = time.monotonic() + timeout
        turn = 0
        while True:
            begun = time.monotonic()
            if fact():
                return
            turn += 1
            if turn % 5 == 0:
                for host in hosts:
                    for name, status in host.dead_engines().items():
                        raise BayFailed(f"{name} on {host.spec.name} ended with status {status} ({what})", host.log(name))
            if time.monotonic() > deadline:
                raise BayFailed(f"{what}: not within {timeout:g} s", "\n".join(host.log("host") for host in hosts))
            # looks of a slow machine shall not be what keeps it busy
            time.sleep(min(max(POLL, time.monotonic() - begun), MOST_POLL))
