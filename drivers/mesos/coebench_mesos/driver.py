"""A service is a Marathon app below `/coebench`; an instance is a task."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

import requests
import urllib3
from marathon import MarathonClient
from marathon.exceptions import ConflictError, MarathonError, MarathonHttpError, NotFoundError

from coebench.contract import (
    Access,
    BadInput,
    Capability,
    CoebenchError,
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

from . import apps, compat
from .session import Session

P = ParamSpec("P")
T = TypeVar("T")
__all__ = ["MesosDriver", "compat"]
TIMEOUT = 30.0
MASTER_TIMEOUT = 3.0  # seconds for the master's answer about agents, without which instances are listed too
MASTER_AGAIN = 30.0  # seconds until a master that did not give it is asked again by a listing
STEADY = 2.0  # seconds between two listings when no event comes: what an event stream that broke may hide at most
POLL = 0.5  # seconds between two listings while there is no event stream
GRACE = 1.0  # seconds without a stream after which a watch says that it polls; a new leader has one before
GATHER = 0.015  # seconds between two listings at least: a change of one task is told by several events
SILENCE = 60.0  # seconds without a byte after which an event stream is taken to be dead; Marathon keeps it alive each 15
EVENTS = (
    "status_update_event",
    "health_status_changed_event",
    "failed_health_check_event",
    "instance_changed_event",
    "instance_health_changed_event",
    "unknown_instance_terminated_event",
    "app_terminated_event",
    "deployment_info",
    "deployment_step_success",
    "deployment_success",
    "deployment_failed",
)

log = logging.getLogger(__name__)
logging.getLogger("marathon").addHandler(logging.NullHandler())  # the client logs every 404 that is an answer here


def _understood(call: Callable[P, T]) -> Callable[P, T]:
    """An answer that is not of the form that Marathon and Mesos document is the engine's error."""

    @functools.wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except CoebenchError:
            raise
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as e:
            raise EngineError(call.__name__, f"the answer is not understood ({type(e).__name__}: {e})") from e

    return inner


class MesosDriver:
    """One connection to a Marathon, and to the Mesos master that it names."""

    coe: ClassVar[str] = "mesos"
    title: ClassVar[str] = "Mesos"
    contract: ClassVar[int] = 1

    def __init__(self, access: Access, session: Session) -> None:
        self._access = access
        self._session = session
        self._client = self._connect()
        self._info: Any = None
        self._known_versions: dict[str, dict[str, str]] = {}
        self._master_silent = 0.0  # until when listings do not ask it
        self._nodes: dict[str, tuple[str, str]] = {}  # agent id → host name, address
        self._secrets: Path | None = None
        self._closed = False

    def _connect(self) -> MarathonClient:
        """The session has the login: the client would send it in Latin-1."""
        return MarathonClient(self._access.url, timeout=TIMEOUT, session=self._session, verify=self._session.verify)

    @classmethod
    def connect(cls, access: Access) -> Self:
        if not access.url:
            raise BadInput("Mesos is reached by Marathon's URL; there is none in this bay's access")
        session = Session(access)
        secrets = _tls(access, session)
        driver = cls(access, session)
        driver._secrets = secrets
        try:
            driver._info = driver._json(f"reaching Marathon at {access.url}", "GET", "/v2/info")
        except EngineError:
            driver.close()  # a connection that fails leaves no key on the disk
            raise
        return driver

    def close(self) -> None:
        self._closed = True
        self._session.close()
        if self._secrets:
            shutil.rmtree(self._secrets, ignore_errors=True)

    @_understood
    def info(self) -> EngineInfo:
        try:
            version = str(self._master("/version", MASTER_TIMEOUT)["version"])
        except (EngineError, KeyError, TypeError):  # the master may be out of reach where Marathon is not
            version = "?"
        return EngineInfo(
            engine="Mesos",
            version=version,
            components={self._info.get("name", "marathon"): str(self._info.get("version", "?"))},
            network=self._access.options.get("network", "host network, ports assigned by the scheduler"),
        )

    def capabilities(self) -> Mapping[Capability, Support]:
        yes = Support(True)
        return {
            Capability.ENDPOINTS: yes,
            Capability.NATIVE: Support(False, "Mesos and Marathon have no virtual IP of their own"),
            Capability.PROXY: Support(False, "no COE's own: coebench deploys the same haproxy in front of all"),
            Capability.WATCH: yes,
            Capability.HEALTH: yes,
            Capability.UPDATE: yes,
            Capability.KILL: Support(True, "the task is killed through the scheduler, which knows of it at once"),
            Capability.DRAIN: Support(True, "Mesos' own DRAIN_AGENT"),
            Capability.RESERVE: yes,
            Capability.LOGS: yes,
        }

    # services

    @_understood
    def deploy(self, spec: ServiceSpec) -> None:
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name: a DNS label of at most 40 characters is needed")
        app = apps.app(spec, pull_secret=self._access.options.get("pull-secret", ""))
        self._json(f"deploying {spec.name}", "POST", "/v2/apps", data=app.to_json(minimal=True))

    @_understood
    def scale(self, service: str, instances: int) -> None:
        self._app(service)  # Marathon would take the request for a new app's
        # force: Marathon locks an app while a deployment is under way, and would refuse a second thought
        body = json.dumps({"instances": instances})
        self._json(f"scaling {service}", "PUT", f"/v2/apps{_known(service)}", {"force": "true"}, body)

    @_understood
    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        current = self._app(spec.name)
        app = apps.app(spec, strategy, self._access.options.get("pull-secret", ""))
        app.instances = current["instances"]  # an update is no scaling
        # The whole app: a partial one would keep what the new spec leaves out. Force: who updates while a deployment is under
        # way, such as back from a version that never gets healthy, means it, and no other engine would ask again.
        how = {"partialUpdate": "false", "force": "true"}
        self._json(f"updating {spec.name}", "PUT", f"/v2/apps{app.id}", how, app.to_json(minimal=True))

    @_understood
    def remove(self, service: str) -> None:
        if not is_service_name(service):
            return
        with contextlib.suppress(MissingService):
            self._json(f"removing {service}", "DELETE", f"/v2/apps{apps.app_id(service)}", {"force": "true"})

    @_understood
    def services(self) -> tuple[str, ...]:
        listed = self._json("listing apps", "GET", "/v2/apps", {"label": apps.OURS})["apps"]
        return tuple(sorted(apps.service_of(a["id"]) for a in listed))

    @_understood
    def progress(self, service: str) -> Progress:
        a = self._app(service)
        tasks = a.get("tasks") or []
        checked = bool(a.get("healthChecks"))
        # A task keeps the version that it was started in, and scaling makes a new one: it is current since the last real change.
        since = a.get("versionInfo", {}).get("lastConfigChangeAt") or a["version"]
        current = [t for t in tasks if t.get("version", "") >= since and t.get("state") == "TASK_RUNNING"]
        ready = sum(1 for t in current if not checked or apps.healthy(t))
        wanted = a["instances"]
        deploying = len(a.get("deployments", []))
        said = f"{deploying} deployment under way" if deploying else ""
        failure = a.get("lastTaskFailure") or {}
        if deploying and failure.get("version") == a["version"]:
            said += f"; last failure: {failure.get('state', '')} {failure.get('message', '')}"
        blocked = "" if not deploying or ready >= wanted else self._blocked(apps.app_id(service))
        return Progress(
            done=not deploying and ready == len(tasks) == wanted, wanted=wanted, ready=ready, said=said, blocked=blocked
        )

    @_understood
    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is Routing.ENDPOINTS:
            targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
            if not targets:
                self._app(service)  # none at all, or none yet?
            return Reach(routing=routing, targets=targets, how="agents' addresses and assigned ports, spread by the client")
        support = self.capabilities()[Capability(routing.value)]
        raise Unsupported(f"routing {routing.value}", support.reason)

    @_understood
    def ask(self, verb: Verb, service: str = "") -> None:
        """One request (`AskingPort`): of the app, of its tasks, of all our apps."""
        path = "" if verb is Verb.LIST_ALL else _known(service)
        requests: dict[Verb, tuple[str, str, dict[str, str]]] = {
            Verb.GET: ("GET", f"/v2/apps{path}", {}),
            Verb.LIST: ("GET", f"/v2/apps{path}/tasks", {}),
            Verb.LIST_ALL: ("GET", "/v2/apps", {"label": apps.OURS}),
            Verb.DELETE: ("DELETE", f"/v2/apps{path}", {"force": "true"}),
        }
        method, where, params = requests[verb]
        self._json(f"{verb.value} {service}".strip(), method, where, params)

    # instances

    @_understood
    def instances(self, service: str) -> tuple[Instance, ...]:
        try:
            a = self._app(service)
        except MissingService:
            return ()
        checked = bool(a.get("healthChecks"))
        versions = self._versions(service, a)
        return tuple(
            apps.instance(t, service, versions.get(t.get("version", ""), ""), checked, self._where(t))
            for t in a.get("tasks") or []
        )

    def _app(self, service: str) -> Any:
        """The app with its tasks, in one request. Raises MissingService."""
        return self._json(f"asking for {service}", "GET", f"/v2/apps{_known(service)}")["app"]

    def _versions(self, service: str, a: Mapping[str, Any]) -> dict[str, str]:
        """Marathon's version (a time) → ours; a task may be of an older one than the app is, which is asked for once."""
        known = self._known_versions.setdefault(service, {})
        known[a["version"]] = a.get("labels", {}).get(apps.VERSION, "")
        for version in {t.get("version", "") for t in a.get("tasks") or []} - known.keys():
            with contextlib.suppress(MissingService):
                path = f"/v2/apps{apps.app_id(service)}/versions/{version}"
                known[version] = self._json(f"asking for {service}", "GET", path).get("labels", {}).get(apps.VERSION, "")
        return known

    def _where(self, task: Any) -> tuple[str, str]:
        """Host name and address of a task's agent."""
        agent = task.get("slaveId", "")
        if agent not in self._nodes:
            for s in self._agents():
                self._nodes[s["id"]] = (s["hostname"], s["pid"].rsplit("@", 1)[1].rsplit(":", 1)[0])
        return self._nodes.get(agent, (task.get("host", ""), task.get("host", "")))

    def _agents(self) -> list[Any]:
        """The master's list of agents; () where only Marathon can be reached, whose word for a host is its address too. A master
        that does not answer is not asked again for a while: every listing would wait for it."""
        if time.monotonic() < self._master_silent:
            return []
        try:
            return list(self._master("/slaves", MASTER_TIMEOUT)["slaves"])
        except (EngineError, KeyError, TypeError) as e:
            if not self._master_silent:
                log.warning("The Mesos master does not tell of its agents, so hosts are as Marathon names them: %s", e)
            self._master_silent = time.monotonic() + MASTER_AGAIN
            return []

    def _alone(self) -> Session:
        """A session of its own for a stream, which is ended from another thread: that must never be a connection that goes back
        to where requests take theirs from."""
        session = Session(self._access)
        session.verify, session.cert = self._session.verify, self._session.cert
        return session

    def watch(self, service: str) -> Watch:
        """Events say when to list. Without them, the app is listed every POLL seconds, and the watch says so."""
        stirred = threading.Event()
        streams: list[requests.Response] = []
        lock = threading.Lock()
        state = _Stream()

        def listen(watch: FollowingWatch) -> None:
            with self._alone() as session:
                while not watch.closed.is_set() and not state.refused:
                    hear(watch, session)
                    watch.closed.wait(0.2)

        def hear(watch: FollowingWatch, session: Session) -> None:
            try:
                with session.get(
                    self._access.url.rstrip("/") + "/v2/events",
                    params=[("event_type", kind) for kind in EVENTS],
                    headers={"Accept": "text/event-stream"},
                    stream=True,
                    timeout=(TIMEOUT, SILENCE),
                ) as answer:
                    if not state.take(answer):
                        return
                    with lock:
                        streams[:] = [answer]
                    if watch.closed.is_set():
                        return
                    stirred.set()  # what happened before we listened
                    for line in _lines(answer):
                        if apps.concerns(line, service):
                            state.heard = True
                            stirred.set()
            except EngineError as e:  # a redirect that can't be followed
                state.refused = state.trouble = str(e)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, AttributeError, ValueError) as e:
                # the scheduler is away, or was silent for too long: ask again until it is back
                state.trouble = f"the event stream breaks ({type(e).__name__})"
            finally:
                state.ended()

        def follow(watch: FollowingWatch) -> None:
            thread = threading.Thread(target=listen, args=(watch,), name="marathon events", daemon=True)
            thread.start()
            told, first = True, True
            while not watch.closed.is_set():
                stirred.clear()
                try:
                    changed = watch.snapshot(self.instances(service))
                    state.judge(watch, late=changed and not told and not first)
                    first = False
                except EngineError:  # away: what was lost is found at the next listing
                    state.away()
                watch.closed.wait(GATHER)
                told = stirred.wait(STEADY if state.open else POLL)
            thread.join(timeout=2)

        def on_close() -> None:
            stirred.set()
            with lock:
                for answer in streams:
                    with contextlib.suppress(Exception):
                        answer.raw.shutdown()  # its reader wakes, and closes it

        return FollowingWatch(follow, on_close)

    @_understood
    def kill(self, instance: Instance) -> None:
        path = f"/v2/apps{apps.app_id(instance.service)}/tasks/{instance.id}"
        self._json(f"killing {instance.id}", "DELETE", path)

    @_understood
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

    @_understood
    def nodes(self) -> tuple[Node, ...]:
        return tuple(apps.node(s) for s in self._master("/slaves")["slaves"])

    @_understood
    def drain(self, node: str) -> None:
        self._agent_call(node, "DRAIN_AGENT", "drain_agent")

    @_understood
    def undrain(self, node: str) -> None:
        self._agent_call(node, "REACTIVATE_AGENT", "reactivate_agent")

    def _agent_call(self, node: str, kind: str, field: str) -> None:
        agents = {s["hostname"]: s["id"] for s in self._master("/slaves")["slaves"]}
        if node not in agents:
            raise EngineError(f"node {node}", "Mesos has no agent of that name")
        body = {"type": kind, field: {"agent_id": {"value": agents[node]}}}
        url = f"{self._master_url()}/api/v1"
        what = f"{kind.lower()} {node}"
        answer = self._call(what, lambda: self._session.post(url, json=body, timeout=TIMEOUT))
        if answer.status_code >= 300:
            raise EngineError(what, answer.text)

    # helpers

    def _blocked(self, ident: str) -> str:
        for item in self._json("asking for the queue", "GET", "/v2/queue")["queue"]:
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

    def _json(self, what: str, method: str, path: str, params: Mapping[str, str] | None = None, data: str | None = None) -> Any:
        """An answer of Marathon as plain JSON."""
        return self._call(what, lambda: self._client._do_request(method, path, params=params, data=data).json())

    def _master(self, path: str, timeout: float = TIMEOUT) -> Any:
        """An answer of the Mesos master that Marathon names."""
        return self._get(self._master_url() + path, timeout=timeout)

    def _master_url(self) -> str:
        """As the access says, else as Marathon does. Raises EngineError where that is a path of ZooKeeper's alone."""
        if own := self._access.options.get("master", "").rstrip("/"):
            return own
        config = self._info.get("marathon_config") or {}
        named = str(config.get("master") or "")
        if named.startswith(("http://", "https://")):
            return named.rstrip("/")
        if named and "/" not in named and "," not in named:
            return f"http://{named}"
        if leader := str(config.get("mesos_leader_ui_url") or self._info.get("mesos_leader_ui_url") or "").rstrip("/"):
            return leader
        said = f"names its master as '{named}'" if named else "names no master"
        raise EngineError("asking the Mesos master", f"Marathon {said}: give the option master=http://HOST:5050")

    def _get(self, url: str, params: Mapping[str, Any] | None = None, timeout: float = TIMEOUT) -> Any:
        def ask() -> Any:
            answer = self._session.get(url, params=params, timeout=timeout)
            answer.raise_for_status()
            return answer.json()

        return self._call(url, ask)

    def _call(self, what: str, call: Callable[[], T]) -> T:
        if self._closed:
            raise EngineError(what, "this connection was closed")
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
        except (MarathonError, requests.RequestException, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise EngineError(what, f"{type(e).__name__}: {e}") from e


class _Stream:
    """What is known of a watch's event stream."""

    def __init__(self) -> None:
        self.open = False
        self.heard = False  # an event about the service, on this stream
        self.refused = ""  # why it will not be had
        self.trouble = "no event stream is answered"
        self._opened = 0.0
        self._missing = time.monotonic()  # since when there is none, while Marathon answers

    def take(self, answer: requests.Response) -> bool:
        """Whether an answer is a stream."""
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if answer.status_code == 200 and kind in ("", "text/event-stream"):
            self.open, self.heard, self._opened = True, False, time.monotonic()
            return True
        said = f"{answer.status_code} {answer.reason or ''}".strip() if answer.status_code != 200 else kind
        self.trouble = f"the event stream is answered with {said}"
        if answer.status_code < 500:
            self.refused = self.trouble
        return False

    def ended(self) -> None:
        if self.open:
            if self.heard or time.monotonic() - self._opened >= GRACE:
                self._missing = time.monotonic()
            self.trouble = "the event stream ends"
        self.open = False

    def away(self) -> None:
        """Marathon does not answer at all: that is not the stream's fault."""
        if not self.open:
            self._missing = time.monotonic()

    def judge(self, watch: FollowingWatch, late: bool) -> None:
        """After a listing: say that the watch polls, where it does. `late`: the listing found what no event had told of."""
        if watch.fallback:
            return
        now = time.monotonic()
        usable = self.open and (self.heard or now - self._opened >= GRACE)
        missing = 0.0 if usable else now - self._missing
        if self.refused or missing > GRACE or (late and not self.open and missing > POLL / 2):
            watch.poll(f"{self.refused or self.trouble}: the app is listed every {POLL:g} s", POLL)
        elif late and self.open and not self.heard:
            watch.poll(f"the event stream tells of nothing: the app is listed every {STEADY:g} s", STEADY)


def _tls(access: Access, session: requests.Session) -> Path | None:
    """Certificates for the session, which reads them from files only: in a private folder, which `close` removes."""
    if not (access.ca or access.cert):
        return None
    folder = Path(tempfile.mkdtemp(prefix="tls-", dir=private_folder()))
    files = {}
    for name, text in (("ca", access.ca), ("cert", access.cert), ("key", access.key)):
        if text:
            files[name] = folder / f"{name}.pem"
            files[name].touch(mode=0o600)
            files[name].write_text(text)
    if "ca" in files:
        session.verify = str(files["ca"])
    if "cert" in files:
        session.cert = (str(files["cert"]), str(files["key"]))
    return folder


def _known(service: str) -> str:
    """The app's id. No service has a name that can't be one: Marathon would take it for a group's, or another app's."""
    if not is_service_name(service):
        raise MissingService(f"service '{service}'", "no service can have this name")
    return apps.app_id(service)


def _lines(answer: requests.Response) -> Iterator[bytes]:
    """Lines as they arrive; asking for them byte by byte, as `iter_lines` would, costs a hundred times the CPU."""
    rest = b""
    while chunk := answer.raw.read1(65536, decode_content=False):  # what is there, with or without chunks
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
