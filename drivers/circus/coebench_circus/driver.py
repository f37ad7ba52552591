"""A service is … of Circus; an instance is …"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from coebench.contract import (
    Access,
    BadInput,
    Capability,
    EngineError,
    EngineInfo,
    Instance,
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

# A capability leaves this table when it is built and its behaviours pass. Its reason is printed in the result's table:
# write it for a reader who does not know this code.
MISSING = {
    Capability.NATIVE: "not built yet",
    Capability.PROXY: "not built yet",
    Capability.WATCH: "not built yet",
    Capability.HEALTH: "not built yet",
    Capability.UPDATE: "not built yet",
    Capability.KILL: "not built yet",
    Capability.DRAIN: "not built yet",
    Capability.RESERVE: "not built yet",
    Capability.LOGS: "not built yet",
}


class CircusDriver:
    """One connection to one Circus. Every method may be called from several threads at once, and returns when the engine
    has ACCEPTED the request: never wait in a method for what it asked for. Raise the contract's errors and no others."""

    coe: ClassVar[str] = "circus"
    title: ClassVar[str] = "Circus"
    contract: ClassVar[int] = 1  # the contract that this was written for, as a number: not coebench's own VERSION

    def __init__(self, access: Access) -> None:
        self._access = access
        self._closed = False

    @classmethod
    def connect(cls, access: Access) -> Self:
        """Ask the engine one thing, so that wrong credentials are known here.

        Raises BadInput if the access lacks what is needed, EngineError if the engine does not answer. What all services need
        once (a namespace, a network) is made here; that it is there already is no error.
        """
        if not access.url:
            raise BadInput("Circus is reached by a URL; there is none in this bay's access")
        return cls(access)  # and ask the engine: driver.info() will do

    def close(self) -> None:
        """Let go of connections; twice is no error. Services stay. Every method raises EngineError from then on."""
        self._closed = True

    def info(self) -> EngineInfo:
        """What the engine's own API says it is; `network`: how instances reach each other, in a few words."""
        self._todo("info")
        return EngineInfo(engine="Circus", version="0", network="")

    def capabilities(self) -> Mapping[Capability, Support]:
        """Every capability, with the reason where it is missing. Answer from what this bay can do."""
        return {c: Support(c not in MISSING, MISSING.get(c, "")) for c in Capability}

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        """Ask for a service of `spec.instances` instances; the engine restarts or replaces those that end.

        Set COEBENCH_PORT, COEBENCH_INSTANCE (the `Instance.id` that it will be listed under) and COEBENCH_VERSION, then
        `spec.env`. Reserve `cpu` (cores) and `memory` (bytes); limit memory always, CPU only with `limit_cpu`. Escape what the
        engine would expand in `command` and `env`. Mark the service as coebench's (a label): `services` lists no others.
        With `publish` the instance must be reachable from outside the bay.

        Raises BadInput if the name can't be one, Conflict if a service of that name exists, anybody's.
        """
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name: a DNS label of at most 40 characters is needed")
        self._todo("deploy")

    def scale(self, service: str, instances: int) -> None:
        """Ask for another number of instances; 0 is one. Raises MissingService."""
        self._todo("scale")

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        """Ask for another version of `spec.name` by a rolling update: at most `strategy.surge` instances above and
        `strategy.unavailable` below the wanted number, which it does not change. Raises MissingService, Conflict."""
        raise Unsupported("updating a service", MISSING[Capability.UPDATE])

    def remove(self, service: str) -> None:
        """Ask for the service to end. One that is not there, can't be, or is not coebench's: no error, nothing is touched.
        `instances` goes on to list what the engine lists, until that is nothing or ENDED."""
        if is_service_name(service):
            self._todo("remove")

    def services(self) -> tuple[str, ...]:
        """The names of the services that coebench deployed here."""
        self._todo("services")
        return ()

    def progress(self, service: str) -> Progress:
        """The engine's own account of the service; `blocked` in its words where instances can't be placed.
        Raises MissingService."""
        self._todo("progress")
        return Progress(done=False, wanted=0, ready=0)

    def reach(self, service: str, routing: Routing) -> Reach:
        """Addresses that a client inside the bay can use as they are. Raises Unsupported with the reason that
        `capabilities` gives, MissingService."""
        if routing is not Routing.ENDPOINTS:
            raise Unsupported(f"routing {routing.value}", MISSING[Capability(routing.value)])
        self._todo("reach")
        return Reach(routing=routing, targets=())

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        """All that the engine still lists, ended ones too if it does; () for a service that is not there.

        READY must come: without a health check it is what the engine calls running. `engine_state` is the engine's own word.
        """
        if not is_service_name(service):
            return ()
        self._todo("instances")
        return ()

    def watch(self, service: str) -> Watch:
        """Follow the instances of a service, which need not exist yet: one "added" for each that there is, then every change
        once. `coebench.contract.FollowingWatch` does the accounting. Where the engine pushes nothing, poll and say so:

            def follow(watch):
                while not watch.closed.is_set():
                    watch.snapshot(self.instances(service))
                    watch.closed.wait(0.1)

            return FollowingWatch(follow, fallback="listed every 0.1 s")
        """
        self._todo("watch")
        raise AssertionError

    def kill(self, instance: Instance) -> None:
        """End one instance behind the engine's back. Raises Unsupported, MissingService."""
        raise Unsupported("killing an instance", MISSING[Capability.KILL])

    def logs(self, instance: Instance, lines: int = 50) -> str:
        """The last lines of what the instance wrote."""
        raise Unsupported("reading a log", MISSING[Capability.LOGS])

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that instances can be placed on: no control hosts. Names as in `Instance.node`; CPU in cores, memory in
        bytes."""
        self._todo("nodes")
        return ()

    def drain(self, node: str) -> None:
        """Empty a node and place nothing more onto it. Returns when accepted."""
        raise Unsupported("draining a node", MISSING[Capability.DRAIN])

    def undrain(self, node: str) -> None:
        """Give it back."""
        raise Unsupported("draining a node", MISSING[Capability.DRAIN])

    # helpers

    def _todo(self, method: str) -> None:
        """Every request to the engine will go through one function like this, which turns its errors into the contract's."""
        if self._closed:
            raise EngineError(method, "this connection was closed")
        raise EngineError(method, "not written yet")
