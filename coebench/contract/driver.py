"""The port through which every COE is asked the same things.

A driver is given a bay's own credentials (`Access`) and nothing else: it knows no provisioner and no scenario. All calls
are synchronous and may be made from several threads at once. Calls return when the engine has ACCEPTED a request; what
then happens is seen through `watch`, `instances` and, by a client's eyes, the prober.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import ClassVar, Protocol, Self

import msgspec

from .bay import Access
from .capability import Capability, Support
from .service import Instance, Routing, ServiceSpec, Strategy


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine's own API says it is."""

    engine: str
    version: str
    components: Mapping[str, str] = {}
    network: str = ""  # how instances reach each other, in a few words for the table's notes
    baseline: bool = False  # no COE: figures stand beside the others' for comparison, and are never called best


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A host as the engine sees it. `cpu` in cores and `memory` in bytes are what the engine will place onto it."""

    name: str
    address: str
    ready: bool
    schedulable: bool
    engine_state: str
    cpu: float
    memory: int


class Change(msgspec.Struct, frozen=True):
    """One change of an instance. `seen` is the harness's clock (`contract.now`) when the engine's word arrived."""

    kind: str  # "added", "changed", "removed"
    instance: Instance
    seen: float


class Watch(Protocol):
    """A stream of changes, beginning with one "added" for each instance there is. Loses and repeats none.

    `fallback` is empty where the engine pushes changes; else it says how the driver finds them out and how often ("tasks are
    listed every 0.5 s"). It may be set later, when a stream turns out to be refused. A watch may have `interval`, those
    seconds as a number: times of less than twice as much are not compared.
    """

    fallback: str

    def next(self, timeout: float) -> Change | None:
        """The next change, or None: after `timeout` seconds, or at once when it is closed. Raises EngineError if the stream
        can't be kept up."""

    def close(self) -> None:
        """End the stream; safe to call twice and from another thread."""

    def __enter__(self) -> Self: ...
    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None: ...


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's own account of how far a service is: never the measure, always recorded beside it."""

    done: bool  # the engine says that what was asked for is reached
    wanted: int
    ready: int  # instances of the wanted version that the engine calls ready
    said: str = ""  # its words about what is missing
    blocked: str = ""  # set where the engine says that instances cannot be placed
    stopped: str = ""  # set where the engine says that it has given an update up, or undoes it


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How a service is reached: addresses a client inside the bay can use as they are."""

    routing: Routing
    targets: tuple[tuple[str, int], ...]
    how: str = ""  # "ClusterIP, kube-proxy iptables"


class Driver(Protocol):
    """One connection to one bay of one COE."""

    coe: ClassVar[str]  # the name on the command line
    title: ClassVar[str]  # the name in a table
    contract: ClassVar[int]  # the contract version it was written for

    @classmethod
    def connect(cls, access: Access) -> Self:
        """Check that the engine answers with these credentials. Raises EngineError if not, BadInput if they can't do."""

    def close(self) -> None:
        """Let go of connections. Nothing in the bay changes. Safe to call twice; other calls then raise EngineError."""

    def info(self) -> EngineInfo:
        """What the engine says it is."""

    def capabilities(self) -> Mapping[Capability, Support]:
        """Every capability, with the reason where it is missing."""

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        """Ask for a service. Raises Conflict if one of that name exists, BadInput if the name can't be one
        (`is_service_name`), EngineError with the engine's words."""

    def scale(self, service: str, instances: int) -> None:
        """Ask for another number of instances (0 is one). Raises MissingService."""

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        """Ask for another version of `spec.name` by a rolling update. Raises MissingService, Conflict."""

    def remove(self, service: str) -> None:
        """Ask for the service to end. Asking for one that is not there, or can't be, is no error."""

    def services(self) -> tuple[str, ...]:
        """The names of the services in this bay that coebench deployed."""

    def progress(self, service: str) -> Progress:
        """The engine's own account of the service. Raises MissingService."""

    def reach(self, service: str, routing: Routing) -> Reach:
        """Where to send requests. Raises Unsupported with the reason, MissingService."""

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        """All that the engine still lists, ended ones too if it does. () for a service that is not there."""

    def watch(self, service: str) -> Watch:
        """Follow the instances of a service, which need not exist yet."""

    def kill(self, instance: Instance) -> None:
        """End one instance behind the engine's back. Raises Unsupported, MissingService."""

    def logs(self, instance: Instance, lines: int = 50) -> str:
        """The last lines of what the instance wrote."""

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that instances can be placed on."""

    def drain(self, node: str) -> None:
        """Empty a node and place nothing more onto it. Returns when accepted."""

    def undrain(self, node: str) -> None:
        """Give it back."""


def changes(watch: Watch, timeout: float) -> Iterator[Change]:
    """Changes until none has come for `timeout` seconds."""
    while (change := watch.next(timeout)) is not None:
        yield change
