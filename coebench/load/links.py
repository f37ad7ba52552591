"""Connections to generators, in an asyncio loop: called one by one, or all behind the port of a relay.

A link calls `up` when it can be spoken over, `line` for each line that came, `down` when it is gone; it calls again by
itself until closed. What was lost meanwhile the protocol gets back (`attach`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from .agent import request_line

LINE_LIMIT = 16 << 20  # an end with ten thousand targets fits
PAUSE = 0.1  # s before calling again, doubled up to:
PAUSE_LIMIT = 1.0
CALLS = 64  # that may be under way at once: more would wait for each other in the kernel's queue


class Ear(Protocol):
    """Who is told."""

    def up(self, send: Callable[[bytes], None]) -> None: ...
    def line(self, line: bytes) -> None: ...
    def down(self, why: str) -> None: ...


class Lines(asyncio.Protocol):
    """Cuts what comes into lines."""

    def __init__(self, ear: Ear, gone: asyncio.Event, secret: str) -> None:
        self._ear = ear
        self._secret = secret
        self._gone = gone
        self._parts: list[bytes] = []
        self._length = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self._secret:
            self.transport.write(request_line("auth", {"secret": self._secret}))
        self._ear.up(self.transport.write)

    def data_received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        if lines and self._parts:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts, self._length = [], 0
        for line in lines:
            self._ear.line(line)
        if rest:
            self._parts.append(rest)
            self._length += len(rest)
            if self._length > LINE_LIMIT:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ear.down(str(exc) if exc else "it closed the connection")
        self._gone.set()


class Link:
    """One address that is called until `close`. The secret, if there is one, is the first that is said."""

    def __init__(self, address: tuple[str, int], ear: Ear, calls: asyncio.Semaphore, secret: str = "") -> None:
        self._secret = secret
        self._address = address
        self._ear = ear
        self._calls = calls
        self._lines: Lines | None = None
        self._task = asyncio.get_running_loop().create_task(self._call())

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        pause = PAUSE
        while True:
            gone = asyncio.Event()
            try:
                async with self._calls:
                    _, self._lines = await asyncio.wait_for(
                        loop.create_connection(partial(Lines, self._ear, gone, self._secret), *self._address), 5
                    )
            except (OSError, TimeoutError) as e:
                self._ear.down(str(e) or "no answer")
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE_LIMIT)
                continue
            pause = PAUSE
            await gone.wait()
            await asyncio.sleep(PAUSE)

    def close(self) -> None:
        """Stop calling; the connection ends when what was written is sent."""
        self._task.cancel()
        if self._lines:
            self._lines.transport.close()

    def hang_up(self) -> None:
        """End the connection and call again: what it said can't be trusted any more."""
        if self._lines:
            self._lines.transport.abort()


class RelayEar:
    """Behind a relay: hands lines to the ears of the names that they come from.

    `welcome` gives the ear of a name that has joined, or None for one that is not wanted; `duplicate` is told of a second
    process of a name.
    """

    def __init__(self, welcome: Callable[[str], Ear | None], duplicate: Callable[[str], None]) -> None:
        self._welcome = welcome
        self._duplicate = duplicate
        self._ears: dict[bytes, Ear] = {}
        self._send: Callable[[bytes], None] | None = None
        self.said = ""  # the relay's last complaint

    def up(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        send(b"generators\n")

    def line(self, line: bytes) -> None:
        if line.startswith(b"@"):
            sender, _, rest = line[1:].partition(b" ")
            if ear := self._ears.get(sender):
                ear.line(rest)
            return
        try:
            event = json.loads(line)
            kind, name = event["event"], str(event.get("name", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.said = f"not a relay: it says {line[:60]!r}"
            return
        if kind == "joined":
            self._joined(name)
        elif kind == "left" and (ear := self._ears.pop(name.encode(), None)):
            ear.down("it left the relay")
        elif kind == "duplicate":
            self._duplicate(name)
        elif kind == "error":
            self.said = str(event.get("message", "?"))

    def _joined(self, name: str) -> None:
        ear = self._welcome(name)
        if ear is None or self._send is None:
            return
        self._ears[name.encode()] = ear
        send, head = self._send, f"@{name} ".encode()
        ear.up(lambda data: send(b"".join(head + part + b"\n" for part in data.splitlines())))

    def down(self, why: str) -> None:
        self._send = None
        self.said = self.said or why  # its own complaint, if it had one
        for ear in self._ears.values():
            ear.down(f"the relay is gone: {why}")
        self._ears.clear()
