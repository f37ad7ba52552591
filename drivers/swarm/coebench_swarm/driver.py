"""A service is a Swarm service on the overlay network `coebench`; an instance is a task."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import docker
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
)

from . import specs, tasks

T = TypeVar("T")
POLL = 0.1  # seconds between two listings where nothing tells of changes
SLOW_POLL = 0.5  # the same where events do: for what has no event (a task that can't be placed)
TIMEOUT = 30


class SwarmDriver:
    """One connection to a manager, and to the nodes' own Docker APIs where the access has them."""

    coe: ClassVar[str] = "swarm"
    title: ClassVar[str] = "Docker Swarm"
    contract: ClassVar[int] = 1

    def __init__(self, api: docker.APIClient, nodes: Mapping[str, str], tls: TLSConfig | None, secrets: Path | None) -> None:
        self._api = api
        self._nodes = nodes
        self._tls = tls
        self._secrets = secrets

    @classmethod
    def connect(cls, access: Access) -> Self:
        if not access.url:
            raise BadInput("Swarm is reached by a manager's Docker API; there is no URL in this bay's access")
        secrets, tls = _tls(access)
        try:
            api = docker.APIClient(base_url=access.url, tls=tls or False, version="auto", timeout=TIMEOUT)
        except DockerException as e:
            raise EngineError(f"reaching Docker at {access.url}", str(e)) from e
        driver = cls(api, access.nodes, tls, secrets)
        info = driver._call("asking Docker", api.info)
        if not info.get("Swarm", {}).get("ControlAvailable"):
            raise BadInput(f"Docker at {access.url} is no manager of a swarm")
        if not driver._call("listing networks", lambda: api.networks(names=[f"^{specs.NETWORK}$"])):
            driver._call(
                "making the overlay network",
                lambda: api.create_network(specs.NETWORK, driver="overlay", attachable=True, labels=specs.OURS, scope="swarm"),
            )
        return driver

    def close(self) -> None:
        self._api.close()
        if self._secrets:
            shutil.rmtree(self._secrets, ignore_errors=True)

    def info(self) -> EngineInfo:
        version = self._call("asking the version", self._api.version)
        components = {c["Name"].lower(): c["Version"] for c in version.get("Components", [])}
        return EngineInfo(
            engine="Docker Swarm",
            version=version["Version"],
            components=components,
            network="overlay network (vxlan), DNS round robin",
        )

    def capabilities(self) -> Mapping[Capability, Support]:
        yes = Support(True)
        near = yes if self._nodes else Support(False, "needs the nodes' own Docker APIs; the access has none")
        pushed = Support(True, "events of the nodes' daemons; tasks that only the manager knows of are listed every 0.5 s")
        return {
            Capability.ENDPOINTS: yes,
            Capability.NATIVE: Support(False, "the virtual IP and the routing mesh need the kernel's ip_vs: not built yet"),
            Capability.PROXY: Support(False, "not built yet"),
            Capability.WATCH: pushed
            if self._nodes
            else Support(False, f"the manager pushes no task events: listed every {POLL} s"),
            Capability.HEALTH: yes,
            Capability.UPDATE: yes,
            Capability.KILL: near,
            Capability.DRAIN: yes,
            Capability.LOGS: yes,
        }

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        self._call(
            f"deploying {spec.name}",
            lambda: self._api.create_service(
                specs.task_template(spec),
                name=spec.name,
                labels=specs.labels(spec),
                mode=specs.mode(spec.instances),
                endpoint_spec=specs.endpoint(spec),
            ),
        )

    def scale(self, service: str, instances: int) -> None:
        self._update(service, lambda s: {"mode": specs.mode(instances)})

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        self._update(
            spec.name,
            lambda s: {
                "task_template": specs.task_template(spec),
                "update_config": specs.update_config(strategy),
                "labels": specs.labels(spec),
            },
        )

    def _update(self, service: str, change: Callable[[Any], dict[str, Any]]) -> None:
        """Swarm takes a whole spec with the version it was made from; a newer one in between makes it say so: once more."""
        for attempt in range(5):
            current = self._inspect(service)
            version = current["Version"]["Index"]
            try:
                self._call(
                    f"updating {service}",
                    lambda current=current, version=version: self._api.update_service(  # type: ignore[misc]
                        current["ID"], version, name=service, fetch_current_spec=True, **change(current)
                    ),
                )
                return
            except EngineError as e:
                if "out of sequence" not in e.said or attempt == 4:
                    raise

    def remove(self, service: str) -> None:
        with contextlib.suppress(MissingService):
            self._call(f"removing {service}", lambda: self._api.remove_service(service))

    def services(self) -> tuple[str, ...]:
        listed = self._call("listing services", lambda: self._api.services(filters={"label": next(iter(specs.OURS))}))
        return tuple(sorted(s["Spec"]["Name"] for s in listed))

    def progress(self, service: str) -> Progress:
        s = self._inspect(service)
        wanted = s["Spec"]["Mode"]["Replicated"]["Replicas"]
        version = s["Spec"]["TaskTemplate"]["ContainerSpec"].get("Labels", {}).get(specs.VERSION, "")
        listed = self.instances(service)
        live = [i for i in listed if i.live]
        ready = [i for i in live if i.version == version and i.engine_state == "running"]
        update = s.get("UpdateStatus") or {}
        settled = update.get("State", "completed") == "completed" and len(live) == len(ready) == wanted
        said = update.get("Message", "")
        blocked = next((i.reason for i in live if i.engine_state == "pending" and "no suitable node" in i.reason), "")
        return Progress(done=settled, wanted=wanted, ready=len(ready), said=said, blocked=blocked)

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is Routing.ENDPOINTS:
            targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
            return Reach(routing=routing, targets=targets, how="task addresses on the overlay, spread by the client")
        support = self.capabilities()[Capability(routing.value)]
        raise Unsupported(f"routing {routing.value}", support.reason)

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        return tuple(tasks.instance(t, service, nodes) for nodes, listed in [self._tasks(service)] for t in listed)

    def _tasks(self, service: str) -> tuple[dict[str, Any], list[Any]]:
        try:
            listed = self._call("listing tasks", lambda: self._api.tasks(filters={"service": service}))
        except MissingService:
            return {}, []
        # newest first would hide which instance came first
        listed.sort(key=lambda t: t["CreatedAt"])
        return {n["ID"]: n for n in self._call("listing nodes", self._api.nodes)}, listed

    def watch(self, service: str) -> Watch:
        stirred = threading.Event()
        streams: list[Any] = []
        threads: list[threading.Thread] = []

        def listen(url: str) -> None:
            with contextlib.suppress(DockerException, requests.RequestException, OSError, ValueError):
                api = docker.APIClient(base_url=url, tls=self._tls or False, version="auto", timeout=None)
                events = api.events(filters={"type": ["container", "network", "service"]}, decode=True)
                streams.append(events)
                for _ in events:
                    stirred.set()

        def follow(watch: FollowingWatch) -> None:
            for url in self._nodes.values():
                threads.append(threading.Thread(target=listen, args=(url,), name="docker events", daemon=True))
                threads[-1].start()
            period = SLOW_POLL if self._nodes else POLL
            while not watch.closed.is_set():
                stirred.clear()
                watch.snapshot(self.instances(service))
                # A node's daemon speaks first, the manager learns of it a little later: look again until it has settled.
                if stirred.wait(period):
                    for wait in (0.0, 0.02, 0.05):
                        if not watch.closed.wait(wait):
                            watch.snapshot(self.instances(service))

        def on_close() -> None:
            stirred.set()
            for stream in streams:
                with contextlib.suppress(Exception):
                    stream.close()

        return FollowingWatch(follow, on_close, "" if self._nodes else f"tasks are listed every {POLL} s")

    def kill(self, instance: Instance) -> None:
        url = self._nodes.get(instance.node or "")
        if not url:
            raise Unsupported("killing an instance", f"no access to the Docker API of node {instance.node}")
        task = self._call(f"asking for task {instance.id}", lambda: self._api.inspect_task(instance.id))
        container = task.get("Status", {}).get("ContainerStatus", {}).get("ContainerID")
        if not container:
            raise EngineError(f"killing {instance.id}", "it has no container yet")
        near = docker.APIClient(base_url=url, tls=self._tls or False, version="auto", timeout=TIMEOUT)
        try:
            self._call(f"killing {instance.id}", lambda: near.kill(container, "SIGKILL"))
        finally:
            near.close()

    def logs(self, instance: Instance, lines: int = 50) -> str:
        def read() -> str:
            url = self._api._url("/tasks/{0}/logs", instance.id)
            answer = self._api._get(url, params={"stdout": 1, "stderr": 1, "tail": lines})
            self._api._raise_for_status(answer)
            return _unframed(answer.content)

        return self._call(f"reading the log of {instance.id}", read)

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        listed = self._call("listing nodes", self._api.nodes)
        return tuple(tasks.node(n) for n in listed if n["Spec"]["Role"] == "worker" or len(listed) == 1)

    def drain(self, node: str) -> None:
        self._availability(node, "drain")

    def undrain(self, node: str) -> None:
        self._availability(node, "active")

    def _availability(self, node: str, value: str) -> None:
        found = next((n for n in self._call("listing nodes", self._api.nodes) if n["Description"]["Hostname"] == node), None)
        if not found:
            raise EngineError(f"node {node}", "the swarm has no node of that name")
        spec = {**found["Spec"], "Availability": value}
        self._call(f"setting {node} to {value}", lambda: self._api.update_node(found["ID"], found["Version"]["Index"], spec))

    # helpers

    def _inspect(self, service: str) -> Any:
        return self._call(f"asking for {service}", lambda: self._api.inspect_service(service))

    def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except APIError as e:
            kind = {404: MissingService, 409: Conflict}.get(e.status_code, EngineError)
            raise kind(what, str(e.explanation or e)) from e
        except (DockerException, requests.RequestException, OSError) as e:
            raise EngineError(what, f"{type(e).__name__}: {e}") from e


def _tls(access: Access) -> tuple[Path | None, TLSConfig | None]:
    """docker-py reads certificates from files only: written to a private folder, which `close` removes."""
    if not (access.ca or access.cert):
        return None, None
    folder = Path(tempfile.mkdtemp(prefix="coebench-tls-"))
    names = {"ca": access.ca, "cert": access.cert, "key": access.key}
    files = {name: str(folder / f"{name}.pem") for name, text in names.items() if text}
    for name, file in files.items():
        Path(file).touch(mode=0o600)
        Path(file).write_text(names[name])
    pair = (files["cert"], files["key"]) if "cert" in files else None
    return folder, TLSConfig(client_cert=pair, ca_cert=files.get("ca"), verify=bool(access.ca))


def _unframed(data: bytes) -> str:
    """Docker's log stream: frames of an 8-byte head (stream, 3 zero bytes, length) and their text."""
    out, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        out.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return b"".join(out).decode(errors="replace")
