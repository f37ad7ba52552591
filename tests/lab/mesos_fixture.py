"""A Mesos bay for the tests of the Marathon-compatible API: one master, two agents, each in a net namespace of its own.

It needs root and a built Mesos: COEBENCH_TEST_MESOS names the folder that coebench/lab/mesos/build.sh made (the one
with lib/ and libexec/), COEBENCH_TEST_MESOS_LIBS the folder of Debian's libsvn1 and so on where they are not installed.
The tests ask a bay for its ``url``, to be ``inside`` its network, and to ``restart`` or ``stop_agent`` things.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# PyPI's marathon 0.13 looks for Iterable where Python 3.9 had it
if not hasattr(collections, "Iterable"):
    collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]

REPO = Path(__file__).resolve().parents[2]
MASTER = "10.78.7.1"
AGENTS = {"a1": "10.78.7.11", "a2": "10.78.7.12"}
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def _setns(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(fd)


@contextlib.contextmanager
def network(name: str) -> Iterator[None]:
    """The calling thread, and what it starts, in that net namespace."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _setns(f"/run/netns/{name}")
    try:
        yield
    finally:
        if libc.setns(own, CLONE_NEWNET):
            os._exit(70)
        os.close(own)


class MesosBay:
    def __init__(self, folder: Path, mesos: Path, libs: str | None) -> None:
        self.folder, self.mesos = folder, mesos
        self.tag = f"cbm-{os.getpid()}"
        self.url = f"http://{MASTER}:8080"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": libs or "",
            "MESOS_LAUNCHER": "posix",
            "MESOS_REGISTRY": "in_memory",
            "MESOS_AGENT_PING_TIMEOUT": "1secs",
            "MESOS_MAX_AGENT_PING_TIMEOUTS": "3",
            "MESOS_ALLOCATION_INTERVAL": "200ms",
            "MESOS_REGISTRATION_BACKOFF_FACTOR": "50ms",
        }

    # the network

    def up(self) -> None:
        switch = f"{self.tag}-sw"
        self._ip("netns", "add", switch)
        self._ip("-n", switch, "link", "add", "br0", "type", "bridge")
        self._ip("-n", switch, "link", "set", "br0", "up")
        for name, address in {"m": MASTER, **AGENTS}.items():
            host = f"{self.tag}-{name}"
            self._ip("netns", "add", host)
            self._ip("-n", host, "link", "set", "lo", "up")
            self._ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", f"v-{name}", "netns", switch)
            self._ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
            self._ip("-n", host, "link", "set", "eth0", "up")
            self._ip("-n", switch, "link", "set", f"v-{name}", "master", "br0", "up")
        self._start("master", "m", [self.mesos / "master.sh", MASTER], MESOS_FOLDER=self.folder / "m")
        for name in AGENTS:
            self.start_agent(name)
        self.start_marathon()
        self.wait(lambda: self.agents() == len(AGENTS), "the agents to register")
        self.wait(lambda: self._get(8080, "/v2/info").get("frameworkId"), "the scheduler to subscribe")

    def down(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        names = [f"{self.tag}-{name}" for name in ("m", *AGENTS, "sw")]
        for name in names:  # tasks and executors have sessions of their own: what is in our namespaces is ours
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for name in names:
            self._ip("netns", "del", name)
        for mount in Path("/proc/self/mounts").read_text().splitlines():
            assert str(self.folder) not in mount, f"left mounted: {mount}"

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    # processes

    def _start(self, name: str, host: str, words: list[Any], **environment: Any) -> None:
        with open(self.folder / f"{name}.log", "ab") as log, network(f"{self.tag}-{host}"):
            self.processes[name] = subprocess.Popen(
                [str(word) for word in words],
                env={**self.environment, **{k: str(v) for k, v in environment.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_agent(self, name: str) -> None:
        folder = self.folder / name
        self._start(
            name,
            name,
            [self.mesos / "agent.sh", AGENTS[name], MASTER],
            MESOS_FOLDER=folder,
            MESOS_RUNTIME_DIR=folder / "run",
            MESOS_RESOURCES="cpus:2;mem:2048;disk:4096;ports:[31000-31999]",
            MESOS_ATTRIBUTES=f"rack:{name}",
        )

    def kill_agent(self, name: str) -> None:
        """The agent alone: its executors and tasks go on."""
        self._kill(name)

    def start_marathon(self) -> None:
        python = shutil.which("python3", path="/usr/bin") or sys.executable
        words = [python, REPO / "coebench/lab/marathon", "--master", f"{MASTER}:5050", "--listen", f"{MASTER}:8080"]
        self._start("marathon", "m", [*words, "--state", self.folder / "marathon"], PYTHONDONTWRITEBYTECODE="1")
        self.wait(self._listens, "the API")

    def kill_marathon(self) -> None:
        self._kill("marathon")

    def restart_master(self) -> None:
        self._kill("master")
        self._start("master", "m", [self.mesos / "master.sh", MASTER], MESOS_FOLDER=self.folder / "m")

    def _kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    # looking

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return network(f"{self.tag}-m")

    @staticmethod
    def wait(condition: Callable[[], Any], what: str, seconds: float = 15) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.01)
        raise AssertionError(f"waited {seconds} s for {what}")

    def _listens(self) -> bool:
        with self.inside(), contextlib.suppress(OSError), socket.create_connection((MASTER, 8080), 1):
            return True
        return False

    def agents(self) -> int:
        """How many agents the master counts as active."""
        return int(self._get(5050, "/metrics/snapshot").get("master/slaves_active", 0))

    def _get(self, port: int, path: str) -> dict[str, Any]:
        with self.inside(), contextlib.suppress(OSError):
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://{MASTER}:{port}{path}", timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        return {}


@pytest.fixture(scope="module")
def mesos_bay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MesosBay]:
    mesos = os.environ.get("COEBENCH_TEST_MESOS")
    if os.geteuid() or not mesos:
        pytest.skip("needs root and a built Mesos (COEBENCH_TEST_MESOS)")
    bay = MesosBay(tmp_path_factory.mktemp("mesos"), Path(mesos), os.environ.get("COEBENCH_TEST_MESOS_LIBS"))
    try:
        bay.up()
        yield bay
    finally:
        bay.down()
