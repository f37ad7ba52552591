"""Builds coeload once, talks to its agent, and gives it small servers to look at. Loopback only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

SOURCES = Path(__file__).parents[2] / "workloads" / "loadgen" / "src"

Event = dict[str, Any]


class NoCompiler(Exception):
    """There is nothing here to build the generator with."""


def build(into: Path) -> Path:
    """Builds coeload into a folder and returns the binary: static with musl where that is here, else with cc."""
    if shutil.which("make") is None:
        raise NoCompiler("make is not installed")
    if shutil.which("musl-gcc"):
        how = ["CC=musl-gcc", "STATIC=1"]
    else:
        compiler = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
        if compiler is None:
            raise NoCompiler("neither musl-gcc, gcc, clang nor cc is installed")
        how = [f"CC={compiler}"]
    made = subprocess.run(
        ["make", "-C", str(SOURCES), f"BUILD={into}", *how], capture_output=True, text=True, timeout=120, check=False
    )
    if made.returncode:
        raise AssertionError(f"coeload does not build:\n{made.stderr}")
    return into / "coeload"


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Raw(str):
    """A value that is sent as it stands."""


def argv(*words: str) -> Raw:
    """The argv of `exec`: each element escaped by itself."""
    return Raw(",".join(quote(word, safe="/") for word in words))


def request_line(verb: str, pairs: dict[str, object]) -> bytes:
    """One line of the control protocol. A list repeats its key."""
    words = [verb]
    for key, value in pairs.items():
        for one in value if isinstance(value, list) else [value]:
            words.append(f"{key}={one if isinstance(one, Raw) else quote(str(one), safe=':,/[]')}")
    return (" ".join(words) + "\n").encode()


class Control:
    """A control connection to an agent."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._pending = b""

    def send(self, verb: str, **pairs: object) -> None:
        self.socket.sendall(request_line(verb, pairs))

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self, timeout: float = 10) -> Event:
        """The next event; TimeoutError or EOFError when there is none."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        event: Event = json.loads(line)
        return event

    def until(self, name: str, timeout: float = 10, **match: object) -> tuple[Event, list[Event]]:
        """Reads on to an event of that name and content; returns it and all that came before it."""
        before: list[Event] = []
        deadline = time.monotonic() + timeout
        while True:
            event = self.next(max(0.001, deadline - time.monotonic()))
            if event["event"] == name and all(event.get(key) == value for key, value in match.items()):
                return event, before
            before.append(event)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Agent:
    """A running `coeload agent`."""

    def __init__(self, binary: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [str(binary), "agent", "--port", "0", *([] if "COEBENCH_SECRET" in (env or {}) else ["--open"]), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(" ", 1)[1])

    def connect(self) -> Control:
        return Control(self.port)

    def end(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(10)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()


class Server:
    """A server of one canned behaviour: what `serve` does with each accepted connection."""

    def __init__(self, serve: Callable[[socket.socket], None], port: int = 0, host: str = "127.0.0.1") -> None:
        self._serve = serve
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(128)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve(connection)
        self._open.discard(connection)

    def close(self) -> None:
        self._closed = True
        # shutdown, because close alone leaves the thread in accept() holding the port
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def requests_of(connection: socket.socket) -> Iterator[bytes]:
    """The requests that come over a connection, one by one, with their bodies."""
    pending = b""
    while True:
        while b"\r\n\r\n" not in pending:
            data = connection.recv(65536)
            if not data:
                return
            pending += data
        head, _, pending = pending.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        while len(pending) < length:
            pending += connection.recv(65536)
        body, pending = pending[:length], pending[length:]
        yield head + b"\r\n\r\n" + body


def answering(*pieces: bytes, pause: float = 0, close: bool = False) -> Callable[[socket.socket], None]:
    """Answers each request with these bytes, a write for each piece, `pause` seconds apart."""

    def serve(connection: socket.socket) -> None:
        for _ in requests_of(connection):
            for piece in pieces:
                connection.sendall(piece)
                if pause:
                    time.sleep(pause)
            if close:
                return

    return serve


def identity(instance: str = "one", version: str = "v1", extra: str = "") -> bytes:
    """A good answer of the http workload."""
    return (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
        f"X-Coebench-Instance: {instance}\r\nx-coebench-version: {version}\r\n"
        f"X-COEBENCH-STARTED: 1700000000\r\n{extra}\r\nok"
    ).encode()


def run_json(binary: Path, *arguments: str, timeout: float = 30, status: int = 0) -> Event:
    """`coeload run … --json`, which must end with `status`."""
    ended = subprocess.run(
        [str(binary), "run", *arguments, "--json"], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert ended.returncode == status, ended.stderr
    event: Event = json.loads(ended.stdout)
    return event


class NullServer:
    """A running `coeload null`."""

    def __init__(self, binary: Path, port: int = 0, tell_pauses: bool = False) -> None:
        command = [str(binary), "null", "--port", str(port), *(["--pauses"] if tell_pauses else [])]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(" ", 1)[1])
        self.url = f"http://127.0.0.1:{self.port}/"
        self.target = f"127.0.0.1:{self.port}"

    def pauses(self) -> list[tuple[int, int]]:
        """End it, and read when it stood still the longest: from and to, wall ns. It must have been made to tell."""
        self.process.terminate()
        assert self.process.stdout is not None
        return [(since, to) for since, to in json.loads(self.process.stdout.readline())]

    def __enter__(self) -> NullServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
