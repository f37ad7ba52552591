"""A service is a Marathon app below `/coebench`; an instance is a task."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import requests
from marathon import MarathonClient
from marathon.exceptions import ConflictError, MarathonError, MarathonHttpError, NotFoundError

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

from . import apps, compat

T = TypeVar("T")
__all__ = ["MesosDriver", "compat"]
TIMEOUT = 30.0
STEADY = 2.0  # seconds between two listings when no event comes: what an event stream that broke may hide at most

logging.getLogger("marathon").addHandler(logging.NullHandler())  # the client logs every 404 that is an answer here


class MesosDriver:
    """One connection to a Marathon, and to the Mesos master that it names."""

    coe: ClassVar[str] = "mesos"
    title: ClassVar[str] = "Mesos"
    contract: ClassVar[int] = 1

    def __init__(self, access: Access, session: requests.Session) -> None:
        self._access = access
        self._session = session
        self._client = self._connect()
        self._info: Any = None
        self._known_versions: dict[str, dict[str, str]] = {}
        self._nodes: dict[str, tuple[str, str]] = {}  # agent id → host name, address

    def _connect(self) -> MarathonClient:
        a = self._access
        return MarathonClient(
            a.url,
            username=a.user or None,
            password=a.password or None,
            auth_token=a.token or None,
            timeout=TIMEOUT,
            session=self._session,
            verify=self._session.verify,
        )

    @classmethod
    def connect(cls, access: Access) -> Self:
        if not access.url:
            raise BadInput("Mesos is reached by Marathon's URL; there is none in this bay's access")
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))
        session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=32))
        driver = cls(access, session)
        driver._info = driver._json("GET", "/v2/info")
        return driver

    def close(self) -> None:
        self._session.close()

    def info(self) -> EngineInfo:
        version = self._master("/version")
        return EngineInfo(
            engine="Mesos",
            version=version["version"],
            components={self._info.get("name", "marathon"): str(self._info.get("version", "?"))},
            network=self._access.options.get("network", "host network, ports assigned by the scheduler"),
        )

    def capabilities(self) -> Mapping[Capability, Support]:
        yes = Support(True)
        return {
            Capability.ENDPOINTS: yes,
            Capability.NATIVE: Support(False, "Mesos and Marathon have no virtual IP of their own"),
            Capability.PROXY: Support(False, "not built yet"),
            Capability.WATCH: yes,
            Capability.HEALTH: yes,
            Capability.UPDATE: yes,
            Capability.KILL: Support(True, "the task is killed through the scheduler, which knows of it at once"),
            Capability.DRAIN: Support(True, "Mesos' own DRAIN_AGENT"),
            Capability.LOGS: yes,
        }

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        app = apps.app(spec)
        self._call(f"deploying {spec.name}", lambda: self._client.create_app(app.id, app))

    def scale(self, service: str, instances: int) -> None:
        ident = apps.app_id(service)
        self._call(f"scaling {service}", lambda: self._client.scale_app(ident, instances=instances))

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        self._call(f"asking for {spec.name}", lambda: self._client.get_app(apps.app_id(spec.name)))
        app = apps.app(spec, strategy)
        app.instances = None  # an update is no scaling
        self._call(f"updating {spec.name}", lambda: self._client.update_app(app.id, app))

    def remove(self, service: str) -> None:
        with contextlib.suppress(MissingService):
            self._call(f"removing {service}", lambda: self._client.delete_app(apps.app_id(service), force=True))

    def services(self) -> tuple[str, ...]:
        listed = self._json("GET", "/v2/apps", params={"label": apps.OURS})["apps"]
        return tuple(sorted(apps.service_of(a["id"]) for a in listed))

    def progress(self, service: str) -> Progress:
        ident = apps.app_id(service)
        a = self._json("GET", f"/v2/apps{ident}")["app"]
        tasks = self._tasks(service)
        checked = bool(a.get("healthChecks"))
        current = [t for t in tasks if t.get("version") == a["version"] and t.get("state") == "TASK_RUNNING"]
        ready = sum(1 for t in current if not checked or apps.healthy(t))
        wanted = a["instances"]
        deploying = len(a.get("deployments", []))
        said = f"{deploying} deployment under way" if deploying else ""
        blocked = "" if not deploying or ready >= wanted else self._blocked(ident)
        return Progress(
            done=not deploying and ready == len(tasks) == wanted, wanted=wanted, ready=ready, said=said, blocked=blocked
        )

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is Routing.ENDPOINTS:
            targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
            return Reach(routing=routing, targets=targets, how="agents' addresses and assigned ports, spread by the client")
        support = self.capabilities()[Capability(routing.value)]
        raise Unsupported(f"routing {routing.value}", support.reason)

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        return self._instances(service, self._tasks(service))

    def _instances(self, service: str, tasks: list[Any]) -> tuple[Instance, ...]:
        if not tasks:
            return ()
        versions = self._versions(service)
        checked = bool(versions.get("checked"))
        return tuple(apps.instance(t, service, versions.get(t.get("version", ""), ""), checked, self._where(t)) for t in tasks)

    def _tasks(self, service: str) -> list[Any]:
        try:
            return list(self._json("GET", f"/v2/apps{apps.app_id(service)}/tasks")["tasks"])
        except MissingService:
            return []

    def _versions(self, service: str) -> dict[str, str]:
        """Marathon's version (a time) → ours, for the app's present version; older ones are asked for once."""
        known = self._known_versions.setdefault(service, {})
        try:
            a = self._json("GET", f"/v2/apps{apps.app_id(service)}")["app"]
        except MissingService:
            return dict(known)
        known[a["version"]] = a.get("labels", {}).get(apps.VERSION, "")
        known["checked"] = "yes" if a.get("healthChecks") else ""
        return dict(known)

    def _where(self, task: Any) -> tuple[str, str]:
        """Host name and address of a task's agent."""
        agent = task.get("slaveId", "")
        if agent not in self._nodes:
            for s in self._master("/slaves")["slaves"]:
                self._nodes[s["id"]] = (s["hostname"], s["pid"].rsplit("@", 1)[1].rsplit(":", 1)[0])
        return self._nodes.get(agent, (task.get("host", ""), task.get("host", "")))

    def watch(self, service: str) -> Watch:
        stirred = threading.Event()
        responses: list[requests.Response] = []

        def listen(watch: FollowingWatch) -> None:
            while not watch.closed.is_set():
                try:
                    url = self._access.url.rstrip("/") + "/v2/events"
                    answer = self._session.get(url, stream=True, headers={"Accept": "text/event-stream"}, auth=self._auth())
                    responses.append(answer)
                    for line in answer.iter_lines(chunk_size=1):
                        if line.startswith(b"event:"):
                            stirred.set()
                        if watch.closed.is_set():
                            return
                except (requests.RequestException, OSError, AttributeError, ValueError):
                    if watch.closed.wait(0.2):  # the scheduler is away: ask again until it is back
                        return
                stirred.set()

        def follow(watch: FollowingWatch) -> None:
            thread = threading.Thread(target=listen, args=(watch,), name="marathon events", daemon=True)
            thread.start()
            while not watch.closed.is_set():
                stirred.clear()
                with contextlib.suppress(EngineError):  # away: what was lost is found at the next listing
                    watch.snapshot(self.instances(service))
                stirred.wait(STEADY)

        def on_close() -> None:
            stirred.set()
            for answer in responses:
                with contextlib.suppress(Exception):
                    answer.raw.shutdown()
                with contextlib.suppress(Exception):
                    answer.close()

        return FollowingWatch(follow, on_close)

    def kill(self, instance: Instance) -> None:
        ident = apps.app_id(instance.service)
        self._call(f"killing {instance.id}", lambda: self._client.kill_task(ident, instance.id))

    def logs(self, instance: Instance, lines: int = 50) -> str:
        agents = {s["hostname"]: s["pid"].rsplit("@", 1)[1] for s in self._master("/slaves")["slaves"]}
        agent = agents.get(instance.node or "")
        if not agent:
            raise EngineError(f"reading the log of {instance.id}", f"Mesos has no agent {instance.node}")
        state = self._get(f"http://{agent}/state")
        folder = next(
            (
                e["directory"]
                for f in state["frameworks"] + state.get("completed_frameworks", [])
                for e in f["executors"] + f.get("completed_executors", [])
                if e["id"] == instance.id
            ),
            None,
        )
        if not folder:
            raise EngineError(f"reading the log of {instance.id}", "its sandbox is gone")
        texts = []
        for name in ("stdout", "stderr"):
            path = {"path": f"{folder}/{name}"}
            size = self._get(f"http://{agent}/files/read", {**path, "offset": -1})["offset"]
            offset = max(0, size - 16384)
            texts.append(self._get(f"http://{agent}/files/read", {**path, "offset": offset, "length": 16384})["data"])
        return "\n".join("".join(texts).splitlines()[-lines:])

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        return tuple(apps.node(s) for s in self._master("/slaves")["slaves"])

    def drain(self, node: str) -> None:
        self._agent_call(node, "DRAIN_AGENT", "drain_agent")

    def undrain(self, node: str) -> None:
        self._agent_call(node, "REACTIVATE_AGENT", "reactivate_agent")

    def _agent_call(self, node: str, kind: str, field: str) -> None:
        agents = {s["hostname"]: s["id"] for s in self._master("/slaves")["slaves"]}
        if node not in agents:
            raise EngineError(f"node {node}", "Mesos has no agent of that name")
        body = {"type": kind, field: {"agent_id": {"value": agents[node]}}}
        url = f"http://{self._info['marathon_config']['master']}/api/v1"
        what = f"{kind.lower()} {node}"
        answer = self._call(what, lambda: self._session.post(url, json=body, timeout=TIMEOUT))
        if answer.status_code >= 300:
            raise EngineError(what, answer.text)

    # helpers

    def _blocked(self, ident: str) -> str:
        for item in self._json("GET", "/v2/queue")["queue"]:
            if item["app"]["id"] == ident:
                summary = item.get("processedOffersSummary", {})
                reasons = [
                    f"{r['reason']} ({r['declined']} of {r['processed']} offers)"
                    for r in summary.get("rejectSummaryLastOffers", [])
                    if r.get("declined")
                ]
                if reasons:
                    return f"no offer fits: {', '.join(reasons)}"
        return ""

    def _auth(self) -> tuple[str, str] | None:
        return (self._access.user, self._access.password) if self._access.user else None

    def _json(self, method: str, path: str, params: Mapping[str, str] | None = None) -> Any:
        """An answer of Marathon as plain JSON."""
        return self._call(path, lambda: self._client._do_request(method, path, params=params).json())

    def _master(self, path: str) -> Any:
        """An answer of the Mesos master that Marathon names."""
        return self._get(f"http://{self._info['marathon_config']['master']}{path}")

    def _get(self, url: str, params: Mapping[str, Any] | None = None) -> Any:
        def ask() -> Any:
            answer = self._session.get(url, params=params, timeout=TIMEOUT)
            answer.raise_for_status()
            return answer.json()

        return self._call(url, ask)

    def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except NotFoundError as e:
            raise MissingService(what, str(e.error_message)) from e
        except ConflictError as e:
            raise Conflict(what, str(e.error_message)) from e
        except MarathonHttpError as e:
            said = f"{e.error_message} {getattr(e, 'error_details', '') or ''}"
            kind = Conflict if "already exists" in said else EngineError
            raise kind(what, said) from e
        except (MarathonError, requests.RequestException, OSError, ValueError) as e:
            raise EngineError(what, f"{type(e).__name__}: {e}") from e
