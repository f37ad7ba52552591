"""A service is a set of containers with one label; an instance is a container. Nobody but the driver counts them."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

import docker
import msgspec
import requests
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig

from coebench.contract import (
    Access,
    BadInput,
    Capability,
    Conflict,
    EngineError,
    EngineInfo,
    FollowingWatch,
    Instance,
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

from . import containers
from .certificates import Client, tls_files

T = TypeVar("T")
TIMEOUT = 30
RETRY = 0.5  # seconds between two tries to listen to an engine that is away
EVENTS = ("create", "start", "die", "health_status", "rename", "restart", "destroy")
MISSING = {
    Capability.NATIVE: "plain Docker has no virtual address for a set of containers",
    Capability.PROXY: "plain Docker has no proxy",
    Capability.HEALTH: "Docker tells that a check fails and does nothing about it",
    Capability.UPDATE: "plain Docker has no rolling update: an image is changed by removing the container",
    Capability.KILL: "Docker takes a kill through its API for the user's own stop, and does not restart the container",
    Capability.DRAIN: "there is one node",
    Capability.RESERVE: "Docker limits memory and CPU, and reserves neither",
}


class DockerDriver:
    """One connection to one engine. Containers are begun and ended by threads of the connection's own, as `compose` does."""

    coe: ClassVar[str] = "docker"
    title: ClassVar[str] = "Docker"
    contract: ClassVar[int] = 1
    access_by: ClassVar[str] = "docker"

    def __init__(self, access: Access, api: docker.APIClient, tls: TLSConfig | None, folder: Path | None) -> None:
        self._access = access
        self._api = api
        self._tls = tls
        self._folder = folder
        self._closed = False
        self._changing = threading.Lock()  # one change of a number at a time
        self._hands = ThreadPoolExecutor(max_workers=8, thread_name_prefix="docker")
        self._node = ""

    @classmethod
    def connect(cls, access: Access) -> Self:
        if not access.url:
            raise BadInput("Docker is reached by its API's URL; there is none in this bay's access")
        folder, tls = tls_files(access)
        try:
            api = Client(base_url=access.url, tls=tls or False, version="auto", timeout=TIMEOUT, num_pools=32)
        except (DockerException, requests.RequestException, OSError, ValueError) as e:
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
            raise EngineError(f"reaching Docker at {access.url}", str(e)) from e
        driver = cls(access, api, tls, folder)
        driver._node = driver._call("asking Docker", api.info)["Name"]
        listed = driver._call("listing networks", lambda: api.networks(names=[containers.NETWORK]))
        if not any(n["Name"] == containers.NETWORK for n in listed):
            with contextlib.suppress(Conflict):  # somebody else was quicker
                options = {"labels": containers.OURS, "check_duplicate": True}
                driver._call("making the network", lambda: api.create_network(containers.NETWORK, driver="bridge", **options))
        return driver

    def close(self) -> None:
        if not self._closed:
            self._hands.shutdown(wait=True)
        self._closed = True
        self._api.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def leave(self) -> None:
        """Remove the network if it is coebench's; Docker keeps one that is in use."""
        with contextlib.suppress(EngineError):
            for n in self._call("listing networks", lambda: self._api.networks(names=[containers.NETWORK])):
                if n["Name"] == containers.NETWORK and containers.OURS.items() <= (n.get("Labels") or {}).items():
                    self._call("removing the network", lambda i=n["Id"]: self._api.remove_network(i))  # type: ignore[misc]

    def info(self) -> EngineInfo:
        version = self._call("asking the version", self._api.version)
        return EngineInfo(
            engine="Docker",
            version=version["Version"],
            components={c["Name"].lower(): c["Version"] for c in version.get("Components", []) if c.get("Version")},
            network="a bridge of the engine's own",
        )

    def capabilities(self) -> Mapping[Capability, Support]:
        return {c: Support(c not in MISSING, MISSING.get(c, "")) for c in Capability}

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name: a DNS label of at most 40 characters is needed")
        what = f"deploying {spec.name}"
        with self._changing:
            # A container that never runs holds the name, for strangers too, and what the others are made from.
            record = containers.record(spec)
            try:
                self._call(what, lambda: self._api.create_container_from_config(record, name=spec.name))
            except MissingService as e:  # an image that is not there is no missing service
                raise EngineError(what, e.said) from e
            self._add(spec, spec.instances)

    def _add(self, spec: ServiceSpec, count: int) -> None:
        """Create so many, and begin them without waiting for it."""
        name = [f"{spec.name}-{secrets.token_hex(4)}" for _ in range(count)]

        def create(name: str) -> None:
            config = containers.instance(spec, name)
            self._call(f"creating {name}", lambda: self._api.create_container_from_config(config, name=name))

        for made in [self._hands.submit(create, n) for n in name]:
            made.result()
        for n in name:
            self._hands.submit(self._begin, n)

    def _begin(self, name: str) -> None:
        """What goes wrong is in the container's own state, where the listing finds it."""
        with contextlib.suppress(EngineError):
            self._call(f"starting {name}", lambda: self._api.start(name))

    def _end(self, name: str, grace: float) -> None:
        """Ask it to end, then take it away. The name tells every connection that it is going."""
        going = name + containers.GOING
        with contextlib.suppress(EngineError):
            self._call(f"stopping {name}", lambda: self._api.stop(going, timeout=max(0, round(grace))))
        with contextlib.suppress(EngineError):
            self._call(f"removing {name}", lambda: self._api.remove_container(going, v=True, force=True))

    def _take(self, listed: list[Any], grace: float) -> None:
        for c in listed:
            name = containers.name(c)
            with contextlib.suppress(EngineError):  # gone, or going, already
                self._call(f"ending {name}", lambda n=name: self._api.rename(n, n + containers.GOING))  # type: ignore[misc]
                self._hands.submit(self._end, name, grace)

    def scale(self, service: str, instances: int) -> None:
        with self._changing:
            spec = self._spec(service)
            live = [c for c in self._listed(service) if not containers.going(c)]
            if instances > len(live):
                self._add(spec, instances - len(live))
            else:
                newest_first = sorted(live, key=lambda c: -c["Created"])
                self._take(newest_first[: len(live) - instances], spec.grace)

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        raise Unsupported("updating a service", MISSING[Capability.UPDATE])

    def remove(self, service: str) -> None:
        if not is_service_name(service):
            return
        with self._changing, contextlib.suppress(MissingService):
            record, spec = self._record(service)["Id"], self._spec(service)
            self._take([c for c in self._listed(service) if not containers.going(c)], spec.grace)
            self._call(f"removing {service}", lambda: self._api.remove_container(record, v=True, force=True))

    def services(self) -> tuple[str, ...]:
        filters = {"label": [f"{k}={v}" for k, v in containers.OURS.items()]}
        listed = self._call("listing containers", lambda: self._api.containers(all=True, filters=filters))
        return tuple(sorted({c["Labels"][containers.SERVICE] for c in listed if containers.SERVICE in c["Labels"]}))

    def progress(self, service: str) -> Progress:
        spec = self._spec(service)
        listed = self.instances(service)
        live = [i for i in listed if i.live]
        ready = [i for i in live if i.state.value == "ready" and i.version == spec.version]
        said = "; ".join(dict.fromkeys(i.reason for i in live if i.reason))
        return Progress(done=len(live) == len(ready) == len(listed), wanted=len(live), ready=len(ready), said=said)

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is not Routing.ENDPOINTS:
            raise Unsupported(f"routing {routing.value}", MISSING[Capability(routing.value)])
        self._spec(service)
        targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
        return Reach(routing=routing, targets=targets, how="containers' addresses on a bridge, spread by the client")

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        if not is_service_name(service):
            return ()
        return tuple(containers.told(c, self._node, self._host()) for c in self._listed(service))

    def _listed(self, service: str) -> list[Any]:
        filters = {"label": [f"{containers.SERVICE}={service}", containers.INSTANCE]}
        return list(self._call("listing containers", lambda: self._api.containers(all=True, filters=filters)))

    def _record(self, service: str) -> Any:
        """The container that holds a service's name. Raises MissingService, also where it is somebody else's.

        It is looked for by label: asked for by name, Docker also takes the beginning of an id.
        """
        what = f"asking for {service}"
        if is_service_name(service):
            filters = {"label": [f"{containers.SERVICE}={service}", containers.RECORD]}
            found = self._call(what, lambda: self._api.containers(all=True, filters=filters))
            if found:
                return found[0]
        raise MissingService(what, "coebench has deployed no service of that name")

    def _spec(self, service: str) -> ServiceSpec:
        """As it was deployed. Raises MissingService."""
        return msgspec.json.decode(self._record(service)["Labels"][containers.RECORD], type=ServiceSpec)

    def _host(self) -> str:
        """Where published ports are: as the access says, else where the API is."""
        own = self._access.options.get("address", "")
        return own or urlsplit(self._access.url).hostname or "127.0.0.1"

    def watch(self, service: str) -> Watch:
        streams: list[Any] = []
        lock = threading.Lock()
        # without a time limit, and on a connection of its own, so that closing it ends no other's
        listener = Client(base_url=self._access.url, tls=self._tls or False, version=self._api._version, timeout=None)

        def follow(watch: FollowingWatch) -> None:
            filters = {"type": "container", "label": f"{containers.SERVICE}={service}", "event": list(EVENTS)}
            while not watch.closed.is_set():
                with contextlib.suppress(DockerException, requests.RequestException, OSError, ValueError, AttributeError):
                    events = listener.events(filters=filters, decode=True)
                    with lock:
                        streams[:] = [events]
                    if watch.closed.is_set():
                        return
                    watch.snapshot(self.instances(service))  # after the stream is open: nothing falls between
                    for _ in events:
                        watch.snapshot(self.instances(service))
                watch.closed.wait(RETRY)

        def on_close() -> None:
            with lock:
                for stream in streams:
                    with contextlib.suppress(Exception):
                        stream.close()
            listener.close()

        return FollowingWatch(follow, on_close)

    def kill(self, instance: Instance) -> None:
        raise Unsupported("killing an instance", MISSING[Capability.KILL])

    def logs(self, instance: Instance, lines: int = 50) -> str:
        what = f"reading the log of {instance.id}"
        return self._call(what, lambda: bytes(self._api.logs(instance.id, tail=lines)).decode(errors="replace"))

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        about = self._call("asking Docker", self._api.info)
        return (
            Node(
                name=about["Name"],
                address=self._host(),
                ready=True,
                schedulable=True,
                engine_state="answers",
                cpu=float(about["NCPU"]),
                memory=int(about["MemTotal"]),
            ),
        )

    def drain(self, node: str) -> None:
        raise Unsupported("draining a node", MISSING[Capability.DRAIN])

    def undrain(self, node: str) -> None:
        raise Unsupported("draining a node", MISSING[Capability.DRAIN])

    # helpers

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """Every request goes through here: its errors leave as the contract's."""
        if self._closed:
            raise EngineError(what, "this connection was closed")
        try:
            return call()
        except APIError as e:
            kind = {404: MissingService, 409: Conflict}.get(e.status_code, EngineError)
            raise kind(what, str(e.explanation or e)) from e
        except (DockerException, requests.RequestException, OSError) as e:
            raise EngineError(what, f"{type(e).__name__}: {e}") from e
