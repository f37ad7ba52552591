"""systemd in coebench's lab: one on every node, and nothing on the control host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources

from coebench.contract import Access, BadInput, BaySpec, Role
from coebench.lab import plan, trees
from coebench.lab.cache import Artefact
from coebench.lab.engines import Engine
from coebench.lab.host import Host

PACKAGES = ("systemd", "dbus", "systemd-journal-remote")
PLACES = {
    "node.sh": "/usr/local/lib/coebench-systemd/node.sh",
    "image.sh": "/usr/local/lib/coebench-systemd/image.sh",
    "describe.py": "/usr/local/lib/coebench-systemd/describe.py",
    "coebench.slice": "/etc/systemd/system/coebench.slice",
    "coebench-journal.service": "/etc/systemd/system/coebench-journal.service",
    "journald.conf": "/etc/systemd/journald.conf",
    "coebench.target": "/etc/systemd/system/coebench.target",
    "coebench-journal.socket": "/etc/systemd/system/coebench-journal.socket",
}


class SystemdEngine(Engine):
    """Debian's systemd as pid 1 of a process namespace on each node, reached by its D-Bus socket."""

    title = "systemd"
    version = "252"
    agent = "systemd"
    instances = "systemd/coebench.slice"
    control = ()

    @classmethod
    def check(cls, spec: BaySpec) -> None:
        super().check(spec)
        if spec.timeouts != "stock":
            raise BadInput("systemd detects no failures of nodes: it has no timeouts to harmonise")

    @classmethod
    def artefacts(cls) -> tuple[Artefact, ...]:
        """A Debian tree of the same release over the hosts' own: what it adds is systemd, D-Bus and the journal's gateway."""
        return (trees.debian("systemd-tree", "minbase", PACKAGES),)

    def files(self, host: str, role: Role) -> Mapping[str, str]:
        if role is Role.CONTROL:
            return {}
        return {place: resources.files(__package__).joinpath("host", name).read_text() for name, place in PLACES.items()}

    def payload(self, host: str, role: Role) -> tuple[str, ...]:
        return ("/opt/coebench/guest/bare-control.sh",) if role is Role.CONTROL else (PLACES["node.sh"],)

    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        nodes = [h for h in new if h.spec.role is Role.NODE]
        self.wait(lambda: all((h.run / "images.ok").exists() for h in nodes), hosts, "images are unpacked on all nodes")
        step("images")
        self.wait(lambda: all((h.run / "api.ok").exists() for h in nodes), hosts, "systemd answers on all nodes")
        step("nodes")

    def access(self, hosts: list[Host]) -> Access:
        nodes = [h for h in hosts if h.spec.role is Role.NODE and h.alive]
        return Access(
            coe="systemd",
            nodes={h.spec.name: f"unix://{h.root}/run/dbus/system_bus_socket" for h in nodes},
            options={f"address.{h.spec.name}": plan.address(h.spec.name) for h in nodes},
        )

    def timeouts(self) -> Mapping[str, str]:
        return {}

    def components(self) -> Mapping[str, str]:
        return {"systemd": "252 (Debian)", "dbus-daemon": "1.14 (Debian)"}

    def notes(self) -> tuple[str, ...]:
        return (
            "no orchestrator: systemd starts, limits and restarts the instances of its own host, the driver spreads them over "
            "hosts; nobody moves those of a host that is lost",
            "instances have an image's files and a memory limit, and use their host's own network",
        )
