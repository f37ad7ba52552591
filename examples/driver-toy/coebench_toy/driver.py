"""A service is one of the toy engine's; an instance is a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

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

HOST = "127.0.0.1"
TIMEOUT = 10.0
STATES = {"pending": InstanceState.PENDING, "running": InstanceState.READY, "stopping": InstanceState.STOPPING}
MISSING = {
    Capability.NATIVE: "the toy engine has no virtual addresses",
    Capability.PROXY: "the toy engine has no proxy",
    Capability.HEALTH: "the toy engine looks at processes, not at health paths",
    Capability.UPDATE: "the toy engine has no rolling update",
}


class ToyDriver:
    """One connection to one toy engine. Each request has a socket of its own, so any number of threads may ask at once."""

    coe: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    contract: ClassVar[int] = 1

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self._closed = False

    @classmethod
    def connect(cls, access: Access) -> Self:
        url = urlsplit(access.url)
        if not url.hostname or not url.port:
            raise BadInput(f"the toy engine is reached by http://ADDRESS:PORT, not by '{access.url}'")
        driver = cls(url.hostname, url.port)
        driver.info()
        return driver

    def close(self) -> None:
        self._closed = True

    def info(self) -> EngineInfo:
        about = self._ask("GET", "/")
        return EngineInfo(engine="Toy", version=about["version"], network="loopback, ports assigned by the engine")

    def capabilities(self) -> Mapping[Capability, Support]:
        return {c: Support(c not in MISSING, MISSING.get(c, "")) for c in Capability}

    # services

    def deploy(self, spec: ServiceSpec) -> None:
        if not is_service_name(spec.name):
            raise BadInput(f"'{spec.name}' can't be a service's name")
        self._ask(
            "POST",
            "/services",
            {
                "name": spec.name,
                "image": spec.image,
                "instances": spec.instances,
                "version": spec.version,
                "env": dict(spec.env),
                "command": list(spec.command),
                "cpu": spec.cpu,
                "memory": spec.memory,
                "grace": spec.grace,
            },
        )

    def scale(self, service: str, instances: int) -> None:
        self._ask("PUT", _path(service), {"instances": instances})

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        raise Unsupported("updating a service", MISSING[Capability.UPDATE])

    def remove(self, service: str) -> None:
        with contextlib.suppress(MissingService):
            self._ask("DELETE", _path(service))

    def services(self) -> tuple[str, ...]:
        return tuple(self._ask("GET", "/services"))

    def progress(self, service: str) -> Progress:
        s = self._ask("GET", _path(service))
        waiting = "; ".join(s["waiting"])
        done = s["running"] == s["wanted"] == s["listed"]
        return Progress(done=done, wanted=s["wanted"], ready=s["running"], said=waiting, blocked=waiting)

    def reach(self, service: str, routing: Routing) -> Reach:
        if routing is not Routing.ENDPOINTS:
            raise Unsupported(f"routing {routing.value}", MISSING[Capability(routing.value)])
        self._ask("GET", _path(service))
        targets = tuple((i.address, i.port) for i in self.instances(service) if i.live and i.address and i.port)
        return Reach(routing=routing, targets=targets, how="ports on loopback, spread by the client")

    # instances

    def instances(self, service: str) -> tuple[Instance, ...]:
        if not is_service_name(service):
            return ()
        return tuple(_instance(i) for i in self._ask("GET", f"{_path(service)}/instances"))

    def watch(self, service: str) -> Watch:
        connection = http.client.HTTPConnection(self._address, self._port, timeout=TIMEOUT)
        stream, sock = self._open(connection, f"{_path(service)}/events")

        def follow(watch: FollowingWatch) -> None:
            for line in stream:
                if line.strip():
                    watch.snapshot(self.instances(service))
                if watch.closed.is_set():
                    return
            raise EngineError(f"following {service}", "the engine ended the stream")

        def on_close() -> None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # a close alone would not wake a thread that reads
            connection.close()

        return FollowingWatch(follow, on_close)

    def kill(self, instance: Instance) -> None:
        self._ask("POST", f"/instances/{instance.id}/kill")

    def logs(self, instance: Instance, lines: int = 50) -> str:
        return "\n".join(str(self._ask("GET", f"/instances/{instance.id}/log")).splitlines()[-lines:])

    # nodes

    def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(
                name=n["name"],
                address=HOST,
                ready=True,
                schedulable=n["open"],
                engine_state="open" if n["open"] else "closed",
                cpu=n["cpu"],
                memory=n["memory"],
            )
            for n in self._ask("GET", "/nodes")
        )

    def drain(self, node: str) -> None:
        self._ask("PUT", f"/nodes/{node}", {"open": False})

    def undrain(self, node: str) -> None:
        self._ask("PUT", f"/nodes/{node}", {"open": True})

    # helpers

    def _ask(self, verb: str, path: str, body: Any = None) -> Any:
        """One request, one answer. Every failure leaves as one of the contract's errors."""
        if self._closed:
            raise EngineError(f"{verb} {path}", "this connection is closed")
        connection = http.client.HTTPConnection(self._address, self._port, timeout=TIMEOUT)
        try:
            connection.request(verb, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            value = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise EngineError(f"{verb} {path}", f"{type(e).__name__}: {e}") from e
        finally:
            connection.close()
        if answer.status != 200:
            kind = {404: MissingService, 409: Conflict}.get(answer.status, EngineError)
            raise kind(f"{verb} {path}", value["error"])
        return value

    def _open(self, connection: http.client.HTTPConnection, path: str) -> tuple[Iterator[bytes], socket.socket]:
        """A stream of lines and its socket, which http.client forgets once the answer has begun."""
        try:
            connection.request("GET", path)
            sock = connection.sock
            return iter(connection.getresponse()), sock
        except (OSError, http.client.HTTPException) as e:
            raise EngineError(f"GET {path}", f"{type(e).__name__}: {e}") from e


def _path(service: str) -> str:
    """Only what can be a service's name is ever put into a request: an empty one would be another request."""
    if not is_service_name(service):
        raise MissingService(f"asking for '{service}'", "that can't be a service's name")
    return f"/services/{service}"


def _instance(i: Mapping[str, Any]) -> Instance:
    claims = [Claim("created", i["created"])]
    if i["started"]:
        claims.append(Claim("started", i["started"]))
    place = (HOST, i["port"]) if i["port"] else None
    return Instance(
        id=i["id"],
        service=i["service"],
        version=i["version"],
        state=STATES[i["state"]],
        engine_state=i["state"],
        node=i["node"],
        address=HOST if i["port"] else None,
        port=i["port"],
        published=place,
        claims=tuple(claims),
        reason=i["reason"],
    )
