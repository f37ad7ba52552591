"""No engine at all: hosts with a program each that starts processes when told to. What everything else is compared with."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping

from ...contract import Access, Role, Unsupported
from .. import plan
from ..host import Host
from .base import Engine

PORT = 7700


class Bare(Engine):
    title = "no COE"
    version = "bare processes"
    agent = "starter"
    control = ()

    def files(self, host: str, role: Role) -> Mapping[str, str]:
        return {}

    def payload(self, host: str, role: Role) -> tuple[str, ...]:
        if role is Role.CONTROL:
            return ("/opt/coebench/guest/bare-control.sh",)
        return ("/opt/coebench/guest/bare.sh", host, plan.address(host))

    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        workers = [h for h in new if h.spec.role is Role.NODE]
        self.wait(lambda: all((h.run / "images.ok").exists() for h in workers), hosts, "images are unpacked on all nodes")
        step("images")
        self.wait(
            lambda: all(_answers(h.spec.address, self.patience(1)) for h in workers), hosts, "the starter answers on all nodes"
        )
        step("nodes")

    def pull(self, hosts: list[Host], registry: bool) -> str:
        raise Unsupported("pulling from a registry", "without a COE nothing pulls images: they are unpacked beforehand")

    def access(self, hosts: list[Host]) -> Access:
        nodes = {h.spec.name: f"http://{h.spec.address}:{PORT}" for h in hosts if h.spec.role is Role.NODE}
        return Access(coe="bare", nodes=nodes)

    def timeouts(self) -> Mapping[str, str]:
        return {}

    def notes(self) -> tuple[str, ...]:
        return (
            "the baseline, not a competitor: the same processes on the same hosts without a COE; nobody places them by load, "
            "checks or replaces them, they are not isolated and not limited, and they use the hosts' own network",
        )


def _answers(address: str, timeout: float) -> bool:
    connection = http.client.HTTPConnection(address, PORT, timeout=timeout)
    try:
        connection.request("GET", "/processes")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
