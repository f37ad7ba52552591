"""The lab's cgroups: one for each host, in every hierarchy of version 1 or in the one of version 2.

All lie below one (`paths.tag`), which is also how leftovers are found: any process in there is ours.

On version 2 a cgroup that hands controllers on may hold no process itself. So controllers are handed on from the machine's root
down to the bay, and a host's processes are all in leaves of the host's cgroup. What was switched on in the machine's root is
written down, and switched off again when the last bay goes, but for what somebody else has come to use meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from pathlib import Path

from ..contract import BadInput
from . import paths

_MOUNT = Path("/sys/fs/cgroup")
_MOUNTS = Path("/proc/mounts")
PERIOD_US = 100_000
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")  # of version 2, that engines know
NEEDED = ("cpu", "memory", "pids")
UNSET = {"", "0", "100", "default 100", "max", "max 100000"}  # what a setting holds that nobody has set
NO_LIMIT = 1 << 62  # hugetlb's files show a limit that nobody has set as the largest number of whole pages, not as "max"
SETTINGS = ("cpus", "mems", "max", "min", "low", "high", "weight", "weight.nice", "latency", "idle", "prio.class")


def version() -> int:
    """1 or 2."""
    return 2 if (_MOUNT / "cgroup.controllers").exists() else 1


def hierarchies() -> list[Path]:
    """Where cgroups are made: on version 1 the mount points of all its hierarchies, and that of version 2 if it is mounted beside
    them (what mounts it in a host, as systemd does, must see the host's cgroup there, not the machine's root); on version 2 its
    mount, and that of v1's freezer if it is mounted beside it."""
    v1 = [(Path(path), options.split(",")) for path, kind, options in _mounts() if kind == "cgroup"]
    if version() == 1:
        return [path for path, _ in v1] + [Path(path) for path, kind, _ in _mounts() if kind == "cgroup2"][:1]
    return [_MOUNT, *[path for path, options in v1 if "freezer" in options][:1]]


def _mounts() -> list[tuple[str, str, str]]:
    """Mount point, kind and options of all mounts."""
    return [(words[1], words[2], words[3]) for line in _MOUNTS.read_text().splitlines() if len(words := line.split()) > 3]


def problem() -> str:
    """Why no host can have a cgroup here; empty if it can."""
    if not hierarchies():
        return f"no cgroup hierarchy is mounted at {_MOUNT}: the lab needs version 1 or 2"
    if version() == 1:
        return ""
    if missing := set(NEEDED) - _words(_MOUNT / "cgroup.controllers"):
        return f"cgroup v2 at {_MOUNT} lacks {', '.join(sorted(missing))} (held by version 1, or not delegated): no limits"
    held = set(NEEDED) - _words(_MOUNT / "cgroup.subtree_control")
    # the machine's own root alone has no cgroup.type, and may hold processes nevertheless
    if held and (_MOUNT / "cgroup.type").exists() and (_MOUNT / "cgroup.procs").read_text().strip():
        return f"{_MOUNT} is a container's cgroup with processes in it, so it can't hand on {', '.join(sorted(held))}"
    return ""


def freezer() -> str:
    """Why v1's freezer can't be used here; empty if it is mounted, or can be: version 2 has a freezer of its own, so that the
    old one is bound to nothing there."""
    if any(kind == "cgroup" and "freezer" in options.split(",") for _, kind, options in _mounts()):
        return ""
    try:
        lines = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()]
    except OSError:
        lines = []
    if not any(words[0] == "freezer" and words[3] == "1" for words in lines if len(words) > 3):
        return "this kernel has no cgroup v1 freezer (CONFIG_CGROUP_FREEZER, cgroup_no_v1)"
    return ""


def mount_freezer() -> None:
    """Mount v1's freezer beside version 2, unless it is mounted. It must be done out here: the kernel makes hierarchies in its
    first cgroup namespace only. The last bay takes it away (`remove`). Raises BadInput with what mount says."""
    if any("freezer" in options.split(",") for _, kind, options in _mounts() if kind == "cgroup"):
        return
    folder = _freezer_folder()
    folder.mkdir(parents=True, exist_ok=True)
    p = subprocess.run(["mount", "-t", "cgroup", "-o", "freezer", "cgroup", str(folder)], capture_output=True, text=True)
    if p.returncode:
        raise BadInput(f"cgroup v1's freezer can't be mounted beside version 2: {p.stderr.strip()}")


def _freezer_folder() -> Path:
    return paths.state() / "freezer"


def _words(file: Path) -> set[str]:
    try:
        return set(file.read_text().split())
    except OSError:
        return set()


def create(name: str, cpu: float, memory: int) -> list[Path]:
    """Make the cgroup NAME ("BAY/HOST") and limit it; 0 is no limit. Returns the `cgroup.procs` files to join by.

    Version 2 beside version 1 limits nothing: no controller is handed on, so that a cgroup with children may have processes.
    The order matters on version 1: a limit set after children exist can be refused, so it is set here, at once.
    Raises BadInput if a limit can't be set.
    """
    joins = []
    for top in hierarchies():
        folder = top
        beside = version() == 1 and (top / "cgroup.controllers").exists()
        for part in (paths.tag(), *name.split("/")):
            if not beside:
                _hand_on(folder)
            new = folder / part
            new.mkdir(exist_ok=True)
            if (new / "cpuset.cpus").exists() and version() == 1:
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if not (new / file).read_text().strip():
                        (new / file).write_text((folder / file).read_text())
                (new / "cgroup.clone_children").write_text("1")
            folder = new
        if not beside:
            _limit(folder, cpu, memory)
        joins.append(folder / "cgroup.procs")
    return joins


def leaf(name: str) -> Path | None:
    """On version 2, where what holds a host's pid 1 has to stay, so that the host's cgroup itself is free of processes."""
    if version() == 1:
        return None
    folder = _MOUNT / paths.tag() / name / "outer"
    folder.mkdir(exist_ok=True)
    return folder / "cgroup.procs"


def _hand_on(folder: Path) -> None:
    """On version 2: let the cgroups below a folder have its controllers. One that can't be is missed by `_limit`, if at all."""
    for controller in CONTROLLERS:
        if controller in _words(folder / "cgroup.controllers") - _words(folder / "cgroup.subtree_control"):
            if folder == _MOUNT:
                _switched().parent.mkdir(parents=True, exist_ok=True)
                with open(_switched(), "a") as f:  # before it is done: a killed coebench has written down at least what it did
                    f.write(f"{_boot()} {controller}\n")
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _switched() -> Path:
    """What was switched on in the machine's root: a line each, of the boot and the controller."""
    return paths.state() / "controllers"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def switch_off() -> None:
    """Switch off what the lab switched on in the machine's root, if it has no cgroup any more. The kernel refuses for a
    controller that others hand on; one by which somebody limits a cgroup of his own is left alone."""
    if version() == 1 or folders() or not _switched().exists():
        return
    lines = [line.split() for line in _switched().read_text().splitlines()]
    for controller in sorted({words[1] for words in lines if len(words) == 2 and words[0] == _boot()}):
        if not _in_use(controller):
            with contextlib.suppress(OSError):
                (_MOUNT / "cgroup.subtree_control").write_text(f"-{controller}")
    _switched().unlink()


def _in_use(controller: str) -> bool:
    """Whether a cgroup just below the machine's root has a setting of a controller's."""
    for file in _MOUNT.glob(f"*/{controller}.*"):
        if file.name.endswith(SETTINGS):
            with contextlib.suppress(OSError):
                value = file.read_text().strip()
                if value not in UNSET and not (value.isdigit() and int(value) >= NO_LIMIT):
                    return True
    return False


def _limit(folder: Path, cpu: float, memory: int) -> None:
    try:
        if (folder / "cgroup.controllers").exists():
            for limit, file, value in (
                (cpu, "cpu.max", f"{int(cpu * PERIOD_US)} {PERIOD_US}"),
                (memory, "memory.max", str(memory)),
            ):
                if limit and not (folder / file).exists():
                    raise BadInput(f"cgroup {folder} has no {file}, so the host can't be limited: {problem() or 'not handed on'}")
                if limit:
                    (folder / file).write_text(value)
        else:
            if cpu and (folder / "cpu.cfs_quota_us").exists():
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(int(cpu * PERIOD_US)))
            if memory and (folder / "memory.limit_in_bytes").exists():
                (folder / "memory.limit_in_bytes").write_text(str(memory))
    except OSError as e:
        raise BadInput(f"cgroup {folder}: the limits (cpu {cpu:g}, memory {memory}) were refused: {e.strerror}") from e


def folders(name: str = "") -> list[Path]:
    """The cgroup NAME, or the lab's whole, in each hierarchy where it exists."""
    return [f for top in hierarchies() if (f := top / paths.tag() / name if name else top / paths.tag()).is_dir()]


def pids(name: str = "") -> set[int]:
    """All processes in a cgroup and below it."""
    found: set[int] = set()
    for folder in folders(name):
        for sub, _, _ in os.walk(folder):  # which, unlike rglob, is not upset by a cgroup that goes meanwhile
            with contextlib.suppress(OSError):
                found.update(int(p) for p in (Path(sub) / "cgroup.procs").read_text().split())
    return found


def cpu_seconds(name: str) -> float:
    """CPU time used by a cgroup and all below it since it was made."""
    for folder in folders(name):
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        if (folder / "cpu.stat").exists():
            for line in (folder / "cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec"):
                    return int(line.split()[1]) / 1e6
    return 0.0


def memory_bytes(name: str) -> int:
    """Memory charged to a cgroup and all below it, page cache included."""
    for folder in folders(name):
        for file in ("memory.usage_in_bytes", "memory.current"):
            if (folder / file).exists():
                return int((folder / file).read_text())
    return 0


def anonymous_bytes(name: str) -> int:
    """Anonymous memory of a cgroup and all below it: what its processes hold, and no page cache."""
    word = "total_rss" if version() == 1 else "anon"
    for folder in folders(name):
        if (folder / "memory.stat").exists():
            for line in (folder / "memory.stat").read_text().splitlines():
                if line.startswith(f"{word} "):
                    return int(line.split()[1])
    return 0


def remove(name: str, timeout: float = 5.0) -> None:
    """Remove a cgroup and all below it. Its processes must be dead or dying: a dying task holds it for some ms."""
    deadline = time.monotonic() + timeout
    for folder in folders(name):
        while True:
            try:
                for sub, _, _ in os.walk(folder, topdown=False):
                    os.rmdir(sub)
                break
            except FileNotFoundError:
                if not folder.exists():
                    break
            except OSError as e:
                if e.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.002)
    if name and "/" not in name:
        with contextlib.suppress(OSError):
            for folder in folders():
                os.rmdir(folder)  # the last bay takes the root with it
        unmount_freezer()
        switch_off()


def unmount_freezer() -> None:
    """Take away the freezer's mount if it is the lab's own and the lab has no cgroup any more."""
    folder = _freezer_folder()
    if not folders():
        for _ in [path for path, _, _ in _mounts() if path == str(folder)]:  # two bays that began at once may have made two
            subprocess.run(["umount", str(folder)], capture_output=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
