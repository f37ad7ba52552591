"""The event bus: what happens, to everyone who listens at /v2/events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from .clock import stamp

BACKLOG = 10_000  # events that a listener may be behind before it is cut off
KEEP_ALIVE = 15.0  # seconds


class Listener:
    def __init__(self, kinds: list[str]) -> None:
        self._kinds = frozenset(kinds)
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG)
        self.lost = False

    def offer(self, kind: str, message: bytes) -> None:
        if self._kinds and kind not in self._kinds:
            return
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.lost = True

    async def messages(self) -> AsyncIterator[bytes]:
        while not self.lost:
            try:
                yield await asyncio.wait_for(self._waiting.get(), KEEP_ALIVE)
            except TimeoutError:
                yield b"\r\n"


class Bus:
    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self.published = 0

    def publish(self, kind: str, **fields: Any) -> None:
        self.published += 1
        if not self._listeners:
            return
        text = json.dumps({"eventType": kind, "timestamp": stamp(), **fields}, separators=(",", ":"))
        message = f"event: {kind}\r\ndata: {text}\r\n\r\n".encode()
        for listener in self._listeners:
            listener.offer(kind, message)

    async def listen(self, kinds: list[str], client: str) -> AsyncIterator[bytes]:
        listener = Listener(kinds)
        self._listeners.add(listener)
        self.publish("event_stream_attached", remoteAddress=client)
        try:
            async for message in listener.messages():
                yield message
        finally:
            self._listeners.discard(listener)
            self.publish("event_stream_detached", remoteAddress=client)
