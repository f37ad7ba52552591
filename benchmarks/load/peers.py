"""coeload beside its peers, paired in one run: the figures that issue "load engine" asks for.

    python benchmarks/load/peers.py --coeload build/coeload [--tree FOLDER] [--nginx PATH] [--pairs 5] [--seconds 3]

wrk, hey, h2load and nginx are taken from the PATH, or from an unpacked Debian tree: the lab's host tree, which `coebench lab
install` builds, unless --tree names another. wrk2 is in no registry that this project takes programs from: in its place
stands the arithmetic of its pacing, called so.

The server runs on one core and the generator on another. Each pair measures coeload and the peer one after the other, in
an order that alternates; what is printed is the median of each and the median of the pairs' ratios. Other work on the
machine makes both worse: look at the spread, and repeat on a quiet one. With --realtime the kernel takes 50 ms of every
second from a thread that never sleeps (RT throttling): the lag p99 of --spin and of a full core is then that, not ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coebench import plugins
from coebench.contract import LoadPlan, LoadResult, Target
from coebench.lab.trees import host_tree

Done = dict[str, Any]

NGINX_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} reuseport; location / {{ return 200 "ok\\n"; }} }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_times() -> list[int]:
    """Ticks of all CPUs since the start: user, nice, system, idle, iowait, irq, softirq, steal."""
    return [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def lab_tree() -> Path | None:
    """The lab's host tree, if it is built: it has all of them."""
    tree = host_tree()
    return tree.path if tree.ready else None


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.coeload = str(options.coeload)
        self.nginx = options.nginx
        self.pairs: int = options.pairs
        self.seconds: float = options.seconds
        self.realtime: bool = options.realtime
        self.peers: list[str] = options.peers.split(",")
        self.tree: Path | None = options.tree
        self.server_core: int = options.server_core
        self.generator_core: int = options.generator_core

    def _place(self, core: int) -> None:
        os.sched_setaffinity(0, {core})
        if self.realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    def tool(self, name: str) -> str | None:
        """A program of the machine's, or of the tree's."""
        if found := shutil.which(name):
            return found
        for folder in ("usr/bin", "usr/sbin"):
            if self.tree and os.access(self.tree / folder / name, os.X_OK):
                return str(self.tree / folder / name)
        return None

    def missing(self) -> str:
        """What is nowhere to be found, and what to do, in a line; empty if nothing is."""
        lacks = [name for name in (*self.peers, "nginx") if not self.tool(name)]
        if self.nginx and "nginx" in lacks:
            lacks.remove("nginx")
        where = f"in {self.tree}" if self.tree else "in the lab's host tree, which is not built: coebench lab install"
        return f"{', '.join(lacks)}: neither on the PATH nor {where}" if lacks else ""

    def _start(self, core: int, *command: str) -> subprocess.Popen[str]:
        env = dict(os.environ)
        if self.tree and command[0].startswith(str(self.tree)):
            env["LD_LIBRARY_PATH"] = str(self.tree / f"usr/lib/{os.uname().machine}-linux-gnu")
        return subprocess.Popen(
            command,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: self._place(core),
        )

    def _listening(self, process: subprocess.Popen[str], port: int) -> subprocess.Popen[str]:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return process
            time.sleep(0.05)
        process.kill()
        raise SystemExit(f"the server on port {port} did not start")

    @contextlib.contextmanager
    def server(self, kind: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
        """A server on its core: `null` or `nginx`. Gives its URL and its process."""
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            if kind == "null":
                process = self._start(self.server_core, self.coeload, "null", "--port", str(port))
            else:
                config = Path(folder) / "nginx.conf"
                config.write_text(NGINX_CONFIG.format(folder=folder, port=port))
                process = self._start(self.server_core, self.nginx, "-p", folder, "-c", str(config))
            try:
                yield f"http://127.0.0.1:{port}/", self._listening(process, port)
            finally:
                process.kill()
                process.communicate()

    def run(self, url: str, *arguments: str) -> Done:
        process = self._start(self.generator_core, self.coeload, "run", url, "--json", *arguments)
        out, err = process.communicate()
        if process.returncode:
            raise SystemExit(err)
        done: Done = json.loads(out)
        return done

    def coeload_closed(self, url: str) -> float:
        return float(self.run(url, "--closed", "--duration", f"{self.seconds}s")["achieved_rps"])

    def peer(self, name: str, url: str, rate: float = 0.0) -> LoadResult:
        """A load by a generator of another make: a closed loop, or held to a rate."""
        generator = plugins.load("generators", name, "generator")()
        address, _, port = url.removeprefix("http://").strip("/").partition(":")
        seconds = max(1.0, float(round(self.seconds)))
        plan = LoadPlan(targets=(Target(address, int(port)),), rate=rate, connections=32, duration=seconds)
        program = self.tool(name)
        assert program
        process = self._start(self.generator_core, program, *generator.command(plan)[1:])
        out, err = process.communicate()
        if process.returncode:
            raise SystemExit(f"{name}: {err}")
        result: LoadResult = generator.result(plan, out)
        return result

    # ---- the tables ----

    def closed(self) -> None:
        print("Closed loop, 1 thread, 32 connections, requests/s")
        peers = [name for name in self.peers if self.tool(name)]
        if not peers:
            print("  nothing to compare with")
            return
        print(f"  {'server':8} {'peer':8} {'coeload':>10} {'peer':>10} {'ratio':>7}   pairs' ratios")
        for kind in ("nginx", "null") if self.nginx else ("null",):
            for peer in peers:
                ours, theirs = [], []
                with self.server(kind) as (url, _):
                    for pair in range(self.pairs):
                        if pair % 2:
                            theirs.append(self.peer(peer, url).achieved_rps)
                            ours.append(self.coeload_closed(url))
                        else:
                            ours.append(self.coeload_closed(url))
                            theirs.append(self.peer(peer, url).achieved_rps)
                ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
                print(
                    f"  {kind:8} {peer:8} {statistics.median(ours):10.0f} {statistics.median(theirs):10.0f}"
                    f" {statistics.median(ratios):7.3f}   {' '.join(f'{ratio:.3f}' for ratio in ratios)}"
                )

    def paced(self) -> None:
        print("\nHeld to a rate, 32 connections, null server, medians over the runs; ms from the send, as the others count")
        print(f"  {'rate':>7} {'tool':>8} {'achieved':>10} {'off by':>8} {'p50':>8} {'p99':>8} {'max':>8}")
        form = "  {:7} {:>8} {:10.0f} {:+8.2%} {:>8} {:>8} {:>8}"
        with self.server("null") as (url, _):
            for rate in (1000, 20000, 50000):
                runs = [self.run(url, "--rate", str(rate), "--duration", f"{self.seconds}s") for _ in range(self.pairs)]
                ours = [(r["achieved_rps"], r["raw_latency_ms"]) for r in runs]
                others = {
                    name: [(r.achieved_rps, r.raw_ms) for r in (self.peer(name, url, rate) for _ in range(self.pairs))]
                    for name in self.peers
                    if name != "wrk" and self.tool(name)  # wrk has no rate
                }
                for name, told in {"coeload": ours, **others}.items():
                    achieved = statistics.median(a for a, _ in told)
                    figures = [
                        f"{statistics.median(raw[k] for _, raw in told):.3f}" if all(k in raw for _, raw in told) else "-"
                        for k in ("p50", "p99", "max")
                    ]
                    print(form.format(rate, name, achieved, achieved / rate - 1, *figures))
                floor = statistics.median(raw["p50"] for _, raw in ours)
                late = [f"{floor + share:.3f}" for share in (0.5, 0.99, 1.0)]
                print(form.format(rate, "(whole ms)", rate, 0, *late) + "   arithmetic, not a run: see docs/load.md")

    def open(self) -> None:
        print("\nOpen loop against the null server, medians over the runs; ms")
        print(
            f"  {'rate':>7} {'mode':>6} {'achieved':>10} {'off by':>8} {'lag p50':>8} {'lag p99':>8}"
            f" {'raw p50':>8} {'raw p99':>8} {'corr p99':>9} {'unsent':>7} {'cpu':>5}"
        )
        with self.server("null") as (url, _):
            for rate in (1000, 20000, 50000, 80000):
                for spin in ([], ["--spin"]):
                    runs = [
                        self.run(url, "--rate", str(rate), "--duration", f"{self.seconds}s", "--warmup", "200ms", *spin)
                        for _ in range(self.pairs)
                    ]

                    def median(*path: str, runs: list[Done] = runs) -> float:
                        values = []
                        for run in runs:
                            value: Any = run
                            for key in path:
                                value = value[key]
                            values.append(float(value))
                        return statistics.median(values)

                    achieved = median("achieved_rps")
                    print(
                        f"  {rate:7} {'spin' if spin else 'sleep':>6} {achieved:10.1f} {achieved / rate - 1:+8.3%}"
                        f" {median('send_lag_ms', 'p50'):8.3f} {median('send_lag_ms', 'p99'):8.3f}"
                        f" {median('raw_latency_ms', 'p50'):8.3f} {median('raw_latency_ms', 'p99'):8.3f}"
                        f" {median('latency_ms', 'p99'):9.3f} {median('unsent'):7.0f} {median('cpu_busiest'):5.2f}"
                    )

    def stopped(self) -> None:
        rate, seconds, stop, catchup = 10000, 10, 0.2, 4
        print(f"\nServer stopped for {stop * 1e3:.0f} ms in {seconds} s at {rate}/s (catch-up at {catchup}x)")
        with self.server("null") as (url, server):
            process = self._start(
                self.generator_core,
                *[self.coeload, "run", url, "--json", "--rate", str(rate), "--duration", f"{seconds}s"],
                *["--catchup", str(catchup)],
            )
            time.sleep(seconds / 2)
            server.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            time.sleep(stop)
            server.send_signal(signal.SIGCONT)
            real = (time.monotonic() - began) * 1e3
            done: Done = json.loads(process.communicate()[0])
        # Due during the stop: rate * stop. They wait for its end and for those before them; the backlog shrinks at
        # (catchup - 1) * rate, so rate * stop * catchup / (catchup - 1) requests wait, linearly less and less.
        waiting = rate * real / 1e3 * catchup / (catchup - 1)
        for name, expected in (("max", real), ("p99", real * (1 - rate * seconds * 0.01 / waiting))):
            corrected = done["latency_ms"][name]
            print(
                f"  {name:4} corrected {corrected:8.2f} ms, by arithmetic {expected:8.2f} ms"
                f" ({corrected / expected - 1:+.2%}); raw {done['raw_latency_ms'][name]:8.2f} ms"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coeload", type=Path, required=True)
    parser.add_argument("--tree", type=Path, help="an unpacked Debian tree that has what is not installed (the lab's)")
    parser.add_argument("--nginx")
    parser.add_argument("--peers", default="wrk,h2load,hey")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    parser.add_argument("--realtime", action="store_true", help="SCHED_RR (as root), where others use the machine too")
    parser.add_argument("--only", choices=["closed", "paced", "open", "stopped"])
    options = parser.parse_args()
    options.coeload = options.coeload.resolve()
    options.tree = options.tree or lab_tree()
    bench = Bench(options)
    if missing := bench.missing():
        print(missing)
    bench.nginx = bench.nginx or bench.tool("nginx")
    load = os.getloadavg()[0]
    print(f"load average before: {load:.2f} on {os.cpu_count()} CPUs\n")
    before = cpu_times()
    for name in ("closed", "paced", "open", "stopped"):
        if options.only in (None, name):
            getattr(bench, name)()
            sys.stdout.flush()
    spent = [b - a for a, b in zip(before, cpu_times(), strict=True)]
    print(f"\nof the CPUs' time {spent[7] / sum(spent):.1%} went to other virtual machines (steal)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
