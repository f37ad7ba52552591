"""Bays of the lab: a switch, hosts, and an engine on them; what is up is written down before it is started."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from ..contract import Access, BadInput, BayFailed, BaySpec, Role, is_bay_name
from . import cgroups, netns, paths, plan
from .cache import remove
from .engines import Engine, engine
from .host import Host, HostSpec, spawn
from .process import Process, kill_all

Step = Callable[[str], None]


# Its log, in Apache's combined format, is how one knows who fetched what.
_REGISTRY = """\
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: "ADDRESS"}
"""


class State(msgspec.Struct, kw_only=True):
    """A bay as it stands on disk, in bay.json."""

    name: str
    spec: BaySpec
    layout: plan.Layout
    layers: tuple[str, ...]
    images: str
    secrets: dict[str, str] = {}
    switch: Process | None = None
    hosts: list[Host] = []
    registry: Host | None = None  # no host of the engine's: one that its nodes pull images from
    made: float = 0.0
    ready: bool = False


class LabBay:
    """One bay. Can be opened by name in another process."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.engine: Engine = engine(state.spec.coe)(state.spec, state.layout)
        if state.secrets:
            self.engine.prepare(state.secrets)

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def folder(self) -> Path:
        return paths.state() / "bays" / self.name

    @property
    def hosts(self) -> list[Host]:
        return self.state.hosts

    @classmethod
    def open(cls, name: str) -> LabBay:
        """A bay that is up. Raises BadInput if none of that name is."""
        checked(name)
        try:
            return cls(msgspec.json.decode((paths.state() / "bays" / name / "bay.json").read_bytes(), type=State))
        except FileNotFoundError:
            raise BadInput(f"no lab bay '{name}' is up (coebench lab status lists those that are)") from None

    @classmethod
    def create(
        cls,
        name: str,
        spec: BaySpec,
        layers: tuple[Path, ...],
        images: Path,
        step: Step,
        secrets: Mapping[str, str] | None = None,
    ) -> LabBay:
        """Make a bay; returns when its engine is ready on all nodes. On failure it is left as it is, for its logs.

        `secrets`: "ca.crt" and "ca.key" of an authority that is to be the bay's own, so that whoever it signs for can use
        the engine's API over TLS.
        """
        checked(name)
        layout = plan.Layout.of(spec.controls, spec.nodes)
        state = State(name=name, spec=spec, layout=layout, layers=tuple(map(str, layers)), images=str(images))
        state.secrets = dict(secrets or {})
        bay = cls(state)
        if bay.folder.exists():
            raise BadInput(f"lab bay '{name}' is there already: coebench lab down {name}, or coebench clean")
        state.made = time.time()
        bay.engine.prepare(state.secrets)
        bay.engine.provide()
        bay.save()
        joins = cgroups.create(f"{name}/switch", 0, 0)
        routes = "".join(f"route add {r}\n" for r in plan.pod_routes())
        gateway = f"{plan.GATEWAY}/{plan.BITS}"
        state.switch = spawn(
            paths.guest() / "guest/switch.sh",
            [state.layers[-1], gateway],
            joins,
            bay.folder / "switch.log",
            {},
            whole=False,
            stdin=routes,
        )
        bay.save()
        step("switch")
        bay._start([host for host, _ in layout.hosts])
        step("hosts")
        with bay.network():
            bay.engine.join(state.hosts, list(state.hosts), step)
        state.ready = True
        bay.save()
        return bay

    def save(self) -> None:
        """Write the state, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / "bay.json.new"
        new.write_bytes(msgspec.json.encode(self.state))
        os.replace(new, self.folder / "bay.json")

    def _start(self, names: list[str]) -> list[Host]:
        assert self.state.switch
        roles = dict(self.state.layout.hosts)
        new = [Host(spec=self._spec(n, roles[n])) for n in names]
        self.state.hosts += new
        self.save()
        with ThreadPoolExecutor(max_workers=min(8, len(new))) as pool:
            list(pool.map(lambda h: h.start(self.state.switch), new))
        self.save()
        return new

    def _spec(self, name: str, role: Role) -> HostSpec:
        s = self.state
        return HostSpec(
            bay=self.name,
            name=name,
            role=role,
            address=plan.address(name),
            bits=plan.BITS,
            gateway=plan.GATEWAY,
            layers=s.layers,
            images=s.images,
            payload=self.engine.payload(name, role),
            routes=self.engine.routes(name),
            neighbours=tuple((n, plan.address(n)) for n, _ in s.layout.hosts if n != name),
            files=self.engine.files(name, role),
            cpu=s.spec.cpu,
            memory=s.spec.memory,
        )

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Enter the bay's network with this thread."""
        if not self.state.switch or not self.state.switch.alive:
            raise BayFailed(f"bay {self.name}: its network is gone (the switch's process has ended)")
        with netns.entered(self.state.switch.pid):
            yield

    def host(self, name: str) -> Host:
        """A host by name. Raises BadInput."""
        for h in self.hosts:
            if h.spec.name == name:
                return h
        raise BadInput(f"bay {self.name} has no host '{name}' (it has {', '.join(h.spec.name for h in self.hosts)})")

    def access(self) -> Access:
        return self.engine.access(self.hosts)

    def check(self) -> None:
        """Raise BayFailed, with the log's tail, if a host or an engine's process has ended."""
        for h in self.hosts:
            for name, status in h.dead_engines().items():
                raise BayFailed(f"{name} on {h.spec.name} ended with status {status}", h.log(name))

    # a registry of the bay's own

    def add_registry(self, layer: Path) -> Host:
        """Start the registry's host; returns when the registry answers. Raises BayFailed."""
        assert self.state.switch
        spec = HostSpec(
            bay=self.name,
            name=plan.REGISTRY,
            role=Role.CONTROL,  # it runs no instances
            address=plan.address(plan.REGISTRY),
            bits=plan.BITS,
            gateway=plan.GATEWAY,
            layers=(str(layer), self.state.layers[-1]),
            images=self.state.images,
            payload=("/opt/coebench/guest/registry.sh", plan.registry()),
            files={"/etc/registry.yml": _REGISTRY.replace("ADDRESS", plan.registry())},
            memory=self.state.spec.memory,
        )
        host = self.state.registry = Host(spec=spec)
        self.save()
        host.start(self.state.switch)
        self.save()
        self.engine.wait(lambda: (host.run / "registry.ok").exists(), [host], "the registry answers")
        return host

    def drop_registry(self) -> None:
        """End the registry's host and remove what it kept; no error if there is none."""
        if host := self.state.registry:
            host.stop()
            self._link("del", f"p{plan.REGISTRY}")
            host.erase()
            self.state.registry = None
            self.save()

    # changes

    def resize(self, nodes: int, step: Step) -> None:
        """Add nodes, or take the newest away."""
        have = self.state.layout.nodes
        if nodes > len(have):
            self.state.layout = self.state.layout.more(nodes - len(have))
            self._relayout()
            new = self._start([n for n in self.state.layout.nodes if n not in have])
            step("hosts")
            with self.network():
                self.engine.join(self.hosts, new, step)
        else:
            self.drop(set(have[nodes:]))
            step("nodes.gone")

    def drop(self, names: set[str]) -> None:
        """Take nodes away."""
        gone = [h for h in self.hosts if h.spec.name in names]
        for h in gone:
            self._link("set", f"p{h.spec.name}", "down")
            h.stop()
            self._link("del", f"p{h.spec.name}")
        self.state.hosts = [h for h in self.hosts if h.spec.name not in names]
        self.state.layout = self.state.layout.without(names)
        self._relayout()
        with self.network():
            self.engine.leave(self.hosts, gone)
        for h in gone:
            h.erase()
        self.save()

    def _relayout(self) -> None:
        self.engine = engine(self.state.spec.coe)(self.state.spec, self.state.layout)
        self.engine.prepare(self.state.secrets)

    def cable(self, host: str, up: bool) -> None:
        """Plug or pull a host's cable, at the switch. Raises BayFailed."""
        if said := self._link("set", f"p{host}", "up" if up else "down"):
            raise BayFailed(f"bay {self.name}: the cable of {host}: {said}")

    def _link(self, *words: str) -> str:
        """`ip link` in the switch; returns what it complains of."""
        assert self.state.switch
        net = f"--net=/proc/{self.state.switch.pid}/ns/net"
        command = ["nsenter", net, "chroot", self.state.layers[-1], "/usr/sbin/ip", "link", *words]
        return subprocess.run(command, capture_output=True, text=True).stderr.strip()

    def crash(self, host: str) -> None:
        """Power cut: the cable first, since a dying host would otherwise close its connections, then all at once."""
        self.cable(host, up=False)
        self.host(host).crashed = True
        self.save()
        self.host(host).stop()

    def restart(self, host: str, step: Step) -> None:
        """Start a crashed host again, with what was on its disk."""
        assert self.state.switch
        h = self.host(host)
        self._link("del", f"p{host}")  # the kernel takes a dead host's cable away in its own time
        h.start(self.state.switch)
        h.crashed = False
        self.save()
        with self.network():
            self.engine.join(self.hosts, [h], step)

    def save_logs(self, folder: Path) -> None:
        """Copy every host's logs to FOLDER/HOST/."""
        for h in (*self.hosts, *([self.state.registry] if self.state.registry else [])):
            to = folder / h.spec.name
            to.mkdir(parents=True, exist_ok=True)
            for f in (h.folder / "upper/var/log").glob("*.log"):
                with contextlib.suppress(OSError):
                    shutil.copyfile(f, to / f.name)
            with contextlib.suppress(OSError):
                shutil.copyfile(h.folder / "out", to / "making.log")

    def delete(self) -> None:
        """Take the bay away: processes, cgroups, folders. Its mounts and links end with its processes."""
        erase(self.name)


def checked(name: str) -> str:
    """The name, if a bay can have it. Raises BadInput: it is that of a folder and of a cgroup."""
    if not is_bay_name(name) or name == "magnum":
        kept = " ('magnum' is the lab's own)" if name == "magnum" else ""
        raise BadInput(f"a bay can't be named {name!r}{kept}: use letters, digits, dots, _ and -, such as my-bay")
    return name


def names() -> list[str]:
    """The bays that are up, or that something is left of. The lab's Magnum is none, though it has a cgroup as they have."""
    bays = paths.state() / "bays"
    found = {p.name for p in bays.iterdir()} if bays.is_dir() else set()
    for folder in cgroups.folders():
        found.update(p.name for p in folder.iterdir() if p.is_dir())
    return sorted(found - {"magnum"})


def keep_logs(name: str) -> Path | None:
    """Copy the logs of a bay that failed to where the next one of its name that fails puts its own; None if there are none."""
    folder = paths.state() / "failed" / name
    remove(folder)
    LabBay.open(name).save_logs(folder)
    return folder if folder.is_dir() else None


def erase(name: str) -> None:
    """Remove all of a bay, whatever state it is in: works from its cgroups and folder alone."""
    end_all(name)
    remove(paths.state() / "bays" / name)


def end_all(name: str) -> None:
    """Kill every process in a cgroup of the lab and remove it. Raises BayFailed if one would not end.

    Killing pid 1 of a host ends everything in it; the rest of the loop is for a bay caught while being made.
    """
    deadline = time.monotonic() + 20
    while pids := cgroups.pids(name):
        mine = os.getpid()
        victims = [p for pid in pids if pid != mine and (p := _of(pid))]
        # outermost first: the holders of pid 1 take everything else with them, at one stroke
        stuck = kill_all(victims, max(0.0, deadline - time.monotonic()))
        if stuck or time.monotonic() > deadline:
            raise BayFailed(f"bay {name}: processes {[p.pid for p in stuck]} do not end")
        if not victims:
            time.sleep(0.002)  # dying, not yet out of the cgroup
    cgroups.remove(name)


def _of(pid: int) -> Process | None:
    try:
        return Process.of(pid)
    except ProcessLookupError:
        return None
