"""Docker Swarm 20.10 in the lab: one dockerd a host, the control host the manager, drained of tasks."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from ...contract import Access, BayFailed, BaySpec, Role
from .. import modules, pki, plan
from ..host import Host
from .base import Engine

TLS_PORT = 2376

# Stock: swarm's defaults. The harmonised heartbeat makes a dead node known after about 10 s, as on every engine:
# swarmkit gives a node up after three beats. A task that has ended is replaced after a delay, which its service may say: nothing
# in stock, so that it is swarmkit's own.
RESTART = "service --restart-delay"
TIMEOUTS = {
    "stock": {"swarm --dispatcher-heartbeat": "5s", RESTART: "5s"},
    "harmonised": {"swarm --dispatcher-heartbeat": "3s", RESTART: "0s"},
}


class _Socket(http.client.HTTPConnection):
    """A connection to a host's dockerd, over its socket."""

    def __init__(self, host: Host, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = f"{host.root}/run/docker.sock"

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(host: Host, method: str, path: str, body: Any = None, timeout: float = 30) -> Any:
    """What a host's dockerd answers; a process of the docker command costs more CPU than most requests. Raises BayFailed."""
    connection = _Socket(host, timeout)
    try:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as e:
        raise BayFailed(f"{host.spec.name}: dockerd does not answer {method} {path}", str(e)) from None
    finally:
        connection.close()
    if answer.status >= 400:
        raise BayFailed(f"{host.spec.name}: dockerd refuses {method} {path}", content[-2000:])
    return json.loads(content) if content else None


class Swarm(Engine):
    title = "Docker Swarm"
    version = "20.10.24"
    agent = "dockerd"
    control = ("dockerd",)
    modules: ClassVar[Mapping[str, str]] = {
        "br_netfilter": "no ingress network is made, so published ports are silent",
        "ip_vs": "virtual IPs and the routing mesh are silent, so endpoints routing is used",
    }

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
        return ("/opt/coebench/guest/swarm.sh", role.value, *(["balancers"] if modules.there("ip_vs") else []))

    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        manager = hosts[0]
        self.wait(lambda: (manager.run / "api.ok").exists(), hosts, "the manager's dockerd answers")
        if manager in new:
            address = plan.address(manager.spec.name)
            beat = TIMEOUTS[self.spec.timeouts]["swarm --dispatcher-heartbeat"]
            wanted = {"AdvertiseAddr": address, "ListenAddr": f"{address}:2377", "Availability": "drain"}
            networks = {"DefaultAddrPool": ["10.80.0.0/12"], "SubnetSize": 22}
            heartbeat = {"Dispatcher": {"HeartbeatPeriod": int(beat.rstrip("s")) * 10**9}}
            self._ask(manager, "POST", "/swarm/init", {**wanted, **networks, "Spec": heartbeat})
        step("api")
        workers = [h for h in new if h is not manager]
        token = self._ask(manager, "GET", "/swarm")["JoinTokens"]["Worker"]

        def join(host: Host) -> None:
            self.wait(lambda: (host.run / "api.ok").exists(), hosts, f"dockerd of {host.spec.name} answers")
            if self._ask(host, "GET", "/info")["Swarm"]["LocalNodeState"] != "inactive":
                return  # a node that was started again is a member still
            address = plan.address(host.spec.name)
            wanted = {"AdvertiseAddr": address, "ListenAddr": f"{address}:2377", "JoinToken": token}
            self._ask(host, "POST", "/swarm/join", {**wanted, "RemoteAddrs": [f"{plan.address(manager.spec.name)}:2377"]})

        with ThreadPoolExecutor(max_workers=max(1, len(workers))) as pool:
            list(pool.map(join, workers))
        names = {h.spec.name for h in workers}

        def ready() -> bool:
            nodes = self._ask(manager, "GET", "/nodes")
            return names <= {n["Description"]["Hostname"] for n in nodes if n["Status"]["State"] == "ready"}

        self.wait(ready, hosts, "all nodes become Ready")
        step("nodes")
        self.wait(
            lambda: all((h.run / "images.ok").exists() for h in new),
            hosts,
            "images are loaded on all nodes",
        )
        step("images")

    def _ask(self, host: Host, method: str, path: str, body: Any = None) -> Any:
        return ask(host, method, path, body, self.patience(30))

    def leave(self, hosts: list[Host], gone: list[Host]) -> None:
        for h in gone:
            with contextlib.suppress(BayFailed):
                self._ask(hosts[0], "DELETE", f"/nodes/{h.spec.name}?force=true")

    def pull(self, hosts: list[Host], registry: bool) -> str:
        return f"dockerd --insecure-registry={plan.registry()}: HTTPS is tried first"  # as in guest/swarm.sh, always

    def access(self, hosts: list[Host]) -> Access:
        def socket(h: Host) -> str:
            if "ca.crt" in self.secrets:
                return f"tcp://{plan.address(h.spec.name)}:{TLS_PORT}"
            return f"unix://{h.root}/run/docker.sock"

        nodes = {h.spec.name: socket(h) for h in hosts if h.spec.role is Role.NODE and h.alive}
        return Access(coe="swarm", url=socket(hosts[0]), nodes=nodes, options=self.options_for_driver())

    def options_for_driver(self) -> dict[str, str]:
        """What only the lab knows, or what is the driver's to ask for: restart policies are the services'."""
        has = "yes" if modules.there("ip_vs") else "this kernel has none, neither loaded nor as a module that could be"
        options = {"ip_vs": has}
        if self.spec.timeouts != "stock":
            options["restart_delay"] = self.timeouts()[RESTART].rstrip("s")
        return options

    def timeouts(self) -> Mapping[str, str]:
        return TIMEOUTS[self.spec.timeouts]

    def components(self) -> Mapping[str, str]:
        return {"dockerd": "20.10.24 (Debian)", "containerd": "1.6 (Debian)", "runc": "1.1 (Debian)"}

    def notes(self) -> tuple[str, ...]:
        drained = "the manager runs no instances (availability drain), as the control hosts of the others"
        if not modules.there("ip_vs"):
            return (drained,)
        return (drained, "IPv4 forwarding is turned on in Docker's balancers, as dockerd does on a machine of its own")
