"""A service is a Swarm service on the overlay network `coebench`; an instance is a task."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import docker
import requests
from docker import auth
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
    Verb,
    Watch,
    is_service_name,
    private_folder,
)
from coebench.contract.tls import relax_session

from . import specs, tasks

T = TypeVar("T")
POLL = 0.1  # seconds between two listings where nothing tells of changes
SLOW_POLL = 0.5  # the same where events do: for what has no event (a task that can't be placed)
HOT_POLL = 0.04  # the same for a while after an event
HOT = 0.3  # how long that is: the manager knows what a node knows at most so many seconds later
NODES_POLL = 2.0  # seconds between two listings of the nodes, whose state says which tasks are lost
RETRY = 1.0  # seconds between two tries to listen to a daemon that is away
ACTIONS = ("create", "start", "die", "health_status", "destroy")
TIMEOUT = 30
PRIVATE = ("https:", "unix:", "http+unix:", "ssh:")  # ways to a manager on which nobody else can read a login


class Client(docker.APIClient):  # type: ignore[misc]
    """Takes from the environment neither a proxy nor a bundle of authorities: requests would prefer that to the bay's own.

    It knows none of the logins that `docker login` left: docker's own would send them with every service, to any manager.
    """

    trust_env = property(lambda self: False, lambda self, value: None)

    @property
    def _auth_configs(self) -> auth.AuthConfig:
        return getattr(self, "_logins", None) or auth.AuthConfig({})

    @_auth_configs.setter
    def _auth_configs(self, value: auth.AuthConfig) -> None:
        """What was found in the user's files is left there: see `log_in`."""

    def log_in(self, prefix: str) -> None:
        """From now on the login of the registry of REGISTRY/PREFIX goes with services whose image is from there."""
        with contextlib.suppress(DockerException, OSError):  # a helper that can't tell: the nodes may pull without
            registry, _ = auth.resolve_repository_name(f"{prefix}/image")
            if found := auth.load_config().resolve_authconfig(registry):
                self._logins = auth.AuthConfig({"auths": {registry: found}})


class Certificates(TLSConfig):  # type: ignore[misc]
    def configure_client(self, client: docker.APIClient) -> None:
        super().configure_client(client)
        relax_session(client)


class SwarmDriver:
    """One connection to a manager, and to the nodes' own Docker APIs where the access has them."""

    coe: ClassVar[str] = "swarm"
    title: ClassVar[str] = "Docker Swarm"
    contract: ClassVar[int] = 1
    access_by: ClassVar[str] = "docker"

    def __init__(
        self,
        api: docker.APIClient,
        api_url: str,
        nodes: Mapping[str, str],
        tls: TLSConfig | None,
        secrets: Path | None,
        ip_vs: str,
        restart_delay: float | None = None,
    ) -> None:
        self._api = api
        self._access_url = api_url
        self._nodes = nodes
        self._tls = tls
        self._secrets = secrets
        # What the access says of the nodes' kernels: "yes", or why their virtual IPs would be silent.
        self._ip_vs = ip_vs
        self._restart_delay = restart_delay  # seconds; None: Docker's own
        self._closed = False
        self._listeners: dict[str, Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, access: Access) -> Self:
        if not access.url:
            raise BadInput("Swarm is reached by a manager's Docker API; there is no URL in this bay's access")
        restart_delay = _delay(access.options.get("restart_delay"))
        secrets, tls = _tls(access)
        with contextlib.ExitStack() as undo:  # a connection that fails leaves no key on the disk
            if secrets:
                undo.callback(shutil.rmtree, secrets, ignore_errors=True)
            try:
                api = Client(base_url=access.url, tls=tls or False, version="auto", timeout=TIMEOUT)
            except DockerException as e:
                raise EngineError(f"reaching Docker at {access.url}", str(e)) from e
            images = access.options.get("images", "").strip("/")
            if images and (tls or access.url.startswith(PRIVATE)):
                api.log_in(images)
            ip_vs = access.options.get("ip_vs", "whether the nodes' kernels have ip_vs is not known")
            driver = cls(api, access.url, access.nodes, tls, secrets, ip_vs, restart_delay)
            info = driver._call("asking Docker", api.info)
            if not info.get("Swarm", {}).get("ControlAvailable"):
                raise BadInput(f"Docker at {access.url} is no manager of a swarm")
            listed = driver._call("listing networks", lambda: api.networks(names=[specs.NETWORK]))  # names like it come too
            if not any(n["Name"] == specs.NETWORK for n in listed):
                with contextlib.suppress(Conflict):  # somebody else was quicker
                    driver._call(
                        "making the overlay network",
                        lambda: api.create_network(
                            specs.NETWORK, driver="overlay", attachable=True, labels=specs.OURS, scope="swarm"
                        ),
                    )
            undo.pop_all()
        return driver

    def close(self) -> None:
        self._closed = True
        with self._lock:
            for listener in self._listeners.values():
                listener.close()
        self._api.close()
        if self._secrets:
            shutil.rmtree(self._secrets, ignore_errors=True)

    def leave(self) -> None:
        """Remove the overlay network if it is coebench's; Docker keeps one that is in use."""
        with contextlib.suppress(EngineError):
            for network in self._call("listing networks", lambda: self._api.networks(names=[specs.NETWORK])):
                if network["Name"] == specs.NETWORK and specs.OURS.items() <= (network.get("Labels") or {}).items():
                    self._call("removing the network", lambda n=network: self._api.remove_network(n["Id"]))  # type: ignore[misc]

    def info(self) -> EngineInfo:
        version = self._call("asking the version", self._api.version)
        components = {c["Name"].lower(): c["Version"] for c in version.get("Components", [])}
        return EngineInfo(
            engine="Docker Swarm",
            version=version["Version"],
            components=components,
            network=f"overlay network (vxlan), {'virtual IP' if self._virtual else 'DNS round robin'}",
        )

    @property
    def _virtual(self) -> bool:
        return self._ip_vs == "yes"

    def capabilities(self) -> Mapping[Capability, Support]:
        yes = Support(True)
        near = yes if self._nodes else Support(False, "needs the nodes' own Docker APIs; the access has none")
        lost = f"that a node's tasks are lost, within {NODES_POLL + SLOW_POLL:g} s"
        told = f"events of the daemons say when to list the tasks; what only the manager knows of, every {SLOW_POLL} s; {lost}"
        pushed = Support(True, told)
        return {
            Capability.ENDPOINTS: yes,
            Capability.NATIVE: yes
            if self._virtual
            else Support(False, f"the virtual IP and the routing mesh need the kernel's ip_vs: {self._ip_vs}"),
            Capability.PROXY: Support(False, "no COE's own: coebench deploys the same haproxy in front of all"),
            Capability.WATCH: pushed
            if self._nodes
            else Support(False, f"the manager pushes no task events: listed every {POLL} s"),
            Capability.HEALTH: Support(True, "the check runs inside the container: its image needs a shell and wget"),
            Capability.UPDATE: yes,
            Capability.KILL: near,
            Capability.DRAIN: yes,
            Capability.RESERVE: yes,
            Capability.LOGS: yes,
        }

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name: a DNS label of at most 40 characters is needed")
        self._call(
            f"deploying {spec.name}",
            lambda: self._api.create_service(
                specs.task_template(spec, self._restart_delay),
                name=spec.name,
                labels=specs.labels(spec),
                mode=specs.mode(spec.instances),
                endpoint_spec=specs.endpoint(spec, self._virtual),
            ),
        )

    def scale(self, service: str, instances: int) -> None:
        # The spec as the swarm has it, but for the number. docker's own fetching of it fills in defaults, which makes
        # another task template of it, and the swarm would replace every task.
        self._update(service, lambda spec: spec | {"Mode": specs.mode(instances)})

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        # All anew but the mode, which holds the number of instances: an update is no scaling.
        self._update(spec.name, lambda old: self._whole(spec, strategy) | {"Mode": old["Mode"]})

    def _whole(self, spec: ServiceSpec, strategy: Strategy) -> dict[str, Any]:
        return specs.service(spec, strategy, self._virtual, self._restart_delay)

    def _update(self, service: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Swarm takes a whole spec with the version it was made from; a newer one in between makes it say so: once more."""
        for attempt in range(5):
            current = self._find(service)
            try:
                self._post(f"updating {service}", f"/services/{current['ID']}/update", current, change(current["Spec"]))
                return
            except EngineError as e:
                if "out of sequence" not in e.said or attempt == 4:
                    raise

    def _post(self, what: str, path: str, current: Any, body: dict[str, Any]) -> None:
        def post() -> None:
            params = {"version": current["Version"]["Index"]}
            self._api._raise_for_status(self._api._post_json(self._api._url(path), data=body, params=params))

        self._call(what, post)

    def remove(self, service: str) -> None:
        with contextlib.suppress(MissingService):
            found = self._find(service)
            self._call(f"removing {service}", lambda: self._api.remove_service(found["ID"]))

    def services(self) -> tuple[str, ...]:
        listed = self._call("listing services", lambda: self._api.services(filters={"label": next(iter(specs.OURS))}))
        return tuple(sorted(s["Spec"]["Name"] for s in listed))

    def progress(self, service: str) -> Progress:
        s = self._find(service)
        wanted = s["Spec"]["Mode"]["Replicated"]["Replicas"]
        version = s["Spec"]["TaskTemplate"]["ContainerSpec"].get("Labels", {}).get(specs.VERSION, "")
        listed = self.instances(service)
        live = [i for i in listed if i.live]
        ready = [i for i in live if i.version == version and i.engine_state == "running"]
        update = s.get("UpdateStatus") or {}
        settled = update.get("State", "completed") == "completed" and len(live) == len(ready) == wanted
        said = update.get("Message", "")
        blocked = next((i.reason for i in live if i.engine_state == "pending" and "no suitable node" in i.reason), "")
        state = update.get("State", "")
        stopped = f"{state}: {said}" if state == "paused" or state.startswith("rollback") else ""
        return Progress(done=settled, wanted=wanted, ready=len(ready), said=said, blocked=blocked, stopped=stopped)

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is Routing.ENDPOINTS:
            targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
            if not targets:
                self._find(service)  # none at all, or none yet?
            return Reach(routing=routing, targets=targets, how="task addresses on the overlay, spread by the client")
        if routing is Routing.NATIVE and self._virtual:
            return Reach(routing=routing, targets=(self._virtual_ip(service),), how="virtual IP on the overlay, ip_vs")
        support = self.capabilities()[Capability(routing.value)]
        raise Unsupported(f"routing {routing.value}", support.reason)

    def _virtual_ip(self, service: str) -> tuple[str, int]:
        """The manager gives it soon after it has accepted the service."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            found = self._find(service)
            port = found["Spec"]["TaskTemplate"]["ContainerSpec"]["Labels"][specs.PORT]
            if given := [v["Addr"] for v in found.get("Endpoint", {}).get("VirtualIPs", []) if v.get("Addr")]:
                return given[0].partition("/")[0], int(port)
            if time.monotonic() > deadline:
                raise EngineError(f"the virtual IP of {service}", "the manager gave none")
            time.sleep(0.05)

    def ask(self, verb: Verb, service: str = "") -> None:
        """One request (`AskingPort`): of the service by its name, of its tasks by label, of all our services."""
        if verb is not Verb.LIST_ALL and not is_service_name(service):
            raise MissingService(f"{verb.value} '{service}'", "no service can have this name")
        api = self._api
        calls: dict[Verb, Callable[[], Any]] = {
            Verb.GET: lambda: api.inspect_service(service),
            Verb.LIST: lambda: api.tasks(filters={"label": f"{specs.SERVICE}={service}"}),
            Verb.LIST_ALL: lambda: api.services(filters={"label": next(iter(specs.OURS))}),
            Verb.DELETE: lambda: api.remove_service(service),
        }
        self._call(f"{verb.value} {service}".strip(), calls[verb])

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        return self._listed(service, self._node_table())

    def _node_table(self) -> dict[str, Any]:
        return {n["ID"]: n for n in self._call("listing nodes", self._api.nodes)}

    def _listed(self, service: str, nodes: Mapping[str, Any]) -> tuple[Instance, ...]:
        """The tasks, found by their service's label: they outlive the service until their containers are gone."""
        if not is_service_name(service):
            return ()
        label = {"label": f"{specs.SERVICE}={service}"}
        listed = self._call("listing tasks", lambda: self._api.tasks(filters=label))
        listed.sort(key=lambda t: t["CreatedAt"])  # newest first would hide which instance came first
        return tuple(tasks.instance(t, service, nodes) for t in listed)

    def watch(self, service: str) -> Watch:
        """Events of the nodes' daemons, and the manager's own, say when to list: neither tells of tasks themselves."""
        stirred = threading.Event()
        streams: dict[str, Any] = {}
        lock = threading.Lock()

        def listen(watch: FollowingWatch, url: str, filters: dict[str, Any]) -> None:
            while not watch.closed.is_set():
                with contextlib.suppress(DockerException, requests.RequestException, OSError, ValueError, AttributeError):
                    events = self._listener(url).events(filters=filters, decode=True)
                    with lock:
                        streams[url] = events
                    if watch.closed.is_set():
                        return
                    stirred.set()  # what happened before we listened
                    for event in events:
                        if "Type" not in event:  # an error's body
                            watch.poll(f"a daemon refuses its events: tasks are listed every {SLOW_POLL} s", SLOW_POLL)
                            break
                        if event.get("Type") != "service" or event["Actor"]["Attributes"].get("name") == service:
                            stirred.set()
                watch.closed.wait(RETRY)  # the node is away: its instances are seen from the manager meanwhile

        def follow(watch: FollowingWatch) -> None:
            container = {"type": "container", "label": f"com.docker.swarm.service.name={service}", "event": list(ACTIONS)}
            sources = [(url, container) for url in self._nodes.values()]
            if sources:
                sources.append((self._access_url, {"type": "service"}))
            threads = [threading.Thread(target=listen, args=(watch, *s), name="docker events", daemon=True) for s in sources]
            for thread in threads:
                thread.start()
            nodes, looked = self._node_table(), time.monotonic()
            hot = 0.0
            while not watch.closed.is_set():
                if time.monotonic() - looked > NODES_POLL:
                    nodes, looked = self._node_table(), time.monotonic()
                watch.snapshot(self._listed(service, nodes))
                if not sources:
                    watch.closed.wait(POLL)
                    continue
                # A daemon speaks first; its manager is told in batches, each 0.1 s: look again until that has come.
                watch.closed.wait(HOT_POLL)
                if stirred.wait(0 if time.monotonic() < hot else SLOW_POLL):
                    stirred.clear()
                    hot = time.monotonic() + HOT
            for thread in threads:
                thread.join(timeout=2)

        def on_close() -> None:
            stirred.set()
            with lock:
                for stream in streams.values():
                    with contextlib.suppress(Exception):
                        stream.close()

        return FollowingWatch(follow, on_close, *(() if self._nodes else (f"tasks are listed every {POLL} s", POLL)))

    def _listener(self, url: str) -> Any:
        """A client without a time limit, for streams: one for each daemon, shared by all watches."""
        with self._lock:
            if url not in self._listeners:
                version = self._api._version
                self._listeners[url] = Client(base_url=url, tls=self._tls or False, version=version, timeout=None)
            return self._listeners[url]

    def kill(self, instance: Instance) -> None:
        url = self._nodes.get(instance.node or "")
        if not url:
            raise Unsupported("killing an instance", f"no access to the Docker API of node {instance.node}")
        task = self._call(f"asking for task {instance.id}", lambda: self._api.inspect_task(instance.id))
        container = task.get("Status", {}).get("ContainerStatus", {}).get("ContainerID")
        if not container:
            raise EngineError(f"killing {instance.id}", "it has no container yet")
        near = Client(base_url=url, tls=self._tls or False, version=self._api._version, timeout=TIMEOUT)
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

    def _find(self, service: str) -> Any:
        """A service of ours by its whole name. Raises MissingService.

        To ask for it by name would not do: Docker takes a name that it doesn't know for the beginning of an id, and a
        service of somebody else's may have the name.
        """
        if is_service_name(service):
            filters = {"name": service, "label": next(iter(specs.OURS))}  # names that begin like it come too
            for s in self._call(f"asking for {service}", lambda: self._api.services(filters=filters)):
                if s["Spec"]["Name"] == service:
                    return s
        raise MissingService(f"asking for {service}", f"the swarm has no service {service} of coebench's")

    def _call(self, what: str, call: Callable[[], T]) -> T:
        if self._closed:
            raise EngineError(what, "this connection was closed")
        try:
            return call()
        except APIError as e:
            kind = {404: MissingService, 409: Conflict}.get(e.status_code, EngineError)
            raise kind(what, str(e.explanation or e)) from e
        except (DockerException, requests.RequestException, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise EngineError(what, f"{type(e).__name__}: {e}") from e


def _delay(given: str | None) -> float | None:
    """Seconds, or None for Docker's own. Raises BadInput."""
    try:
        delay = None if given is None else float(given)
    except ValueError:
        delay = -1.0
    if delay is not None and not 0 <= delay <= 86400:
        raise BadInput(f"Swarm's restart_delay is a number of seconds, not '{given}'")
    return delay


def _tls(access: Access) -> tuple[Path | None, TLSConfig | None]:
    """docker-py reads certificates from files only: written to a private folder, which `close` removes."""
    if not (access.ca or access.cert):
        return None, None
    folder = Path(tempfile.mkdtemp(prefix="tls-", dir=private_folder()))
    names = {"ca": access.ca, "cert": access.cert, "key": access.key}
    files = {name: str(folder / f"{name}.pem") for name, text in names.items() if text}
    for name, file in files.items():
        Path(file).touch(mode=0o600)
        Path(file).write_text(names[name])
    pair = (files["cert"], files["key"]) if "cert" in files else None
    return folder, Certificates(client_cert=pair, ca_cert=files.get("ca"), verify=True)  # without a CA: the system's authorities


def _unframed(data: bytes) -> str:
    """Docker's log stream: frames of an 8-byte head (stream, 3 zero bytes, length) and their text."""
    out, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        out.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return b"".join(out).decode(errors="replace")
