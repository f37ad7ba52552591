"""One connection to one `coeload` agent: a request is a line of words, an event a line of JSON.

The protocol is described in workloads/loadgen/README.md. Times come as nanoseconds of the agent's clock and leave as
seconds of the harness's, by an offset measured when the connection is made.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ..contract import EngineError, now

PINGS = 8
Listener = Callable[[dict[str, Any]], None]


class Encoded(str):
    """A value that is escaped already."""


def argv_word(argv: Iterable[str]) -> Encoded:
    """A command line as the protocol writes it: each element escaped by itself, commas between."""
    return Encoded(",".join(quote(word, safe="/") for word in argv))


def request_line(verb: str, words: Mapping[str, Any]) -> bytes:
    """A request as the protocol writes it. The values of a tuple repeat its key."""
    pairs = [(key, one) for key, value in words.items() for one in (value if isinstance(value, tuple) else (value,))]
    said = (f"{key}={one if isinstance(one, Encoded) else quote(str(one), safe=':/,.[]-_')}" for key, one in pairs)
    return " ".join([verb, *said]).encode() + b"\n"


class Agent:
    """Events go to the listener of their id, in a thread of this connection's own."""

    def __init__(self, address: str, port: int, timeout: float = 5.0, secret: str = "") -> None:
        """Connect, say the secret that the agent was started with, and measure the clock. Raises EngineError."""
        self.address = (address, port)
        self.where = f"{address}:{port}"
        self._ids = itertools.count(1)
        self._listeners: dict[str, Listener] = {}
        self._replies: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self.lost = False  # the connection has ended, and not by `close`
        self.offset = self.uncertainty = 0.0
        try:
            self._socket = socket.create_connection((address, port), timeout=timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(None)
        except OSError as e:
            raise EngineError(f"reaching the agent at {self.where}", str(e)) from e
        self._thread = threading.Thread(target=self._read, name=f"agent {self.where}", daemon=True)
        self._thread.start()
        if secret:
            self._send("auth", {"secret": secret})
        self.hello = self.ask("hello", timeout=timeout)
        self.measure_clock()

    def measure_clock(self) -> None:
        """The offset by the shortest of several round trips, uncertain by half of it (as NTP does)."""
        best = float("inf")
        for _ in range(PINGS):
            sent = now()
            answer = self.ask("ping", id="clock")
            back = now()
            if back - sent < best:
                best = back - sent
                self.offset = answer["now"] / 1e9 - (sent + back) / 2
        self.uncertainty = best / 2

    def time(self, nanoseconds: int) -> float:
        """A time of the agent's on the harness's clock, in seconds."""
        return nanoseconds / 1e9 - self.offset

    def ask(self, verb: str, timeout: float = 5.0, **words: Any) -> dict[str, Any]:
        """A request that is answered at once. Raises EngineError."""
        with self._lock:
            self._send(verb, words)
            try:
                answer = self._replies.get(timeout=timeout)
            except queue.Empty:
                raise EngineError(f"agent {self.where}", f"no answer to '{verb}' within {timeout:g} s") from None
        if answer is None:
            raise EngineError(f"agent {self.where}", "the connection ended")
        if answer["event"] == "error":
            raise EngineError(f"agent {self.where}", answer.get("message", "?"))
        return answer

    def begin(self, verb: str, listener: Listener, **words: Any) -> str:
        """A request whose events follow; they carry the id that is returned. The listener must be quick.

        The end of the connection is told as {"event": "lost"}.
        """
        ident = f"{verb[0]}{next(self._ids)}"
        self._listeners[ident] = listener
        self._send(verb, {"id": ident, **words})
        return ident

    def tell(self, verb: str, ident: str, **words: Any) -> None:
        """A request about something that was begun."""
        self._send(verb, {"id": ident, **words})

    def forget(self, ident: str) -> None:
        """Events of this id are dropped from now on."""
        self._listeners.pop(ident, None)

    def close(self) -> None:
        """End the connection; the agent ends what was begun on it."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, verb: str, words: dict[str, Any]) -> None:
        try:
            self._socket.sendall(request_line(verb, words))
        except OSError as e:
            raise EngineError(f"agent {self.where}", str(e)) from e

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._dispatch(json.loads(line))
        except (OSError, ValueError):
            pass
        self._replies.put(None)
        if not self._closed:
            self.lost = True
            for ident, listener in list(self._listeners.items()):
                listener({"event": "lost", "id": ident})

    def _dispatch(self, event: dict[str, Any]) -> None:
        listener = self._listeners.get(str(event.get("id", "")))
        if listener:
            listener(event)
        elif event["event"] in ("hello", "pong", "error"):
            self._replies.put(event)


def targets_word(targets: Iterable[tuple[str, int]]) -> str:
    """Targets as the protocol writes them."""
    return ",".join(f"[{a}]:{p}" if ":" in a else f"{a}:{p}" for a, p in targets)
