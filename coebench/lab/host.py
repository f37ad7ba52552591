"""A lab host: a root file system of its own, namespaces, a cgroup, and a pid 1 whose end is the host's end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from ..contract import BadInput, BayFailed, Role
from . import cgroups, paths
from .cache import remove, share
from .process import Process

GUEST_HOME = "/root"  # of root inside a host, as guest/init.sh sets it


class HostSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a host. `layers`: lower layers, uppermost first, the Debian tree last. `files`: path → text, put into its
    file system before it starts. `payload`: a script of `guest/` with its arguments, run as pid 1's child."""

    bay: str
    name: str
    role: Role
    address: str
    bits: int
    gateway: str
    layers: tuple[str, ...]
    images: str
    payload: tuple[str, ...]
    routes: tuple[str, ...] = ()
    neighbours: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, str] = {}
    cpu: float = 0.0
    memory: int = 0


class Host(msgspec.Struct, kw_only=True):
    """A host that was started. `outer` is the process that holds pid 1; it ends when pid 1 does."""

    spec: HostSpec
    outer: Process | None = None
    pid1: Process | None = None
    crashed: bool = False  # on purpose (`LabBay.crash`)

    @property
    def folder(self) -> Path:
        return paths.state() / "bays" / self.spec.bay / "hosts" / self.spec.name

    @property
    def cgroup(self) -> str:
        return f"{self.spec.bay}/{self.spec.name}"

    @property
    def alive(self) -> bool:
        return bool(self.pid1 and self.pid1.alive)

    @property
    def root(self) -> Path:
        """The host's file system as its processes see it, from outside. Raises BayFailed if it is down."""
        if not self.pid1 or not self.pid1.alive:
            raise BayFailed(f"host {self.spec.name} of {self.spec.bay} is down", self.log("host"))
        return Path(f"/proc/{self.pid1.pid}/root")

    @property
    def run(self) -> Path:
        """/run/coebench of the host."""
        return self.root / "run/coebench"

    def start(self, switch: Process) -> None:
        """Start it; returns once it stands and its payload begins. Raises BayFailed with what its making said."""
        s, d = self.spec, self.folder
        if d.exists():
            remove(d / "work")
        for sub in ("upper/etc", "work", "root", "data"):
            (d / sub).mkdir(parents=True, exist_ok=True)
        for path, text in s.files.items():
            target = d / "upper" / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        (d / "routes").write_text("".join(f"route add {r}\n" for r in s.routes))
        (d / "hosts").write_text("".join(f"{address} {name}\n" for name, address in s.neighbours))
        if s.memory:
            (d / "meminfo").write_text(meminfo(s.memory))
        for link, target_path in (("guest", paths.guest()), ("images", Path(s.images))):
            with contextlib.suppress(FileExistsError):
                (d / link).symlink_to(target_path)
        begin = Path(s.images) / "data"
        if s.role is Role.NODE and begin.is_dir() and not any((d / "data").iterdir()):
            shutil.copytree(begin, d / "data", symlinks=True, copy_function=_share, dirs_exist_ok=True)
        if cgroups.version() == 2:  # of a host that crashed: it hands controllers on, so no process could enter it
            cgroups.remove(self.cgroup)
        joins = cgroups.create(self.cgroup, s.cpu, s.memory)
        argv = [str(d), s.name, f"{s.address}/{s.bits}", s.gateway, s.layers[-1], ":".join(s.layers), *s.payload]
        net = os.open(f"/proc/{switch.pid}/ns/net", os.O_RDONLY)
        try:
            outer = cgroups.leaf(self.cgroup)
            self.outer = spawn(paths.guest() / "guest/init.sh", argv, joins, d / "out", {9: net}, whole=True, outer=outer)
        finally:
            os.close(net)
        self.pid1 = self.outer.child()
        if self.pid1 is None:
            raise BayFailed(f"host {s.name} of {s.bay} ended at once", (d / "out").read_text(errors="replace"))

    def exec(self, command: list[str], timeout: float = 30.0, check: bool = True) -> str:
        """Run a command in the host and return its output. Raises BayFailed if it fails and `check`."""
        if not self.pid1:
            raise BayFailed(f"host {self.spec.name} is not up")
        p = subprocess.run(self.enter(command), capture_output=True, text=True, errors="replace", timeout=timeout)
        if check and p.returncode:
            raise BayFailed(f"{self.spec.name}: '{' '.join(command[:4])}' failed", (p.stderr or p.stdout)[-2000:])
        return p.stdout

    def enter(self, command: list[str]) -> list[str]:
        """The command line that runs a command inside, in the host's own cgroup."""
        if not self.pid1:
            raise BayFailed(f"host {self.spec.name} is not up")
        folders = cgroups.folders(self.cgroup)
        joins = " ".join(str((f / "init" if (f / "init").is_dir() else f) / "cgroup.procs") for f in folders)
        script = f'for f in {joins}; do echo $$ > $f; done; exec nsenter -t {self.pid1.pid} -m -u -i -n -p -C -r -w "$@"'
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["sh", "-c", script, "sh", "/usr/bin/env", "-i", path, f"HOME={GUEST_HOME}", "TERM=xterm", *command]

    def log(self, name: str, lines: int = 20) -> str:
        """The last lines of a log; works on a dead host."""
        file = self.folder / "upper/var/log" / f"{name}.log"
        try:
            return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def engine_names(self) -> list[str]:
        """Its engine processes, by the names of their logs: "kubelet", "mesos-agent", … Raises BayFailed if it is down."""
        return sorted(f.stem for f in self.run.glob("*.again"))

    def stopped_engines(self) -> list[str]:
        """Engine processes that `stop_engine` has ended and nobody has started again."""
        return sorted(f.stem for f in self.run.glob("*.stopped"))

    def dead_engines(self) -> dict[str, int]:
        """Engine processes that have ended and were not told to (`stop_engine`), with their exit status. None of a host that was
        crashed on purpose."""
        if self.crashed:
            return {}
        if not self.alive:
            return {"host": -1}
        dead = {}
        for file in self.run.glob("*.exit"):
            if not file.with_suffix(".stopped").exists():
                with contextlib.suppress(FileNotFoundError):  # just now started again
                    dead[file.stem] = int(file.read_text() or -1)
        return dead

    def stop_engine(self, name: str, number: int = signal.SIGKILL, timeout: float = 10.0) -> None:
        """End one engine process, alone: what it started, instances above all, goes on. Returns once it is gone.

        Raises BadInput if there is none of that name or it does not run, BayFailed if the signal does not end it."""
        ended, stopped = self._engine(name, ".exit"), self._engine(name, ".stopped")
        pid = self._pid(name)
        if ended.exists() or not pid:
            raise BadInput(f"{name} on {self.spec.name} does not run")
        stopped.touch()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended by itself, just before
            process = os.open(self.root / "proc" / pid, os.O_RDONLY | os.O_DIRECTORY)  # stands for it, as a pidfd does
            try:
                signal.pidfd_send_signal(process, number)
            finally:
                os.close(process)
        if not _within(timeout, ended.exists):
            stopped.unlink(missing_ok=True)
            raise BayFailed(f"{name} on {self.spec.name}: signal {number} has not ended it in {timeout:g} s", self.log(name))

    def start_engine(self, name: str) -> None:
        """Start an engine process that has ended, as it was started first. Returns once it runs; whether it is ready is
        another matter. From here on its end is noticed again. Raises BadInput, BayFailed."""
        if not self._engine(name, ".exit").exists():
            raise BadInput(f"{name} on {self.spec.name} runs already")
        fifo = os.open(self._engine(name, ".again"), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fifo, b"\n")
        finally:
            os.close(fifo)
        if not _within(10.0, lambda: not self._engine(name, ".exit").exists() and bool(self._pid(name))):
            raise BayFailed(f"{name} on {self.spec.name} was not started again", self.log("host"))

    def _engine(self, name: str, kind: str) -> Path:
        """The file that the host keeps about an engine process. Raises BadInput."""
        if name not in (known := self.engine_names()):
            raise BadInput(f"host {self.spec.name} of {self.spec.bay} has no '{name}' (it has {', '.join(known) or 'none'})")
        return self.run / (name + kind)

    def _pid(self, name: str) -> str:
        """An engine process's pid, in the host's own namespace; empty while it is being started."""
        with contextlib.suppress(FileNotFoundError):
            return self._engine(name, ".pid").read_text().strip()
        return ""

    def stop(self) -> None:
        """Power off: pid 1 dies and the kernel ends all the rest. Its folder stays."""
        for p in (self.pid1, self.outer):
            if p:
                p.kill()
        for p in (self.pid1, self.outer):
            if p and not p.wait(10):
                raise BayFailed(f"host {self.spec.name}: process {p.pid} does not end")

    def erase(self) -> None:
        """Remove what a stopped host leaves: cgroup and folder."""
        cgroups.remove(self.cgroup)
        remove(self.folder)


def _share(source: str, target: str) -> None:
    """One file for all hosts, which engines only ever replace, but for databases: these are written in place."""
    if source.endswith(".db"):
        shutil.copy2(source, target)
    else:
        share(source, target)


def spawn(
    script: Path,
    argv: list[str],
    joins: list[Path],
    log: Path,
    fds: Mapping[int, int],
    *,
    whole: bool,
    stdin: str = "",
    net: bool = True,
    outer: Path | None = None,
) -> Process:
    """Start a guest script in new namespaces, detached from us, in the cgroups named, and wait for its "ok" on fd 8.

    `whole`: pid 1 of a host, with all six namespaces; else network and mounts only. Without `net` the network stays the
    machine's. `fds` maps the script's descriptor numbers to ours. `outer` (`cgroups.leaf`): where the process that holds pid 1
    goes once the cgroup that was joined has become "/" of the new namespace. Raises BayFailed with what it wrote.
    """
    spaces = ["--net", "--mount"] if net else ["--mount"]
    first = ""
    if whole:
        spaces += ["--pid", "--uts", "--ipc", "--fork", "--kill-child=SIGKILL"]
        if outer:
            first = f"unshare --cgroup sh -ec 'echo $$ > {outer}; exec \"$@\"' sh "
        else:
            spaces.append("--cgroup")
    ok_read, ok_write = os.pipe()
    high = {there: fcntl.fcntl(here, fcntl.F_DUPFD, 100) for there, here in {**fds, 8: ok_write}.items()}
    os.close(ok_write)
    moves = " ".join(f"{there}<&{here} {here}<&-" for there, here in high.items())
    join = "".join(f"echo $$ > {f}; " for f in joins)
    line = f'{join}exec {moves}; exec {first}unshare {" ".join(spaces)} bash {script} "$@"'
    try:
        with open(log, "ab") as out, tempfile.TemporaryFile() as given:
            given.write(stdin.encode())
            given.seek(0)
            p = subprocess.Popen(
                ["bash", "-ec", line, "coebench-lab", *argv],
                stdin=given,
                stdout=out,
                stderr=out,
                pass_fds=list(high.values()),
                start_new_session=True,
            )
    finally:
        for fd in high.values():
            os.close(fd)
    try:
        ok = os.read(ok_read, 3)
    finally:
        os.close(ok_read)
    if not ok:
        p.kill()
        p.wait()
        raise BayFailed(f"{script.stem}: could not be made", log.read_text(errors="replace")[-2000:])
    process = Process.of(p.pid)
    p.returncode = 0  # it outlives us by design: subprocess shall neither warn of it nor reap it
    return process


def _within(seconds: float, fact: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def meminfo(memory: int) -> str:
    """/proc/meminfo of a machine with so many bytes, all but a tenth of them free."""
    text = Path("/proc/meminfo").read_text()
    total = memory >> 10
    values = {
        "MemTotal": total,
        "MemFree": total * 9 // 10,
        "MemAvailable": total * 9 // 10,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    for name, value in values.items():
        text = re.sub(rf"^{name}:.*$", f"{name}:{value:>15} kB", text, flags=re.M)
    return text
