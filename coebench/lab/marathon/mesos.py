"""A client of the Mesos v1 scheduler API: one stream of events in, calls out.

Calls are written at once and in order on a second connection; their answers (202, or why not) are read beside that.
A call that is lost with its connection is not repeated: after every subscription the scheduler reconciles.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, Protocol

from . import wire

log = logging.getLogger("mesos")
PATH = "/api/v1/scheduler"
RETRY = (0.05, 2.0)  # seconds between attempts to find a master: first and most
MISSED_HEARTBEATS = 5

Json = dict[str, Any]


class Listener(Protocol):
    def framework(self) -> Json:
        """FrameworkInfo to subscribe with; ``id`` in it if there is one already."""

    def handle(self, event: Json) -> None: ...

    def disconnected(self) -> None: ...


class Mesos:
    def __init__(self, masters: list[str], listener: Listener) -> None:
        self._masters = masters
        self._listener = listener
        self._calls: asyncio.StreamWriter | None = None
        self._head: list[tuple[str, str]] = []
        self._framework: Json | None = None
        self.master = masters[0]
        self.connected = False

    # calls

    def call(self, kind: str, **arguments: Any) -> None:
        if self._calls is None or not self.connected:
            log.warning("not connected: %s dropped", kind)
            return
        body = json.dumps({"type": kind, "framework_id": self._framework, **arguments}, separators=(",", ":"))
        self._calls.write(wire.request_bytes("POST", PATH, self._head, body.encode()))

    async def _answers(self, reader: asyncio.StreamReader) -> None:
        while head := await wire.read_head(reader):
            body = await wire.read_body(reader, head[1])
            if wire.status_of(head[0]) != 202:
                log.error("the master refused a call: %s %s", head[0], body.decode("utf-8", "replace"))

    # events

    async def run(self) -> None:
        """Stays subscribed for ever."""
        wait, turn = RETRY[0], 0
        while True:
            address = self._masters[turn % len(self._masters)]
            try:
                while True:
                    self.master = address
                    follow = await self._session(address)
                    if follow is None:
                        break
                    address = follow  # the master that leads
            except (OSError, wire.Malformed, asyncio.IncompleteReadError, TimeoutError) as error:
                log.warning("%s: %s", address, error or type(error).__name__)
            if self.connected:
                wait = RETRY[0]
                self.connected = False
                self._listener.disconnected()
            turn += 1
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(wait * 1.5, RETRY[1])

    async def _session(self, address: str) -> str | None:
        """One subscription, until it ends; the leader's address if this master does not lead."""
        host, _, port = address.rpartition(":")
        base = [("Host", address), ("Content-Type", "application/json"), ("Accept", "application/json")]
        info = self._listener.framework()
        call: Json = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        if "id" in info:
            call["framework_id"] = info["id"]
        reader, writer = await asyncio.wait_for(wire.connect(host, int(port)), 5)
        calls: asyncio.StreamWriter | None = None
        answers: asyncio.Task[None] | None = None
        try:
            writer.write(wire.request_bytes("POST", PATH, base, json.dumps(call).encode()))
            head = await asyncio.wait_for(wire.read_head(reader), 10)
            if head is None:
                raise ConnectionError("closed without an answer")
            status = wire.status_of(head[0])
            if status == 307:
                return urllib.parse.urlsplit(head[1]["location"]).netloc
            if status != 200:
                body = await wire.read_body(reader, head[1])
                raise ConnectionError(f"SUBSCRIBE: {head[0]} {body.decode('utf-8', 'replace')}")
            call_reader, calls = await asyncio.wait_for(wire.connect(host, int(port)), 5)
            answers = asyncio.create_task(self._answers(call_reader))
            self._head = [*base, ("Mesos-Stream-Id", head[1]["mesos-stream-id"])]
            patience: float | None = 60
            stream = records(reader)
            while True:
                event = await asyncio.wait_for(anext(stream), patience)
                if event["type"] == "SUBSCRIBED":
                    subscribed = event["subscribed"]
                    patience = MISSED_HEARTBEATS * subscribed.get("heartbeat_interval_seconds", 15.0)
                    self._framework, self._calls, self.connected = subscribed["framework_id"], calls, True
                if event["type"] != "HEARTBEAT":
                    self._listener.handle(event)
                if answers.done():
                    raise ConnectionError("the connection for calls was lost")
        except StopAsyncIteration:
            log.warning("%s: the master ended the subscription", address)
            return None
        finally:
            self._calls = None
            writer.close()
            if calls is not None:
                calls.close()
            if answers is not None:
                answers.cancel()


async def records(reader: asyncio.StreamReader) -> AsyncIterator[Json]:
    """RecordIO over chunked HTTP: LENGTH, line feed, that many bytes of JSON."""
    waiting = b""
    async for part in wire.chunks(reader):
        waiting += part
        while (at := waiting.find(b"\n")) >= 0:
            end = at + 1 + int(waiting[:at])
            if len(waiting) < end:
                break
            yield json.loads(waiting[at + 1 : end])
            waiting = waiting[end:]
