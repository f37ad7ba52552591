"""Docker in coebench's lab: one engine, on the bay's first node."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coebench.contract import Access, BadInput, BaySpec, Role
from coebench.lab import plan
from coebench.lab.engines import Engine
from coebench.lab.host import Host


class DockerEngine(Engine):
    """The lab's own script starts dockerd and loads the images; nothing is joined."""

    title = "Docker"
    version = "20.10.24"

    @classmethod
    def check(cls, spec: BaySpec) -> None:
        super().check(spec)
        if spec.timeouts != "stock":
            raise BadInput("docker detects no failures of nodes: it has no timeouts to harmonise")

    def files(self, host: str, role: Role) -> Mapping[str, str]:
        return {}

    def payload(self, host: str, role: Role) -> tuple[str, ...]:
        return ("/opt/coebench/guest/swarm.sh", "node" if host == "n1" else "control")

    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        node = next(h for h in hosts if h.spec.name == "n1")
        self.wait(lambda: (node.run / "api.ok").exists(), hosts, "dockerd answers")
        step("api")
        self.wait(lambda: (node.run / "images.ok").exists(), hosts, "images are loaded")
        step("images")

    def access(self, hosts: list[Host]) -> Access:
        node = next(h for h in hosts if h.spec.name == "n1")
        return Access(coe="docker", url=f"unix://{node.root}/run/docker.sock", options={"address": plan.address("n1")})

    def timeouts(self) -> Mapping[str, str]:
        return {}

    def components(self) -> Mapping[str, str]:
        return {"dockerd": "20.10.24 (Debian)", "containerd": "1.6 (Debian)", "runc": "1.1 (Debian)"}

    def notes(self) -> tuple[str, ...]:
        return ("one engine on one host: the bay's other hosts are idle, and the driver does what an orchestrator would",)
