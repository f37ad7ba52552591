"""The generator's raw latency beside the wire's own timing of the same requests (as root, with tcpdump).

    python benchmarks/load/wire.py --coeload build/coeload [--seconds 2]

tcpdump captures the loopback interface; the kernel stamps each packet. The wire's latency of a request is the time from
its packet to the packet of its answer. What the raw latency adds is the generator's own: its system calls, and the time
from the answer's arrival to the generator's reading it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PCAP_NANO = 0xA1B23C4D
ETHERNET, IP_MIN = 14, 20


def latencies(capture: bytes, port: int) -> list[int]:
    """Nanoseconds from each request to its answer. A connection has one request outstanding, so they alternate."""
    if struct.unpack_from("<I", capture)[0] != PCAP_NANO:
        raise SystemExit("tcpdump did not write nanoseconds")
    asked: dict[int, int] = {}
    found = []
    at = 24
    while at + 16 <= len(capture):
        seconds, nanos, kept, _ = struct.unpack_from("<IIII", capture, at)
        at += 16
        ip = at + ETHERNET
        at += kept
        if kept < ETHERNET + IP_MIN + 20:
            continue
        header = (capture[ip] & 15) * 4
        total = struct.unpack_from(">H", capture, ip + 2)[0]
        tcp = ip + header
        source, target = struct.unpack_from(">HH", capture, tcp)
        if total - header - (capture[tcp + 12] >> 4) * 4 <= 0:
            continue
        stamp = seconds * 1_000_000_000 + nanos
        if target == port:
            asked.setdefault(source, stamp)
        elif source == port and target in asked:
            found.append(stamp - asked.pop(target))
    return sorted(found)


def pin(core: int) -> Any:
    return lambda: os.sched_setaffinity(0, {core})


def measure(coeload: str, rate: int, seconds: float, spin: bool, cores: tuple[int, int]) -> None:
    server = subprocess.Popen([coeload, "null"], stdout=subprocess.PIPE, text=True, preexec_fn=pin(cores[0]))
    assert server.stdout is not None
    port = int(server.stdout.readline().rsplit(" ", 1)[1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "wire.pcap"
        command = ["tcpdump", "-i", "lo", "-s", "80", "-B", "65536", "-w", str(file), "--time-stamp-precision=nano"]
        capture = subprocess.Popen([*command, "-Z", "root", f"tcp port {port}"], stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        run = subprocess.run(
            [coeload, "run", f"http://127.0.0.1:{port}/", "--json", "--rate", str(rate), "--duration", f"{seconds}s"]
            + (["--spin"] if spin else []),
            capture_output=True,
            text=True,
            preexec_fn=pin(cores[1]),
            check=True,
        )
        time.sleep(0.5)
        capture.send_signal(signal.SIGINT)
        _, said = capture.communicate()
        server.kill()
        server.wait()
        wire = latencies(file.read_bytes(), port)
    done = json.loads(run.stdout)
    lost = done["ok"] - len(wire)
    print(f"  {rate:6} {'spin' if spin else 'sleep':>6} {done['ok']:8} {lost:6}", end="")
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        ours = done["raw_latency_ms"][name] * 1e3
        theirs = wire[min(len(wire) - 1, int(len(wire) * share))] / 1e3
        print(f" {ours:9.1f} {theirs:9.1f} {ours - theirs:+8.1f} {ours / theirs - 1:+8.1%}", end="")
    print(f"  lag p50 {done['send_lag_ms']['p50'] * 1e3:.1f}")
    if "0 packets dropped" not in said:
        print("   ", " ".join(said.split("\n")[-4:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coeload", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    parser.add_argument("--spin", action="store_true")
    options = parser.parse_args()
    if not shutil.which("tcpdump"):
        raise SystemExit("tcpdump is not installed")
    print("Microseconds; raw is the generator's, wire is the capture's")
    print(
        f"  {'rate':>6} {'mode':>6} {'good':>8} {'uncap.':>6}"
        f" {'raw p50':>9} {'wire p50':>9} {'more':>8} {'':>8} {'raw p99':>9} {'wire p99':>9} {'more':>8}"
    )
    for rate in (1000, 20000, 50000):
        cores = (options.server_core, options.generator_core)
        measure(str(options.coeload.resolve()), rate, options.seconds, options.spin, cores)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
