"""A service is a number of processes, spread over the hosts by turns; an instance is one of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlsplit

from coebench.contract import (
    Access,
    BadInput,
    Capability,
    Claim,
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

PORTS = range(20000, 29000)
NOBODY = "there is no orchestrator: nobody does this"
STATES = {"starting": InstanceState.STARTING, "running": InstanceState.READY, "ended": InstanceState.ENDED}
WAIT = 20.0  # seconds that a host holds a question until something changes


class BareDriver:
    """Connections to the starters of a bay's hosts. What is wanted is known here only: nobody keeps it so."""

    coe: ClassVar[str] = "bare"
    title: ClassVar[str] = "no COE"
    contract: ClassVar[int] = 1

    def __init__(self, nodes: Mapping[str, str]) -> None:
        self._nodes = dict(nodes)
        self._specs: dict[str, ServiceSpec] = {}
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(max_workers=max(4, 2 * len(nodes)), thread_name_prefix="bare")
        self._closed = False

    @classmethod
    def connect(cls, access: Access) -> Self:
        if not access.nodes:
            raise BadInput("bare processes are started by the hosts' own starters; this bay's access names none")
        driver = cls(access.nodes)
        driver._everything("reaching the hosts")
        return driver

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def info(self) -> EngineInfo:
        return EngineInfo(engine="no COE", version="bare processes", network="the hosts' own network", baseline=True)

    def capabilities(self) -> Mapping[Capability, Support]:
        yes, no = Support(True), Support(False, NOBODY)
        return {
            Capability.ENDPOINTS: yes,
            Capability.NATIVE: no,
            Capability.PROXY: Support(False, "no COE's own: coebench deploys the same haproxy in front of all"),
            Capability.WATCH: yes,
            Capability.HEALTH: no,
            Capability.UPDATE: no,
            Capability.KILL: yes,
            Capability.DRAIN: no,
            Capability.LOGS: yes,
            Capability.RESERVE: Support(False, "nothing is reserved: a host takes whatever it is told to start"),
        }

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name: a DNS label of at most 40 characters is needed")
        with self._lock:
            there = self._everything(f"deploying {spec.name}")
            if spec.name in self._specs or any(p["service"] == spec.name for p in there):
                raise Conflict(f"deploying {spec.name}", "a service of that name is there already")
            self._specs[spec.name] = spec
            self._start(spec, spec.instances, there)

    def scale(self, service: str, instances: int) -> None:
        with self._lock:
            spec = self._spec(service)
            there = self._everything(f"scaling {service}")
            mine = [p for p in there if p["service"] == service and p["state"] != "ended" and not p.get("ending")]
            if instances > len(mine):
                self._start(spec, instances - len(mine), there)
            else:
                self._end(mine[instances:], spec.grace)

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        self._spec(spec.name)
        raise Unsupported("a rolling update", NOBODY)

    def remove(self, service: str) -> None:
        with self._lock:
            spec = self._specs.pop(service, None)
            mine = [p for p in self._everything(f"removing {service}") if p["service"] == service]
            self._end(mine, spec.grace if spec else 2.0)

    def services(self) -> tuple[str, ...]:
        return tuple(sorted({p["service"] for p in self._everything("listing services")} | set(self._specs)))

    def progress(self, service: str) -> Progress:
        wanted = len(self._mine(service)) if (spec := self._specs.get(service)) is None else spec.instances
        ready = sum(p["state"] == "running" and not p.get("ending") for p in self._mine(service))
        if spec is None and not wanted:
            raise MissingService(f"asking for {service}", "no such service was started")
        return Progress(done=ready == wanted, wanted=wanted, ready=ready)

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is not Routing.ENDPOINTS:
            raise Unsupported(f"routing {routing.value}", self.capabilities()[Capability(routing.value)].reason)
        found = self.instances(service)
        if not found:
            self._spec(service)
        targets = tuple((i.address, i.port) for i in found if i.live and i.address and i.port)
        return Reach(routing=routing, targets=targets, how="hosts' addresses and assigned ports, spread by the client")

    def _start(self, spec: ServiceSpec, count: int, there: list[Any]) -> None:
        """On the hosts that have the fewest, by turns."""
        load = Counter(dict.fromkeys(self._nodes, 0))
        taken: dict[str, set[int]] = {node: set() for node in self._nodes}
        for p in there:
            load[p["node"]] += p["state"] != "ended"
            taken[p["node"]].add(p["port"])
        asked = []
        for _ in range(count):
            node = min(load, key=lambda n: (load[n], n))
            load[node] += 1
            port = spec.port if spec.publish else next(p for p in PORTS if p not in taken[node])
            taken[node].add(port)
            ident = f"{spec.name}.{uuid.uuid4().hex[:12]}"
            body = {
                "id": ident,
                "service": spec.name,
                "version": spec.version,
                "image": spec.image,
                "command": list(spec.command),
                "port": port,
                "env": {
                    "COEBENCH_PORT": str(port),
                    "COEBENCH_INSTANCE": ident,
                    "COEBENCH_VERSION": spec.version,
                    **spec.env,
                },
            }
            asked.append(self._pool.submit(self._ask, f"starting {ident}", node, "POST", "/processes", body))
        for one in asked:
            one.result()

    def _end(self, processes: list[Any], grace: float) -> None:
        def end(p: Any) -> None:
            with contextlib.suppress(MissingService):
                self._ask(f"ending {p['id']}", p["node"], "DELETE", f"/processes/{quote(p['id'])}?grace={grace:g}")

        list(self._pool.map(end, processes))

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        return tuple(self._instance(p) for p in self._mine(service))

    def _mine(self, service: str) -> list[Any]:
        return [p for p in self._everything(f"asking for {service}") if p["service"] == service]

    def _instance(self, p: Mapping[str, Any]) -> Instance:
        state = STATES[p["state"]]
        if p.get("ending") and state is not InstanceState.ENDED:
            state = InstanceState.STOPPING
        claims = tuple(Claim(name, p[name]) for name in ("created", "started") if p.get(name))
        code = p.get("code")
        return Instance(
            id=p["id"],
            service=p["service"],
            version=p["version"],
            state=state,
            engine_state="ending" if state is InstanceState.STOPPING else p["state"],
            node=p["node"],
            address=p["address"],
            port=p["port"],
            published=(p["address"], p["port"]),
            claims=claims,
            reason=p.get("reason") or ("" if code is None else f"its process ended with {code}"),
        )

    def watch(self, service: str) -> Watch:
        """Each host holds a question until something changes there; a host that is away is asked again."""
        held: dict[str, http.client.HTTPConnection] = {}
        latest: dict[str, list[Any]] = {}
        lock = threading.Lock()

        def hold(watch: FollowingWatch, node: str, url: str) -> None:
            at = 0
            while not watch.closed.is_set():
                try:
                    connection = self._connection(url, WAIT + 5)
                    with lock:
                        held[node] = connection
                    while not watch.closed.is_set():
                        connection.request("GET", f"/processes?after={at}&wait={WAIT:g}")
                        answer = json.loads(connection.getresponse().read())
                        at = answer["at"]
                        with lock:
                            latest[node] = [p for p in answer["processes"] if p.get("service") == service]
                            watch.snapshot(self._instance(p) for mine in latest.values() for p in mine)
                except (OSError, ValueError, http.client.HTTPException, AttributeError):
                    watch.closed.wait(0.2)

        def follow(watch: FollowingWatch) -> None:
            threads = [threading.Thread(target=hold, args=(watch, *n), daemon=True) for n in self._nodes.items()]
            for thread in threads:
                thread.start()
            watch.closed.wait()

        def on_close() -> None:
            for connection in list(held.values()):
                with contextlib.suppress(Exception):
                    connection.sock.shutdown(2)

        return FollowingWatch(follow, on_close)

    def kill(self, instance: Instance) -> None:
        self._ask(f"killing {instance.id}", instance.node or "", "DELETE", f"/processes/{quote(instance.id)}?now=1")

    def logs(self, instance: Instance, lines: int = 50) -> str:
        path = f"/processes/{quote(instance.id)}/log"
        return "\n".join(self._ask(f"reading the log of {instance.id}", instance.node or "", "GET", path)[-lines:])

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        found = []
        for name, url in self._nodes.items():
            try:
                self._ask("listing nodes", name, "GET", "/processes")
                ready = True
            except EngineError:
                ready = False
            address = urlsplit(url).hostname or ""
            state = "answers" if ready else "silent"
            found.append(Node(name=name, address=address, ready=ready, schedulable=ready, engine_state=state, cpu=0.0, memory=0))
        return tuple(found)

    def drain(self, node: str) -> None:
        raise Unsupported("draining a node", NOBODY)

    def undrain(self, node: str) -> None:
        raise Unsupported("draining a node", NOBODY)

    # helpers

    def _spec(self, service: str) -> ServiceSpec:
        try:
            return self._specs[service]
        except KeyError:
            raise MissingService(f"asking for {service}", "no such service was started over this connection") from None

    def _everything(self, what: str) -> list[Any]:
        """All processes on all hosts that answer."""
        if self._closed:
            raise EngineError(what, "this connection was closed")

        def ask(node: str) -> list[Any]:
            return list(self._ask(what, node, "GET", "/processes")["processes"])

        return [p for found in self._pool.map(ask, self._nodes) for p in found if p]

    @staticmethod
    def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)

    def _ask(self, what: str, node: str, method: str, path: str, body: Any = None) -> Any:
        if self._closed:
            raise EngineError(what, "this connection was closed")
        url = self._nodes.get(node)
        if not url:
            raise EngineError(what, f"there is no host {node}")
        connection = self._connection(url, 10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            value = json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as e:
            raise EngineError(what, f"{node}: {type(e).__name__}: {e}") from e
        finally:
            connection.close()
        if answer.status >= 400:
            raise {404: MissingService, 409: Conflict}.get(answer.status, EngineError)(what, str(value))
        return value
