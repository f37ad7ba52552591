"""coeload beside its peers, paired in one run: the figures that issue "load engine" asks for.

    python benchmarks/load/peers.py --coeload build/coeload [--nginx PATH] [--pairs 5] [--seconds 3]

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
import re
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


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.coeload = str(options.coeload)
        self.nginx = options.nginx
        self.pairs: int = options.pairs
        self.seconds: float = options.seconds
        self.realtime: bool = options.realtime
        self.server_core: int = options.server_core
        self.generator_core: int = options.generator_core

    def _place(self, core: int) -> None:
        os.sched_setaffinity(0, {core})
        if self.realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    def _start(self, core: int, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
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

    def wrk_closed(self, url: str) -> float:
        process = self._start(self.generator_core, "wrk", "-t1", "-c32", f"-d{round(self.seconds)}s", url)
        out, _ = process.communicate()
        found = re.search(r"Requests/sec:\s+([\d.]+)", out)
        if not found:
            raise SystemExit(f"wrk said: {out}")
        return float(found.group(1))

    # ---- the tables ----

    def closed(self) -> None:
        print("Closed loop, 1 thread, 32 connections, requests/s")
        if not shutil.which("wrk"):
            print("  wrk is not installed: nothing to compare with")
            return
        print(f"  {'server':8} {'coeload':>10} {'wrk':>10} {'ratio':>7}   pairs' ratios")
        for kind in ("nginx", "null") if self.nginx else ("null",):
            ours, theirs = [], []
            with self.server(kind) as (url, _):
                for pair in range(self.pairs):
                    if pair % 2:
                        theirs.append(self.wrk_closed(url))
                        ours.append(self.coeload_closed(url))
                    else:
                        ours.append(self.coeload_closed(url))
                        theirs.append(self.wrk_closed(url))
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            print(
                f"  {kind:8} {statistics.median(ours):10.0f} {statistics.median(theirs):10.0f}"
                f" {statistics.median(ratios):7.3f}   {' '.join(f'{ratio:.3f}' for ratio in ratios)}"
            )

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
    parser.add_argument("--nginx", default=shutil.which("nginx"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    parser.add_argument("--realtime", action="store_true", help="SCHED_RR (as root), where others use the machine too")
    parser.add_argument("--only", choices=["closed", "open", "stopped"])
    options = parser.parse_args()
    options.coeload = options.coeload.resolve()
    bench = Bench(options)
    load = os.getloadavg()[0]
    print(f"load average before: {load:.2f} on {os.cpu_count()} CPUs\n")
    for name in ("closed", "open", "stopped"):
        if options.only in (None, name):
            getattr(bench, name)()
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
