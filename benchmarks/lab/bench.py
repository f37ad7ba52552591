"""The lab's own figures: how long bays take, how soon the prober sees, what the harness costs.

    python benchmarks/lab/bench.py [bays] [sight] [harness] [--cycles 10]

Prints a table with the figure that the project wants to reach beside each. Wants root and an idle machine; nothing here is a
test, since a busy machine proves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from coebench import plugins
from coebench.contract import BaySpec, Prober, Target
from coebench.lab import bay as bays
from coebench.lab import install, netns
from coebench.load.prober import BayProber

WANTED_READY = {"mesos": 1.5, "swarm": 4.0, "k8s": 10.0}
WANTED_DOWN = 1.0
WANTED_SIGHT = 20.0  # ms
WANTED_HARNESS = 5.0  # per cent of one core


def quiet(*_: object, **__: object) -> None: ...


def make(coe: str, name: str) -> bays.LabBay:
    layers, images = install.layers(coe, quiet), install.image_folder(coe, quiet)
    return bays.LabBay.create(name, BaySpec(coe=coe), layers, images, quiet)


def lifetimes(coe: str, cycles: int) -> tuple[list[float], list[float]]:
    """Seconds to a ready bay of 1 control host and 3 nodes, images loaded, and to its end."""
    ready, down = [], []
    make(coe, f"bench-{coe}").delete()  # the first one warms the page cache
    for _ in range(cycles):
        begun = time.monotonic()
        bay = make(coe, f"bench-{coe}")
        ready.append(time.monotonic() - begun)
        begun = time.monotonic()
        bay.delete()
        down.append(time.monotonic() - begun)
    return ready, down


class Seen(NamedTuple):
    """A change of which the moment was known. `kind` as of the prober's answers. Milliseconds from it until the prober had
    its answer, and until the harness knew."""

    kind: str
    had: float
    told: float


class Known:
    """A server of ours in somebody's network, that changes when we say so: begins to listen, has another name, is gone."""

    def __init__(self, pid: int, address: str, port: int) -> None:
        self.name = "one"
        with netns.entered(pid):
            self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.thread = threading.Thread(target=self._answer, daemon=True)

    def up(self) -> float:
        begun = time.time()
        self.socket.listen(16)
        self.thread.start()
        return begun

    def changed(self) -> float:
        begun = time.time()
        self.name = "another"
        return begun

    def down(self) -> float:
        begun = time.time()
        self.socket.shutdown(socket.SHUT_RDWR)  # refuses from now on, and wakes the thread in accept, which close would not
        return begun

    def close(self) -> None:
        self.socket.close()
        self.thread.join(5)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(4096)
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Coebench-Instance: {self.name}\r\n\r\n"
                    connection.sendall(head.encode() + b"me\n")


def seen(prober: Prober, watch: str, kind: str, begun: float) -> Seen:
    """The prober's word that what was changed at `begun` has changed."""
    while True:
        answer = prober.next(5)
        assert answer is not None, "the prober saw nothing"
        if (answer.watch, answer.kind) == (watch, kind):
            return Seen(kind, 1000 * (answer.at - begun), 1000 * (time.time() - begun))


def changes(prober: Prober, pid: int, address: str, count: int) -> list[Seen]:
    """`count` times each: an address in the network of process `pid` begins to answer, another answers there, none does."""
    found = []
    for i in range(count):
        server = Known(pid, address, 20000 + i)
        watch = prober.watch(Target(address, 20000 + i))
        for change in (server.up, server.changed, server.down):
            time.sleep(0.05 + 0.0013 * i)  # at another point of the prober's interval each time
            found.append(seen(prober, watch, change.__name__, change()))
        prober.unwatch(watch)
        server.close()
    return found


def sight(count: int = 50, coe: str = "mesos") -> list[Seen]:
    """How soon changes on a node of a new bay are seen, in the node's own network."""
    bay = make(coe, "bench-sight")
    try:
        with bay.network():
            driver = plugins.load("drivers", coe, "COE").connect(bay.access())
            prober = BayProber(driver, plugins.load("workloads", "loadgen", "workload"), executes=True)
            try:
                prober.start(60)
                pid1 = bay.host("n1").pid1
                assert pid1
                return changes(prober, pid1.pid, bay.host("n1").spec.address, count)
            finally:
                prober.close()
                driver.close()
    finally:
        bay.delete()


def harness(coes: list[str]) -> dict[str, float]:
    """Cores that the harness used in each scenario of one smoke block."""
    from coebench.runner import plan
    from coebench.runner.run import Run

    with tempfile.TemporaryDirectory() as folder:
        run = Run(plan.make({}, coes, {"profile": "smoke"}), Path(folder), sys.argv, [], quiet)
        result = run.execute()
    return dict(result.run.harness.by_scenario)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["bays", "sight", "harness", []], default=[])
    parser.add_argument("--cycles", type=int, default=10)
    args = parser.parse_args()
    what = args.what or ["bays", "sight", "harness"]
    install.install(list(WANTED_READY), lambda text: print(text, file=sys.stderr))
    load = os.getloadavg()[0]
    table = Table(title=f"the lab on {os.cpu_count()} CPUs, load {load:.2f} before", title_justify="left")
    for column in ("figure", "min", "median", "max", "n", "wanted", ""):
        table.add_column(column, justify="left" if column == "figure" else "right")

    def row(figure: str, values: list[float], unit: str, wanted: float) -> None:
        median = statistics.median(values)
        numbers = [f"{v:.3g} {unit}" for v in (min(values), median, max(values))]
        table.add_row(figure, *numbers, str(len(values)), f"≤ {wanted:g} {unit}", "yes" if median <= wanted else "no")

    if "bays" in what:
        for coe, wanted in WANTED_READY.items():
            print(f"{coe}: {args.cycles} bays", file=sys.stderr)
            ready, down = lifetimes(coe, args.cycles)
            row(f"{coe}: bay of 1 + 3 ready", ready, "s", wanted)
            row(f"{coe}: bay gone", down, "s", WANTED_DOWN)
    if "sight" in what:
        found = sight()
        for kind, happening in (("up", "first possible answer"), ("changed", "another answers"), ("down", "none answers")):
            row(f"{happening} → prober has it", [s.had for s in found if s.kind == kind], "ms", WANTED_SIGHT)
            row(f"{happening} → harness knows", [s.told for s in found if s.kind == kind], "ms", WANTED_SIGHT)
    if "harness" in what:
        for scenario, cores in harness(list(WANTED_READY)).items():
            row(f"harness's CPU in {scenario}", [100 * cores], "%", WANTED_HARNESS)
    Console().print(table)


if __name__ == "__main__":
    main()
