"""Docker Swarm 20.10 in the lab: one dockerd a host, the control host the manager, drained of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ... import machine
from ...contract import Access, BaySpec, Role
from .. import pki, plan
from ..host import Host
from .base import Engine

TLS_PORT = 2376

# Stock: swarm's defaults. The harmonised heartbeat makes a dead node known after about 10 s, as on every engine:
# swarmkit gives a node up after three beats.
TIMEOUTS = {
    "stock": {"swarm --dispatcher-heartbeat": "5s"},
    "harmonised": {"swarm --dispatcher-heartbeat": "3s"},
}


class Swarm(Engine):
    title = "Docker Swarm"
    version = "20.10.24"
    agent = "dockerd"
    control = ("dockerd",)

    def __init__(self, spec: BaySpec, layout: plan.Layout) -> None:
        super().__init__(spec, layout)
        self.secrets: Mapping[str, str] = {}

    def prepare(self, secrets: dict[str, str]) -> None:
        """With an authority given, every daemon listens on TCP too, for whoever that authority signed for."""
        self.secrets = secrets
        if "ca.crt" in secrets:
            ca = pki.Authority(secrets["ca.crt"], secrets["ca.key"])
            for name, _ in self.layout.hosts:
                if f"{name}.crt" not in secrets:
                    names = (plan.address(name), name, "127.0.0.1", "localhost")
                    secrets[f"{name}.crt"], secrets[f"{name}.key"] = ca.sign(name, names=names)

    def files(self, host: str, role: Role) -> Mapping[str, str]:
        if "ca.crt" not in self.secrets:
            return {}
        parts = {"ca.pem": "ca.crt", "cert.pem": f"{host}.crt", "key.pem": f"{host}.key"}
        return {f"/etc/docker/tls/{file}": self.secrets[name] for file, name in parts.items()}

    def payload(self, host: str, role: Role) -> tuple[str, ...]:
        return ("/opt/coebench/guest/swarm.sh", role.value)

    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        manager = hosts[0]
        self.wait(lambda: (manager.run / "api.ok").exists(), hosts, "the manager's dockerd answers")
        if manager in new:
            address = plan.address(manager.spec.name)
            beat = TIMEOUTS[self.spec.timeouts]["swarm --dispatcher-heartbeat"]
            command = ["docker", "swarm", "init", "--advertise-addr", address, "--listen-addr", f"{address}:2377"]
            command += ["--dispatcher-heartbeat", beat, "--availability", "drain"]
            command += ["--default-addr-pool", "10.80.0.0/12", "--default-addr-pool-mask-length", "22"]
            manager.exec(command)
        step("api")
        workers = [h for h in new if h is not manager]
        token = manager.exec(["docker", "swarm", "join-token", "-q", "worker"]).strip()

        def join(host: Host) -> None:
            self.wait(lambda: (host.run / "api.ok").exists(), hosts, f"dockerd of {host.spec.name} answers")
            state = host.exec(["docker", "info", "--format", "{{.Swarm.LocalNodeState}}"]).strip()
            if state != "inactive":
                return  # a node that was started again is a member still
            address = plan.address(host.spec.name)
            command = ["docker", "swarm", "join", "--token", token, "--advertise-addr", address]
            host.exec([*command, "--listen-addr", f"{address}:2377", f"{plan.address(manager.spec.name)}:2377"])

        with ThreadPoolExecutor(max_workers=max(1, len(workers))) as pool:
            list(pool.map(join, workers))
        names = {h.spec.name for h in workers}

        def ready() -> bool:
            out = manager.exec(["docker", "node", "ls", "--format", "{{.Hostname}} {{.Status}}"])
            return names <= {line.split()[0] for line in out.splitlines() if line.endswith(" Ready")}

        self.wait(ready, hosts, "all nodes become Ready")
        step("nodes")
        self.wait(
            lambda: all((h.run / "images.ok").exists() for h in new),
            hosts,
            "images are loaded on all nodes",
        )
        step("images")

    def leave(self, hosts: list[Host], gone: list[Host]) -> None:
        for h in gone:
            hosts[0].exec(["docker", "node", "rm", "--force", h.spec.name], check=False)

    def pull(self, hosts: list[Host], registry: bool) -> str:
        return f"dockerd --insecure-registry={plan.registry()}: HTTPS is tried first"  # as in guest/swarm.sh, always

    def access(self, hosts: list[Host]) -> Access:
        def socket(h: Host) -> str:
            if "ca.crt" in self.secrets:
                return f"tcp://{plan.address(h.spec.name)}:{TLS_PORT}"
            return f"unix://{h.root}/run/docker.sock"

        nodes = {h.spec.name: socket(h) for h in hosts if h.spec.role is Role.NODE and h.alive}
        has = "yes" if machine.ip_vs() else "this kernel has none, neither loaded nor as a module"
        return Access(coe="swarm", url=socket(hosts[0]), nodes=nodes, options={"ip_vs": has})

    def timeouts(self) -> Mapping[str, str]:
        return TIMEOUTS[self.spec.timeouts]

    def components(self) -> Mapping[str, str]:
        return {"dockerd": "20.10.24 (Debian)", "containerd": "1.6 (Debian)", "runc": "1.1 (Debian)"}

    def notes(self) -> tuple[str, ...]:
        return ("the manager runs no instances (availability drain), as the control hosts of the others",)
