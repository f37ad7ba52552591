"""A workload's service and its instances, in words that every COE can be asked in."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


def is_service_name(text: str) -> bool:
    """Whether it is a DNS label of at most 40 characters. Nothing else is ever put into an engine's request: there an empty
    or odd name can mean another service, or all of them."""
    return _NAME.fullmatch(text) is not None


class Routing(enum.StrEnum):
    """How a client reaches a service. A factor of a measurement, never an accident."""

    ENDPOINTS = "endpoints"  # the client spreads over the instances itself
    NATIVE = "native"  # the COE's virtual IP or mesh
    PROXY = "proxy"  # the same haproxy in front of all


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A health check over HTTP: 2xx within `timeout` is healthy. All times in seconds."""

    path: str = "/healthz"
    interval: float = 1.0
    timeout: float = 1.0
    failures: int = 3  # in a row, until the engine may call the instance unhealthy


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be deployed. The same value is given to every driver.

    The instance listens on the TCP port named by its environment variable COEBENCH_PORT, which the driver sets: `port`
    where the instance has a network of its own, else the port that the engine assigned. COEBENCH_INSTANCE is set to the
    `Instance.id` that the driver will list it under, COEBENCH_VERSION to `version`.

    An engine that tells port and instance under names of its own only (Mesos: PORT0, MESOS_TASK_ID) can rename them for a
    `command`, not for an image's own: an image that is to run everywhere without a command reads those too.

    `command` and the values of `env` arrive as they are: whatever the engine would expand in them is escaped by the driver.
    """

    name: str  # a DNS label: lower case letters, digits, '-', at most 40 characters
    image: str  # NAME:TAG as the bay's nodes know it
    instances: int = 1
    command: tuple[str, ...] = ()  # () is the image's own
    env: Mapping[str, str] = {}
    cpu: float = 0.1  # cores: reserved, and the limit if `limit_cpu`
    limit_cpu: bool = False
    memory: int = 64 << 20  # bytes, reserved and limit
    port: int = 8080
    health: Health | None = None
    version: str = "v1"
    publish: bool = False  # the instance must be reachable from outside the bay (prober, generators)
    grace: float = 2.0  # seconds between asking an instance to end and killing it
    # Seconds between two tries of the instance's kernel to find the owner of an address on its own network; 0: the kernel's, 1.
    # For a prober, which asks addresses before anything has them. A driver that lists addresses no sooner than they can be
    # reached, or whose instances share their host's network, leaves it.
    neighbour_retry: float = 0.0


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """How a rolling update goes: at most `surge` instances above and `unavailable` below the wanted number."""

    surge: int = 1
    unavailable: int = 0


class InstanceState(enum.StrEnum):
    """The engine's states mapped to what a client could expect of the instance."""

    PENDING = "pending"  # accepted, no node yet
    STARTING = "starting"  # has a node, does not run yet
    RUNNING = "running"  # its process runs
    READY = "ready"  # the engine says that it serves (its health check is good)
    STOPPING = "stopping"
    ENDED = "ended"  # finished, failed or killed; still listed
    LOST = "lost"  # the engine has no word of it (node gone)


class Claim(msgspec.Struct, frozen=True):
    """A time that the engine itself gives, in seconds since the epoch by the engine's clock, at its own resolution."""

    name: str  # the engine's word: "created", "scheduled", "started", "ready", …
    at: float


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One of the N, as its engine describes it at one moment."""

    id: str  # stable for the instance's life, and what it answers in X-Coebench-Instance
    service: str
    version: str
    state: InstanceState
    engine_state: str  # the engine's own word for it
    node: str | None = None
    address: str | None = None  # where a client inside the bay reaches it
    port: int | None = None
    published: tuple[str, int] | None = None  # where it is reached from outside the bay, if the spec asked
    claims: tuple[Claim, ...] = ()
    reason: str = ""  # what the engine says about a state that is not READY

    @property
    def live(self) -> bool:
        """Whether it counts towards the wanted number."""
        return self.state not in (InstanceState.STOPPING, InstanceState.ENDED, InstanceState.LOST)


class Workload(Protocol):
    """A service's definition and what builds its image; one folder of `workloads/`."""

    name: str

    @property
    def image(self) -> str:
        """The image's name, without tag."""

    @property
    def versions(self) -> tuple[str, ...]:
        """The tags that `build` makes; the first is the default."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages whose files the image takes."""

    def recipe(self) -> bytes:
        """All that the image's bytes depend on apart from the packages: the cache's key is made from it."""

    def build(self, tree: Path, build: Path, out: Path) -> None:
        """Write the image's root file system below `out`.

        `tree` is an unpacked Debian tree that has `packages`; `build` one that has a C compiler. Neither is changed.
        """

    def config(self, version: str) -> Mapping[str, object]:
        """The image configuration for a tag, in the words of the OCI image specification (Env, Cmd, …)."""

    def service(self, name: str, instances: int, version: str) -> ServiceSpec:
        """The service as it is to be deployed."""
