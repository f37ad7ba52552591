"""What the coordinator costs: a fleet of simulated generators over real connections, and histograms merged by the thousand.

    python benchmarks/load/coordinator.py [--generators 2000] [--seconds 20] [--rate 100]

The generators are a process of their own: each a TCP connection that speaks the agent's protocol and sends, once a second,
the frame of a generator with `--rate` answers a second (three histograms, as coeload encodes them). They all fire at the
same instant, as real ones do: their seconds are the common seconds. Measured: the coordinator's process alone, its CPU time
from the start of the load until the result is there, divided by the load's length, and its greatest resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np

from coebench.contract import LoadPlan, Target
from coebench.load import hdr
from coebench.load.coordinator import Coordinator

SHAPES = 64  # different frames that the fleet draws from


def stored(counts: hdr.Counts) -> str:
    """Encoded as coeload does it: a zlib stream that is not compressed."""
    packed = base64.b64decode(hdr.encode(counts))
    plain = zlib.decompress(packed[8:])
    again = zlib.compress(plain, 0)
    return base64.b64encode(packed[:4] + struct.pack(">i", len(again)) + again).decode()


def drawn(chance: np.random.Generator, rate: int, middle: float) -> hdr.Counts:
    counts = hdr.empty()
    np.add.at(counts, hdr.slots_of(chance.lognormal(middle, 0.4, rate)), 1)
    return counts


class Fleet:
    """All generators, in one event loop; what they send is made before."""

    def __init__(self, rate: int) -> None:
        chance = np.random.default_rng(1)
        self.rate = rate
        nothing = stored(hdr.empty())
        self.idle = self._figures(0, nothing, nothing, nothing)
        self.shapes = []
        for _ in range(SHAPES):
            self.shapes.append(self._figures(rate, *(stored(drawn(chance, rate, m)) for m in (12.2, 12.0, 9.5))))

    def _figures(self, rate: int, latency: str, raw: str, lag: str) -> bytes:
        counts = {"planned": rate, "sent": rate, "ok": rate, "errors": {}, "unsent": 0, "bytes": rate * 200, "connects": 0}
        rest = {"in_flight": 0, "backlog": 0, "cpu": 0.1, "cpu_busiest": 0.1, "cpu_process": 0.1, "throttled_ms": 0.0}
        more = {"throttled_periods": 0, "periods": 0, "latency_ms": {}, "latency": latency, "raw": raw, "lag": lag}
        return json.dumps(counts | rest | more, separators=(",", ":")).encode()[1:]

    async def serve(self) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = None
        while line := await reader.readline():
            verb, *pairs = line.split()
            words = dict(p.split(b"=", 1) for p in pairs)
            if verb == b"hello":
                hello = {"event": "hello", "proto": 1, "version": "none", "now": time.time_ns(), "pid": 1}
                writer.write(json.dumps(hello).encode() + b"\n")
            elif verb == b"ping":
                writer.write(b'{"event":"pong","id":"clock","now":%d}\n' % time.time_ns())
            elif verb == b"load":
                writer.write(b'{"event":"accepted","id":"%s"}\n' % words[b"id"])
                task = asyncio.create_task(self._load(writer, words))
        if task:
            task.cancel()

    async def _load(self, writer: asyncio.StreamWriter, words: dict[bytes, bytes]) -> None:
        start, length = int(words[b"start"]), round(float(words[b"duration"][:-1]))
        ident, chance = words[b"id"], random.Random(id(writer))
        for seq in range(length):
            at = start + (seq + 1) * 1_000_000_000
            await asyncio.sleep(max(0.0, (at - time.time_ns()) / 1e9))
            head = b'{"event":"second","id":"%s","seq":%d,"phase":"measured","from":%d,"at":%d,'
            writer.write(head % (ident, seq, at - 1_000_000_000, at) + chance.choice(self.shapes) + b"\n")
        total = {"planned": self.rate * length, "sent": self.rate * length, "ok": self.rate * length, "errors": {}, "unsent": 0}
        zero = {"planned": 0, "sent": 0, "ok": 0, "errors": {}, "unsent": 0, "bytes": 0, "in_flight": 0}
        done = {"event": "done", "id": ident.decode(), "measured_from": start, "measured_to": start + length * 10**9}
        done |= {**total, "bytes": self.rate * length * 200, "in_flight": 0, "seconds": length, "warmup": zero, "cpu": 0.1}
        done |= {"offered_rps": self.rate, "achieved_rps": self.rate, "throttled_ms": 0.0, "throttled_periods": 0, "periods": 0}
        writer.write(json.dumps(done).encode() + b"\n")


def merging(count: int) -> None:
    """Encoded text to merged counts, in batches as they come."""
    chance = np.random.default_rng(2)
    for rate in (100, 1000):
        texts = [stored(drawn(chance, rate, 12)) for _ in range(count)]
        best = float("inf")
        for _ in range(3):
            rows = np.zeros((1, hdr.SLOTS), np.int64)
            begun = time.perf_counter()
            for i in range(0, count, 256):
                part = [hdr.payload(t) for t in texts[i : i + 256]]
                hdr.add_many(rows, part, [0] * len(part), [1] * len(part))
            best = min(best, time.perf_counter() - begun)
        assert int(rows.sum()) == rate * count
        size = sum(map(len, texts)) / count
        print(f"merging {count:,} histograms of {rate} values ({size:.0f} bytes each): {best:.2f} s, best of 3")


def coordinating(generators: int, seconds: int, rate: int) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    fleet = subprocess.Popen([sys.executable, __file__, "--fleet", str(rate)], stdout=subprocess.PIPE, text=True)
    assert fleet.stdout
    try:
        port = int(fleet.stdout.readline())
        plan = LoadPlan(
            targets=(Target("127.0.0.1", 9),),
            rate=float(rate * generators),
            connections=generators,
            duration=float(seconds),
            warmup=0,
        )
        coordinator = Coordinator(plan, [(f"g{i}", ("127.0.0.1", port)) for i in range(generators)], patience=60)
        used: list[float] = []  # CPU seconds when the load began
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.01):
                if coordinator.timeline and time.time() >= coordinator.timeline.start:
                    used.append(sum(os.times()[:2]))
                    return

        threading.Thread(target=look, daemon=True).start()
        begun = time.perf_counter()
        views: list[float] = []
        result = coordinator.run(lambda burst: views.append(time.time() - burst.at))
        stop.set()
        took = time.perf_counter() - begun
    finally:
        fleet.kill()
        fleet.wait()
    cores = (sum(os.times()[:2]) - used[0]) / seconds
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole = generators * seconds
    had = sum(a.seconds for a in result.accounts)
    told = float(np.median(views)) * 1e3
    print(f"{generators:,} generators, {rate} answers/s each, {seconds} s: {had:,} of {whole:,} frames, {result.ok:,} answers")
    print(f"  {cores:.2f} cores, {memory:.0f} MiB at most (interpreter and numpy included), {took:.1f} s in all")
    print(f"  a second was merged and told {told:.0f} ms after its end (median), {1e3 * max(views):.0f} ms at most")
    print(
        f"  p99 {result.latency_ms['p99']:.3f} ms; flags: {len(result.flags)}" + "".join(f"\n    {f}" for f in result.flags[:5])
    )
    assert had == whole
    assert result.ok == whole * rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generators", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=100, help="answers a second of each generator")
    parser.add_argument("--fleet", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fleet:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        asyncio.run(Fleet(given.fleet).serve())
        return
    merging(10_000)
    coordinating(given.generators, given.seconds, given.rate)


if __name__ == "__main__":
    main()
