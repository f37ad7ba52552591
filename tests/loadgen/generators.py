"""Generators that are none: they speak the agent's protocol over real connections and send no requests. Many fit in a process,
and each can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np

from coebench.load import hdr

Line = dict[str, Any]


class Load:
    """What was asked, and the frames that are still to be acknowledged."""

    def __init__(self, words: dict[str, str]) -> None:
        self.words = words
        self.start = int(words["start"])
        self.frames: list[bytes] = []
        self.next = 0
        self.end: bytes | None = None
        self.acked_end = False


class Generator:
    """One listening generator. Behaviour is changed by replacing its attributes before it is asked.

    `frame(seq)` gives the figures of a second (without the keys that all have); `offset` is its clock minus ours in ns.
    `mangle(line)` may replace a line that goes out by others.
    """

    def __init__(self, frame: Callable[[int], Line] | None = None, offset: int = 0) -> None:
        self.frame = frame or empty_frame
        self.offset = offset
        self.mangle: Callable[[bytes], list[bytes]] = lambda line: [line]
        self.forgets = False  # keeps nothing to send again
        self.targets: dict[str, Line] = {}  # of its end
        self.port = 0
        self.loads: dict[str, Load] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.pid = id(self) & 0xFFFFFF
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None

    def now(self) -> int:
        return time.time_ns() + self.offset

    async def listen(self, host: str = "127.0.0.1") -> Generator:
        self._server = await asyncio.start_server(self._talk, host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._task:
            self._task.cancel()

    def hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                verb, *pairs = line.decode().split()
                self._request(writer, verb, {k: unquote(v) for k, _, v in (p.partition("=") for p in pairs)})
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)

    def _request(self, writer: asyncio.StreamWriter, verb: str, words: dict[str, str]) -> None:
        ident = words.get("id", "")
        self.asked.append((verb, words))
        if verb == "hello":
            self.say(writer, {"event": "hello", "proto": 1, "version": "none", "now": self.now(), "pid": self.pid})
        elif verb == "ping":
            self.say(writer, {"event": "pong", "id": ident, "now": self.now()})
        elif verb == "load":
            load = self.loads[ident] = Load(words)
            self.say(writer, {"event": "accepted", "id": ident, "at": self.now()})
            self._task = asyncio.get_running_loop().create_task(self._send(ident, load))
        elif verb == "attach" and ident in self.loads:
            load = self.loads[ident]
            self.say(writer, {"event": "attached", "id": ident, "job": "load"})
            for line in [] if self.forgets else load.frames[int(words.get("since", load.next)) :]:
                writer.write(line)
            if load.end:
                writer.write(load.end)
        elif verb == "attach":
            self.say(writer, {"event": "error", "id": ident, "message": f"there is no job {ident}"})
        elif verb == "ack" and ident in self.loads:
            load = self.loads[ident]
            load.next = max(load.next, int(words["next"]))
            load.acked_end = load.acked_end or "end" in words

    def say(self, writer: asyncio.StreamWriter, event: Line) -> None:
        writer.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")

    def all_say(self, line: bytes) -> None:
        for out in self.mangle(line):
            for writer in self._writers:
                writer.write(out)

    async def _send(self, ident: str, load: Load) -> None:
        warm, length = (float(load.words[k].rstrip("s")) for k in ("warmup", "duration"))
        sums = {"warmup": figures(), "measured": figures()}
        for seq in range(round(warm + length) + 1):
            phase = "warmup" if seq < warm else "measured" if seq < warm + length else "drain"
            await asyncio.sleep(max(0.0, (load.start - self.now()) / 1e9 + seq + (phase != "drain")))
            begin = load.start + seq * 1_000_000_000
            figured = self.frame(seq) if phase != "drain" else empty_frame(seq)
            add(sums["warmup" if phase == "warmup" else "measured"], figured)
            event = {"event": "second", "id": ident, "seq": seq, "phase": phase, "from": begin, "at": begin + 1_000_000_000}
            line = json.dumps(event | figured, separators=(",", ":")).encode() + b"\n"
            load.frames.append(line)
            self.all_say(line)
        begin = load.start + int(warm * 1e9)
        done: Line = {"event": "done", "id": ident, "measured_from": begin, "measured_to": begin + int(length * 1e9)}
        done |= {"seconds": len(load.frames), "stopped": False, **sums["measured"], "warmup": sums["warmup"]}
        done["targets"] = self.targets
        done |= {f"{what}_rps": sums["measured"]["ok"] / length for what in ("offered", "achieved")}
        load.end = json.dumps(done).encode() + b"\n"
        self.all_say(load.end)


def figures() -> Line:
    return {"planned": 0, "sent": 0, "ok": 0, "errors": {}, "unsent": 0, "bytes": 0, "in_flight": 0}


def add(sums: Line, frame: Line) -> None:
    for key in ("planned", "sent", "ok", "unsent", "bytes"):
        sums[key] += frame[key]
    for kind, count in frame["errors"].items():
        sums["errors"][kind] = sums["errors"].get(kind, 0) + count


NOTHING = hdr.encode(hdr.empty())


def empty_frame(seq: int) -> Line:
    return {**figures(), "backlog": 0, "cpu": 0.01, "cpu_busiest": 0.01, "latency": NOTHING, "raw": NOTHING, "lag": NOTHING}


def frame_of(values: Sequence[int]) -> Line:
    """The frame of a second with so many good answers, of these latencies in ns."""
    counts = hdr.empty()
    np.add.at(counts, hdr.slots_of(values), 1)
    encoded = hdr.encode(counts)
    sums = {"planned": len(values), "sent": len(values), "ok": len(values)}
    return {**empty_frame(0), **sums, "latency": encoded, "raw": encoded, "lag": NOTHING}


class Farm:
    """Generators in a thread of their own, with an event loop."""

    def __init__(self, *generators: Generator, host: str = "127.0.0.1") -> None:
        self.generators = generators
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Farm:
        self._thread.start()
        for generator in self.generators:
            asyncio.run_coroutine_threadsafe(generator.listen(self._host), self._loop).result(5)
        return self

    def __exit__(self, *error: object) -> None:
        for generator in self.generators:
            asyncio.run_coroutine_threadsafe(generator.close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def call(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    @property
    def addresses(self) -> list[tuple[str, tuple[str, int]]]:
        return [(f"g{i}", (self._host, g.port)) for i, g in enumerate(self.generators)]
