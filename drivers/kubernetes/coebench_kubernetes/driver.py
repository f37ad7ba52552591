"""A service is a Deployment in the namespace `coebench`; an instance is a pod."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar

import urllib3
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException

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
    Right,
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
from coebench.contract.tls import relax

from . import logins, pods, rights, specs

NAMESPACE = "coebench"
TIMEOUT = 30.0  # seconds for an answer
SILENCE = 90.0  # seconds without a byte after which a watch's stream is taken to be dead; a bookmark comes each minute
TERMINATING = 60.0  # seconds that a namespace may take to go
PASSING = (408, 410, 429, 500, 502, 503, 504)  # answers to a watch after which it lists again
TRIES = 8  # so many times without an event in between
PATIENCE = 60.0  # and for so many seconds
LONGEST = 10.0  # seconds of a server's Retry-After that are honoured
SHORT = 0.5  # seconds; a stream that ends sooner without an event was of no use
T = TypeVar("T")


class KubernetesDriver:
    """One connection to one API server. The client's pool lets several threads ask at once."""

    coe: ClassVar[str] = "k8s"
    title: ClassVar[str] = "Kubernetes"
    contract: ClassVar[int] = 1
    access_by: ClassVar[str] = "kubeconfig"

    def __init__(self, api: Any, streams: Any, options: Mapping[str, str]) -> None:
        """Streams are ended from other threads: their connections are none that requests take theirs from."""
        self._api = api
        self._namespace = options.get("namespace", NAMESPACE)
        self._pull_secret = options.get("pull-secret", "")
        # the client's generated types know its own models only; plain JSON goes in and out here
        self._core: Any = client.CoreV1Api(api)
        self._apps: Any = client.AppsV1Api(api)
        self._streams: Any = client.CoreV1Api(streams)
        self._network = options.get("network", "the cluster's own CNI")
        self._closed = False
        self._cordoned: set[str] = set()  # by `drain`; a node of a single machine, say, stays a node for that

    @classmethod
    def connect(cls, access: Access) -> Self:
        driver = cls._reached(access)
        driver._make_namespace()
        return driver

    @classmethod
    def rights(cls, access: Access) -> tuple[Right, ...]:
        """For bays of others: see coebench.contract.rights."""
        driver = cls._reached(access)
        try:
            authorization: Any = client.AuthorizationV1Api(driver._api)
            try:
                exists = driver._phase() != ""
            except EngineError:  # it may not even be looked at
                exists = True
            return rights.ask(authorization, driver._call, driver._namespace, exists)
        finally:
            driver.close()

    @classmethod
    def _reached(cls, access: Access) -> Self:
        """A connection that has been answered, and that has changed nothing."""
        if not access.kubeconfig:
            raise BadInput("Kubernetes is reached by a kubeconfig; there is none in this bay's access")
        configuration = client.Configuration()
        try:
            content = yaml.safe_load(access.kubeconfig)
        except yaml.YAMLError as e:
            raise BadInput(f"the kubeconfig can't be used: {' '.join(str(e).split())}") from None
        # The client keeps keys in files until the process ends, shared by all connections that use them.
        impersonated = logins.load(content, configuration, str(private_folder()))
        configuration.connection_pool_maxsize = 32
        configuration.retries = False  # a retry would be hidden in a latency
        api, streams = client.ApiClient(configuration), client.ApiClient(configuration)
        for each in (api, streams):
            relax(each.rest_client.pool_manager)
            logins.impersonating(each.rest_client, impersonated)
        _have_patience(api.rest_client, TIMEOUT)
        driver = cls(api, streams, access.options)
        driver._call("reaching the API server", lambda: client.VersionApi(driver._api).get_code())
        return driver

    def _phase(self) -> str:
        """The namespace's: "Active", "Terminating", "" if there is none, "?" if this user may not know."""
        try:
            found = self._json(f"asking for namespace {self._namespace}", self._core.read_namespace, self._namespace)
            return str(found.get("status", {}).get("phase") or "Active")
        except MissingService:
            return ""
        except EngineError as e:
            try:  # who has rights in one namespace alone may not look at the namespace itself
                self._json("listing deployments", self._apps.list_namespaced_deployment, self._namespace, limit=1)
                return "?"
            except EngineError:
                raise e from None

    def _make_namespace(self) -> None:
        """Make the namespace unless it is there; one that an earlier run is leaving has to go first."""
        deadline = time.monotonic() + TERMINATING
        while (phase := self._phase()) == "Terminating":
            if time.monotonic() > deadline:
                raise EngineError(f"making namespace {self._namespace}", "it is being removed, and does not go")
            time.sleep(0.1)
        if not phase:
            body = {"metadata": {"name": self._namespace, "labels": specs.OURS}}
            with contextlib.suppress(Conflict):  # somebody else was quicker
                self._call(
                    f"making namespace {self._namespace}", lambda: self._core.create_namespace(body, _preload_content=False)
                )

    def leave(self) -> None:
        """Remove the namespace if it is coebench's and holds nothing of anybody else."""
        with contextlib.suppress(EngineError):
            found = self._json("asking for the namespace", self._core.read_namespace, self._namespace)
            ours = specs.OURS.items() <= (found["metadata"].get("labels") or {}).items()
            kinds = (self._core.list_namespaced_pod, self._core.list_namespaced_service, self._apps.list_namespaced_deployment)
            if ours and not any(self._json("listing what is left", kind, self._namespace)["items"] for kind in kinds):
                self._call("removing the namespace", lambda: self._core.delete_namespace(self._namespace, _preload_content=False))

    def close(self) -> None:
        self._closed = True
        for connection in (self._api, self._streams.api_client):
            with contextlib.suppress(Exception):
                connection.close()

    def info(self) -> EngineInfo:
        version = self._call("asking the version", lambda: client.VersionApi(self._api).get_code())
        try:
            nodes = self._json("listing nodes", self._core.list_node)["items"]
        except EngineError:  # a right of the whole cluster, which its owner may keep
            nodes = []
        kubelets = sorted({n["status"]["nodeInfo"]["kubeletVersion"].lstrip("v") for n in nodes})
        runtimes = sorted({n["status"]["nodeInfo"]["containerRuntimeVersion"] for n in nodes})
        return EngineInfo(
            engine="Kubernetes",
            version=version.git_version.lstrip("v"),
            components={"kubelet": ", ".join(kubelets), "runtime": ", ".join(runtimes)} if nodes else {},
            network=self._network,
        )

    def capabilities(self) -> Mapping[Capability, Support]:
        yes = Support(True)
        return {
            Capability.ENDPOINTS: yes,
            Capability.NATIVE: yes,
            Capability.PROXY: Support(False, "no COE's own: coebench deploys the same haproxy in front of all"),
            Capability.WATCH: yes,
            Capability.HEALTH: yes,
            Capability.UPDATE: yes,
            Capability.KILL: Support(True, "the pod is deleted with no grace: the API's way, not behind its back"),
            Capability.DRAIN: Support(True, "cordon, then eviction of this tool's own pods"),
            Capability.RESERVE: yes,
            Capability.LOGS: yes,
        }

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name: a DNS label of at most 40 characters is needed")
        body = specs.deployment(spec, pull_secret=self._pull_secret)
        self._call(
            f"deploying {spec.name}",
            lambda: self._apps.create_namespaced_deployment(self._namespace, body, _preload_content=False),
        )

    def scale(self, service: str, instances: int) -> None:
        _known(service)
        patch = {"spec": {"replicas": instances}}
        self._call(
            f"scaling {service}",
            lambda: self._apps.patch_namespaced_deployment_scale(service, self._namespace, patch, _preload_content=False),
        )

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        _known(spec.name)
        new = specs.deployment(spec, strategy, self._pull_secret)["spec"]
        # Template and strategy as a whole, since a merge would keep what the new spec leaves out; the number of instances
        # is left alone: an update is no scaling.
        patch = [{"op": "replace", "path": f"/spec/{part}", "value": new[part]} for part in ("template", "strategy")]
        self._call(
            f"updating {spec.name}",
            lambda: self._apps.patch_namespaced_deployment(spec.name, self._namespace, patch, _preload_content=False),
        )

    def remove(self, service: str) -> None:
        if not is_service_name(service):
            return
        options = {"propagationPolicy": "Background"}
        for what, read, delete in (
            ("deployment", self._apps.read_namespaced_deployment, self._apps.delete_namespaced_deployment),
            ("service", self._core.read_namespaced_service, self._core.delete_namespaced_service),
        ):
            with contextlib.suppress(MissingService):
                found = self._json(f"asking for {what} {service}", read, service, self._namespace)
                if specs.OURS.items() <= (found["metadata"].get("labels") or {}).items():  # else it is somebody else's
                    self._call(
                        f"removing {what} {service}",
                        lambda delete=delete: delete(service, self._namespace, body=options, _preload_content=False),  # type: ignore[misc]
                    )

    def services(self) -> tuple[str, ...]:
        listed = self._json(
            "listing deployments", self._apps.list_namespaced_deployment, self._namespace, label_selector=specs.SELECT
        )
        return tuple(sorted(d["metadata"]["name"] for d in listed["items"]))

    def progress(self, service: str) -> Progress:
        d = self._deployment(service)
        status, wanted = d.get("status", {}), d["spec"]["replicas"]
        seen = status.get("observedGeneration", 0) >= d["metadata"]["generation"]
        updated, ready, total = (status.get(k, 0) for k in ("updatedReplicas", "readyReplicas", "replicas"))
        told = [c for c in status.get("conditions", []) if (c["status"] != "True") != (c["type"] == "ReplicaFailure")]
        said = "; ".join(c.get("message", "") for c in told)
        failed = "; ".join(c.get("message") or c.get("reason", "") for c in told if c["type"] == "ReplicaFailure")
        done = seen and updated == ready == total == wanted
        late = [
            c for c in status.get("conditions", []) if c.get("reason") == "ProgressDeadlineExceeded" and c["status"] == "False"
        ]
        stopped = "; ".join(c.get("message", c["reason"]) for c in late)
        blocked = failed or self._blocked(service)
        return Progress(done=done, wanted=wanted, ready=min(updated, ready), said=said, blocked=blocked, stopped=stopped)

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is Routing.ENDPOINTS:
            targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
            if not targets:
                self._deployment(service)  # none at all, or none yet?
            return Reach(routing=routing, targets=targets, how="pod addresses, spread by the client")
        if routing is Routing.NATIVE:
            deployment = self._deployment(service)
            body = specs.cluster_service(deployment)
            try:
                made = self._json(f"making service {service}", self._core.create_namespaced_service, self._namespace, body)
            except Conflict:
                made = self._json(f"asking for service {service}", self._core.read_namespaced_service, service, self._namespace)
            target = (made["spec"]["clusterIP"], made["spec"]["ports"][0]["port"])
            return Reach(routing=routing, targets=(target,), how="ClusterIP by kube-proxy")
        support = self.capabilities()[Capability(routing.value)]
        raise Unsupported(f"routing {routing.value}", support.reason)

    def ask(self, verb: Verb, service: str = "") -> None:
        """One request (`AskingPort`): of the Deployment, of the pods by label, of all our Deployments."""
        if verb is not Verb.LIST_ALL:
            _known(service)
        apps, core = self._apps, self._core
        calls: dict[Verb, Callable[[], Any]] = {
            Verb.GET: lambda: apps.read_namespaced_deployment(service, self._namespace, _preload_content=False),
            Verb.LIST: lambda: core.list_namespaced_pod(
                self._namespace, label_selector=f"{specs.SERVICE}={service}", _preload_content=False
            ),
            Verb.LIST_ALL: lambda: apps.list_namespaced_deployment(
                self._namespace, label_selector=specs.SELECT, _preload_content=False
            ),
            Verb.DELETE: lambda: apps.delete_namespaced_deployment(
                service, self._namespace, body={"propagationPolicy": "Background"}, _preload_content=False
            ),
        }
        self._call(f"{verb.value} {service}".strip(), calls[verb])

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        if not is_service_name(service):
            return ()
        listed = self._list_pods(service)
        return tuple(pods.instance(p) for p in listed["items"])

    def watch(self, service: str) -> Watch:
        stream: list[Any] = []
        lock = threading.Lock()

        def follow(watch: FollowingWatch) -> None:
            """List and follow, again and again. What ends that is only lasting trouble: see `Again`."""
            again = Again(watch)
            while not watch.closed.is_set():
                try:
                    if ended := follow_once(watch, again):
                        again.after(EngineError("watching pods", ended))
                except EngineError as e:
                    again.after(e)

        def follow_once(watch: FollowingWatch, again: Again) -> str:
            """Why the stream was of no use, empty if it was."""
            listed = self._list_pods(service)
            watch.snapshot(pods.instance(p) for p in listed["items"])
            response = self._call(
                "watching pods",
                lambda: self._streams.list_namespaced_pod(
                    self._namespace,
                    watch=True,
                    label_selector=f"{specs.SERVICE}={service}",
                    resource_version=listed["metadata"]["resourceVersion"],
                    allow_watch_bookmarks=True,
                    _preload_content=False,
                    _request_timeout=(TIMEOUT, SILENCE),
                ),
            )
            with lock:
                stream[:] = [response]
            begun, heard = time.monotonic(), False
            try:
                if watch.closed.is_set():
                    return ""
                for event in _events(response):
                    if event["type"] == "ERROR":  # 410: our place in the stream is too old; list again
                        told = event.get("object") or {}
                        return str(told.get("message") or told.get("reason") or "the stream ended with an error")
                    again.worked()
                    if event["type"] != "BOOKMARK":
                        watch.apply(pods.instance(event["object"]), removed=event["type"] == "DELETED")
                    heard = True
            finally:
                response.close()
            return "the stream ended at once" if not heard and time.monotonic() - begun < SHORT else ""

        def on_close() -> None:
            with lock:
                for response in stream:
                    with contextlib.suppress(Exception):
                        response.shutdown()  # its reader wakes, and closes it

        return FollowingWatch(follow, on_close)

    def kill(self, instance: Instance) -> None:
        body = {"gracePeriodSeconds": 0}
        self._call(
            f"killing {instance.id}",
            lambda: self._core.delete_namespaced_pod(instance.id, self._namespace, body=body, _preload_content=False),
        )

    def logs(self, instance: Instance, lines: int = 50) -> str:
        def read() -> str:
            answer = self._core.read_namespaced_pod_log(instance.id, self._namespace, tail_lines=lines, _preload_content=False)
            return str(answer.data.decode(errors="replace"))

        return self._call(f"reading the log of {instance.id}", read)

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        listed = self._json("listing nodes", self._core.list_node)["items"]
        return tuple(pods.node(n) for n in listed if n["metadata"]["name"] in self._cordoned or not pods.controls(n))

    def drain(self, node: str) -> None:
        self._cordon(node, True)
        selector = {"field_selector": f"spec.nodeName={node}", "label_selector": specs.SELECT}
        listed = self._json("listing pods", self._core.list_namespaced_pod, self._namespace, **selector)
        for pod in listed["items"]:
            name = pod["metadata"]["name"]
            body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name, "namespace": self._namespace}}
            with contextlib.suppress(MissingService):
                self._call(
                    f"evicting {name}",
                    lambda name=name, body=body: self._core.create_namespaced_pod_eviction(  # type: ignore[misc]
                        name, self._namespace, body, _preload_content=False
                    ),
                )

    def undrain(self, node: str) -> None:
        self._cordon(node, False)

    def _cordon(self, node: str, on: bool) -> None:
        if on:
            self._cordoned.add(node)
        patch = {"spec": {"unschedulable": on}}
        self._call(f"cordoning {node}", lambda: self._core.patch_node(node, patch, _preload_content=False))

    # helpers

    def _deployment(self, service: str) -> Any:
        _known(service)
        return self._json(f"asking for {service}", self._apps.read_namespaced_deployment, service, self._namespace)

    def _list_pods(self, service: str) -> Any:
        selector = f"{specs.SERVICE}={service}"
        return self._json("listing pods", self._core.list_namespaced_pod, self._namespace, label_selector=selector)

    def _blocked(self, service: str) -> str:
        for pod in self._list_pods(service)["items"]:
            if pod["metadata"].get("deletionTimestamp"):
                continue
            for c in pod.get("status", {}).get("conditions", []):
                if c["type"] == "PodScheduled" and c.get("reason") == "Unschedulable":
                    return str(c.get("message", "unschedulable"))
            if hindered := pods.hindered(pod):
                return hindered
        return ""

    def _json(self, what: str, call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """The answer as plain JSON: the client's own models cost ten times the CPU for nothing that is used here."""
        return self._call(what, lambda: json.loads(call(*args, _preload_content=False, **kw).data))

    def _call(self, what: str, call: Callable[[], T]) -> T:
        if self._closed:
            raise EngineError(what, "this connection was closed")
        try:
            return call()
        except ApiException as e:
            raise _error(what, e) from e
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise EngineError(what, f"{type(e).__name__}: {e}") from e
        except ConfigException as e:  # a plug-in that was asked for a new credential
            raise EngineError(what, str(e)) from e


class Again:
    """Decides whether a watch that met trouble lists again, and waits before it does. Trouble that goes on is raised."""

    def __init__(self, watch: FollowingWatch) -> None:
        self._watch = watch
        self._times = 0
        self._first = 0.0

    def worked(self) -> None:
        self._times = 0

    def after(self, e: EngineError) -> None:
        """Raises `e` where asking again can't help, or has not helped for long."""
        cause = e.__cause__
        answer = cause if isinstance(cause, ApiException) else None
        if (answer and answer.status not in PASSING) or isinstance(cause, ConfigException) or "was closed" in e.said:
            raise e
        if not self._times:
            self._first = time.monotonic()
        self._times += 1
        if self._times > TRIES or time.monotonic() - self._first > PATIENCE:
            raise e
        told = f"{answer.status} {e.said}" if answer else e.said
        self._watch.interrupt(f"{e.what}: {told}")
        self._watch.closed.wait(_retry_after(answer) if answer else min(2.0, 0.05 * 2**self._times))


def _retry_after(e: ApiException) -> float:
    """The seconds that the server asks for, at most LONGEST."""
    try:
        return min(LONGEST, max(0.05, float((e.headers or {}).get("Retry-After", ""))))
    except (ValueError, TypeError):
        return 0.05 if e.status == 410 else 1.0


def _have_patience(rest: Any, seconds: float) -> None:
    """Give every request that has no timeout of its own this one: the client would wait for ever for a server that is silent."""
    ask = rest.request

    def request(*args: Any, **kw: Any) -> Any:
        return ask(*args, **{**kw, "_request_timeout": kw.get("_request_timeout") or (seconds, seconds)})

    rest.request = request


def _known(service: str) -> None:
    """No service has a name that can't be one; the API would take an empty one for "all"."""
    if not is_service_name(service):
        raise MissingService(f"service '{service}'", "no service can have this name")


def _error(what: str, e: ApiException) -> EngineError:
    said = e.reason or ""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        said = json.loads(str(e.body))["message"]
    kind = {404: MissingService, 409: Conflict}.get(e.status, EngineError)
    return kind(what, said)


def _events(response: Any) -> Iterator[Any]:
    """JSON objects, one a line, until the server or `close` ends the stream."""
    rest = b""
    try:
        for chunk in response.stream(65536, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
        return
