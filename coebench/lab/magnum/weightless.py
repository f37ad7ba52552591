"""Bays of weightless nodes: a real process for each node and an API that lists them, and no engine.

They show what Magnum itself does with bays larger than this machine could carry: its API, its database, its messages, its
periodic task. A cluster is one if its label coebench_nodes is "weightless".
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...contract import BadInput
from .. import cgroups, paths, process
from ..process import Process
from . import spool

MOST = 5000
# Joins the bay's cgroup, starts so many processes that only wait, and says their pids.
_SPAWN = 'for f in $1; do echo $$ > "$f"; done; i=0; while [ $i -lt $2 ]; do sleep infinity >&- 2>&- & echo $!; i=$((i+1)); done'


class Nodes(msgspec.Struct):
    """nodes.json of such a bay: node number → its process."""

    up: dict[int, Process] = {}
    upgrades: int = 0  # how often all were replaced


_servers: dict[str, http.server.ThreadingHTTPServer] = {}
_bays: dict[str, Nodes] = {}
_lock = threading.Lock()


def build(name: str, spec: spool.Spec) -> spool.State:
    """Bring the bay to so many nodes. Raises BadInput."""
    if not 0 <= spec.nodes <= MOST:
        raise BadInput(f"a bay of weightless nodes has 0 to {MOST}, not {spec.nodes}")
    folder = paths.state() / "bays" / name
    folder.mkdir(parents=True, exist_ok=True)
    joins = cgroups.create(f"{name}/nodes", 0, 0)
    nodes = _bays.setdefault(name, Nodes())
    addresses = {address(i): i for i in nodes.up}
    gone = [addresses[a] for a in spec.remove if a in addresses]
    kept = [i for i in sorted(nodes.up) if i not in gone]
    gone += kept[spec.nodes :]
    _stop(name, nodes, gone)
    first = max(nodes.up, default=0) + 1
    _start(nodes, joins, range(first, first + spec.nodes - len(nodes.up)))
    if spec.upgrades > nodes.upgrades:  # a node that is upgraded keeps its number and its address, as a rebuilt server does
        every = sorted(nodes.up)
        for at in range(0, len(every), max(1, spec.batch)):
            batch = every[at : at + max(1, spec.batch)]
            _stop(name, nodes, batch)
            _start(nodes, joins, batch)
        nodes.upgrades = spec.upgrades
    (folder / "nodes.json").write_bytes(msgspec.json.encode(nodes))
    listed = [address(i) for i in sorted(nodes.up)]
    return spool.State(
        request=spec.request,
        phase="ready",
        api=_serve(name),
        version=f"weightless {nodes.upgrades + 1}",
        nodes=listed,
        masters=["127.0.0.1"],
    )


def _stop(name: str, nodes: Nodes, numbers: Sequence[int]) -> None:
    """End nodes. Raises BadInput."""
    if stuck := process.kill_all([nodes.up.pop(i) for i in numbers]):
        raise BadInput(f"bay {name}: {len(stuck)} processes do not end")


def _start(nodes: Nodes, joins: list[Path], numbers: Sequence[int]) -> None:
    """A process for each."""
    if numbers:
        command = ["bash", "-c", _SPAWN, "bash", " ".join(map(str, joins)), str(len(numbers))]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        nodes.up.update({i: Process.of(int(pid)) for i, pid in zip(numbers, out.split(), strict=True)})


def end(name: str) -> None:
    """Close its API; its processes end with its cgroup (`bay.erase`)."""
    with _lock:
        server = _servers.pop(name, None)
        _bays.pop(name, None)
    if server:
        server.shutdown()
        server.server_close()


def address(number: int) -> str:
    """Where a node would be: 10.64.0.0/10 has room for all."""
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def _serve(name: str) -> str:
    """The bay's API: GET anything answers with its nodes that are alive. Returns its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nodes = _bays.get(name, Nodes())
            body = json.dumps({"nodes": [{"name": f"n{i}", "address": address(i)} for i in alive(nodes.up.items())]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    with _lock:
        if name not in _servers:
            _servers[name] = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=_servers[name].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{_servers[name].server_address[1]}"


def alive(nodes: Iterable[tuple[int, Process]]) -> list[int]:
    """The numbers of those whose process is there, in order."""
    return sorted(i for i, p in list(nodes) if os.path.exists(f"/proc/{p.pid}"))
