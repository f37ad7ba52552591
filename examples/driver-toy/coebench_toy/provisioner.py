"""A bay is one process of the toy engine and a folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import platformdirs
import psutil

from coebench.contract import (
    Access,
    BadInput,
    Bay,
    BayFailed,
    BaySpec,
    Host,
    Journal,
    NodeFault,
    Observe,
    Resource,
    Role,
    Unsupported,
)

from .engine import VERSION

MARK = "COEBENCH_TOY_BAY"  # in the environment of all processes of a bay: how `clean` knows them
TIMEOUT = 10.0


def state() -> Path:
    """Where bays' folders are."""
    own = os.environ.get("COEBENCH_STATE")
    return Path(own or platformdirs.user_state_path("coebench")) / "toy"


def coeload() -> str | None:
    """The program of the prober: COELOAD, or as `make -C workloads/loadgen` leaves it, or on the PATH."""
    built = Path("workloads/loadgen/build/coeload")
    return os.environ.get("COELOAD") or (str(built.resolve()) if built.exists() else shutil.which("coeload"))


def images() -> dict[str, list[str]]:
    """What stands for images: name → command."""
    web = [sys.executable, "-m", "coebench_toy.web"]
    known = {"coebench-http:v1": web, "coebench-http:v2": web}
    if program := coeload():
        known["coebench-loadgen:v1"] = [program, "agent", "--allow-exec"]
    return known


class ToyProvisioner:
    """Bays without root. Nodes are names with a share of memory, all on this machine."""

    name: ClassVar[str] = "toy"

    def check(self, spec: BaySpec) -> None:
        if spec.coe != "toy":
            raise BadInput(f"the toy provisioner makes bays of toy only, not of {spec.coe}")
        if spec.options:
            raise BadInput(f"toy has no option '{next(iter(spec.options))}'")
        if not coeload():
            raise BadInput("the prober's program is not there: make -C workloads/loadgen, or set COELOAD to its path")

    def prepare(self, coes: tuple[str, ...], say: Callable[[str], None]) -> None:
        """Nothing has to be built for the toy."""

    def create(self, name: str, spec: BaySpec, journal: Journal, observe: Observe) -> Bay:
        journal.creating(Resource(kind="bay", id=name, provisioner=self.name))
        folder = state() / name
        folder.mkdir(parents=True)
        nodes = {f"n{i + 1}": (spec.cpu or psutil.cpu_count() or 1, spec.memory) for i in range(spec.nodes)}
        (folder / "setup.json").write_text(json.dumps({"images": images(), "nodes": nodes}))
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(folder / "engine.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "coebench_toy.engine", str(folder)],
                env={**os.environ, MARK: str(folder), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        observe("bay.engine")
        deadline = time.monotonic() + TIMEOUT
        while not (folder / "port").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BayFailed("the toy engine did not start", (folder / "engine.log").read_text()[-2000:])
            time.sleep(0.01)
        observe("bay.api")
        return Bay(
            name=name,
            spec=spec,
            provisioner=self.name,
            hosts=tuple(Host(name=n, role=Role.NODE, address="127.0.0.1") for n in nodes),
            engine="Toy",
            version=VERSION,
            notes=("instances are plain processes of this machine: no images, no isolation, no limits",),
        )

    def describe(self, bay: Bay) -> Bay:
        folder = state() / bay.name
        if not _ours(int((folder / "pid").read_text()), folder):
            raise BayFailed("the toy engine has ended", (folder / "engine.log").read_text()[-2000:])
        return bay

    def access(self, bay: Bay) -> Access:
        return Access(coe="toy", url=f"http://127.0.0.1:{(state() / bay.name / 'port').read_text()}")

    def network(self, bay: Bay) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        raise Unsupported("resizing", "a toy bay is as large as it was made")

    def replace_node(self, bay: Bay, node: str, observe: Observe) -> Bay:
        raise Unsupported("replacing a node", "a toy bay's nodes are names")

    def fail_node(self, bay: Bay, node: str, fault: NodeFault, observe: Observe) -> None:
        raise Unsupported("failing a node", "a toy bay's nodes are names")

    def heal_node(self, bay: Bay, node: str, observe: Observe) -> None:
        raise Unsupported("healing a node", "a toy bay's nodes are names")

    def save_logs(self, bay: Bay | str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for log in (state() / _name(bay)).glob("*.log"):
            shutil.copy(log, folder / log.name)

    def delete(self, bay: Bay | str, journal: Journal, observe: Observe) -> None:
        _erase(_name(bay))
        journal.gone(Resource(kind="bay", id=_name(bay), provisioner=self.name))

    def leftovers(self) -> tuple[str, ...]:
        folder = state()
        return tuple(f"toy bay {p.name}" for p in sorted(folder.iterdir())) if folder.is_dir() else ()

    def clean(self) -> tuple[str, ...]:
        left = self.leftovers()
        for line in left:
            _erase(line.removeprefix("toy bay "))
        return left


def _name(bay: Bay | str) -> str:
    return bay if isinstance(bay, str) else bay.name


def _ours(pid: int, folder: Path) -> bool:
    """Whether a process runs and is of the bay with this folder: the engine, or an instance, which inherits the mark."""
    try:
        process = psutil.Process(pid)
        return process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _erase(name: str) -> None:
    folder = state() / name
    while processes := [psutil.Process(pid) for pid in psutil.pids() if _ours(pid, folder)]:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=0.05)  # orphans stay zombies until the machine's pid 1 has time for them
    shutil.rmtree(folder, ignore_errors=True)
