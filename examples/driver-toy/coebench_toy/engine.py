"""The toy engine: one process that keeps N processes of each service running, with an HTTP API on loopback.

    GET    /                                what it is
    GET    /services                        names
    POST   /services                        deploy: name, image, instances, version, env, command, cpu, memory, grace; 409
    GET    /services/NAME                   wanted, running, waiting (why instances cannot be placed); 404
    PUT    /services/NAME                   {"instances": N}; 404
    DELETE /services/NAME                   404
    GET    /services/NAME/instances         all that there are
    GET    /services/NAME/events            a line for each time that something of the service has changed
    POST   /instances/ID/kill               SIGKILL; 404
    GET    /instances/ID/log                what it wrote; 404
    GET    /nodes                           name, cpu, memory, open
    PUT    /nodes/NAME                      {"open": false} empties it

It stands for what a real engine is to a driver: another process, asynchronous, with words of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
PORTS = itertools.cycle(range(21000, 29000))  # below those that the kernel gives to clients
PAUSE = 0.2  # seconds before an instance that ended is replaced


class Refused(Exception):
    """An answer that is not 200: its status and words."""


@dataclass
class Instance:
    """One process, or one that is to be."""

    id: str
    service: str
    version: str
    cpu: float
    memory: int
    created: float
    state: str = "pending"  # pending, running, stopping
    node: str | None = None
    port: int | None = None
    started: float | None = None
    reason: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def told(self) -> dict[str, Any]:
        """As the API tells it."""
        return {k: v for k, v in vars(self).items() if k not in ("process", "cpu", "memory")}


class Engine:
    """All state, under one lock. `images`: name → command; `nodes`: name → cores and bytes of memory."""

    def __init__(self, folder: Path, images: dict[str, list[str]], nodes: dict[str, tuple[float, int]]) -> None:
        self.folder = folder
        self.images = images
        self.nodes = nodes
        self.closed: set[str] = set()
        self.specs: dict[str, dict[str, Any]] = {}
        self.instances: dict[str, Instance] = {}
        self.changed = threading.Condition(threading.RLock())
        self.turn = 0

    def stir(self) -> None:
        """Something changed: look whether anything is to be done, and tell all who listen."""
        with self.changed:
            for name, spec in self.specs.items():
                mine = [i for i in self.instances.values() if i.service == name and i.state != "stopping"]
                for _ in range(spec["instances"] - len(mine)):
                    self._add(name, spec)
                for instance in mine[spec["instances"] :]:
                    self._stop(instance)
            for instance in list(self.instances.values()):
                if instance.state == "pending":
                    self._place(instance)
            self.turn += 1
            self.changed.notify_all()

    def _add(self, name: str, spec: dict[str, Any]) -> None:
        ident = f"{name}-{secrets.token_hex(3)}"
        self.instances[ident] = Instance(ident, name, spec["version"], spec["cpu"], spec["memory"], time.time())

    def _place(self, i: Instance) -> None:
        spec = self.specs[i.service]
        command = self.images.get(spec["image"])
        if not command:
            i.reason = f"no image {spec['image']}"
            return
        free = {n: list(room) for n, room in self.nodes.items() if n not in self.closed}
        for other in self.instances.values():
            if other.node in free:
                free[other.node][0] -= other.cpu
                free[other.node][1] -= other.memory
        fit = [n for n, (cpu, memory) in free.items() if cpu >= i.cpu - 1e-9 and memory >= i.memory]
        if not fit:
            i.reason = f"no node has {i.cpu:g} cores and {i.memory >> 20} MiB left"
            return
        node = max(fit, key=lambda n: free[n][1])
        i.node, i.port, i.reason = node, _port(), ""
        env = {"COEBENCH_PORT": str(i.port), "COEBENCH_INSTANCE": i.id, "COEBENCH_VERSION": i.version}
        env |= {"COEBENCH_IMAGE_VERSION": spec["image"].rpartition(":")[2], **spec["env"]}
        with open(self.folder / f"{i.id}.log", "ab") as log:
            try:
                i.process = subprocess.Popen(command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            except OSError as e:
                i.node, i.reason = None, f"{command[0]}: {e.strerror}"
                return
        i.state, i.started = "running", time.time()
        threading.Thread(target=self._attend, args=(i, i.process), daemon=True).start()

    def _attend(self, i: Instance, process: subprocess.Popen[bytes]) -> None:
        """Wait for its end. One that nobody asked to end is replaced."""
        process.wait()
        with self.changed:
            asked = i.state == "stopping"
            del self.instances[i.id]
            self.turn += 1
            self.changed.notify_all()
        if not asked:
            time.sleep(PAUSE)
        self.stir()

    def _stop(self, i: Instance) -> None:
        if not i.process:
            del self.instances[i.id]
            return
        i.state = "stopping"
        i.process.terminate()
        grace = self.specs[i.service]["grace"]

        def insist(process: subprocess.Popen[bytes]) -> None:
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()

        threading.Thread(target=insist, args=(i.process,), daemon=True).start()

    # the API

    def deploy(self, spec: dict[str, Any]) -> None:
        if spec["command"]:  # it is meant for an image's file system, and this is the machine's own
            raise Refused(400, "the toy engine runs its own programs, and no command")
        with self.changed:
            if spec["name"] in self.specs:
                raise Refused(409, f"there is a service {spec['name']}")
            self.specs[spec["name"]] = spec
        self.stir()

    def scale(self, name: str, instances: int) -> None:
        self._known(name)["instances"] = instances
        self.stir()

    def remove(self, name: str) -> None:
        with self.changed:
            self._known(name)
            for i in self.of(name):
                if i.state != "stopping":
                    self._stop(i)
            del self.specs[name]
        self.stir()

    def status(self, name: str) -> dict[str, Any]:
        with self.changed:
            spec, mine = self._known(name), self.of(name)
            waiting = sorted({i.reason for i in mine if i.state == "pending"})
            running = sum(i.state == "running" for i in mine)
            return {"wanted": spec["instances"], "running": running, "listed": len(mine), "waiting": waiting}

    def of(self, name: str) -> list[Instance]:
        """A service's instances, oldest first."""
        with self.changed:
            return [i for i in self.instances.values() if i.service == name]

    def kill(self, ident: str) -> None:
        with self.changed:
            i = self.instances.get(ident)
            if not i or not i.process:
                raise Refused(404, f"no process {ident}")
            i.process.kill()

    def log(self, ident: str) -> str:
        try:
            return (self.folder / f"{ident}.log").read_text(errors="replace")
        except OSError:
            raise Refused(404, f"no log of {ident}") from None

    def open(self, node: str, open: bool) -> None:
        with self.changed:
            if node not in self.nodes:
                raise Refused(404, f"no node {node}")
            (self.closed.discard if open else self.closed.add)(node)
            for i in self.instances.values():
                if i.node in self.closed and i.state == "running":
                    self._stop(i)
        self.stir()

    def events(self, name: str) -> Iterator[str]:
        """A line at once, then one for each change (several at a time may be one line); an empty one each second."""
        seen, before = -1, None
        while True:
            with self.changed:
                if self.turn == seen and not self.changed.wait(1.0):
                    yield "\n"
                    continue
                seen = self.turn
                now = [i.told() for i in self.of(name)]
            if now != before:
                before = now
                yield "changed\n"

    def _known(self, name: str) -> dict[str, Any]:
        with self.changed:
            if name not in self.specs:
                raise Refused(404, f"no service {name}")
            return self.specs[name]


def _port() -> int:
    """A port that nobody listens at now."""
    for port in PORTS:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("unreachable: PORTS has no end")


class Handler(BaseHTTPRequestHandler):
    """HTTP to the engine's methods."""

    engine: Engine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            answer = self._do(self.command, self.path.strip("/").split("/"), body)
        except Refused as e:
            self._send(e.args[0], {"error": e.args[1]})
            return
        if isinstance(answer, Iterator):
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            try:
                for line in answer:
                    self.wfile.write(line.encode())
            except OSError:
                pass  # the listener is gone
        else:
            self._send(200, answer)

    def _do(self, verb: str, words: list[str], body: dict[str, Any]) -> Any:
        e = self.engine
        match verb, *words:
            case "GET", "":
                return {"engine": "toy", "version": VERSION}
            case "GET", "services":
                return sorted(e.specs)
            case "POST", "services":
                return e.deploy(body)
            case "GET", "services", name:
                return e.status(name)
            case "PUT", "services", name:
                return e.scale(name, body["instances"])
            case "DELETE", "services", name:
                return e.remove(name)
            case "GET", "services", name, "instances":
                return [i.told() for i in e.of(name)]
            case "GET", "services", name, "events":
                return e.events(name)
            case "POST", "instances", ident, "kill":
                return e.kill(ident)
            case "GET", "instances", ident, "log":
                return e.log(ident)
            case "GET", "nodes":
                return [{"name": n, "cpu": c, "memory": m, "open": n not in e.closed} for n, (c, m) in e.nodes.items()]
            case "PUT", "nodes", name:
                return e.open(name, body["open"])
        raise Refused(400, f"what is {verb} {'/'.join(words)}?")

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


def main(folder: Path) -> None:
    """Serve until killed. `folder` has setup.json with `images` and `nodes`; its pid and port are written there."""
    setup = json.loads((folder / "setup.json").read_text())
    Handler.engine = Engine(folder, setup["images"], setup["nodes"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "port.new").write_text(str(server.server_address[1]))
    (folder / "port.new").rename(folder / "port")
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
