"""Names and addresses of a bay's hosts. Every bay has a network of its own, so all bays use the same ones."""

from __future__ import annotations

import msgspec

from ..contract import Role

BITS = 16
GATEWAY = "10.77.255.254"
SERVICES = "10.78.0.0/16"  # Kubernetes' virtual addresses
REGISTRY = "r1"  # the host of a bay's registry, where it has one
REGISTRY_PORT = 80  # by which every engine knows that it is plain HTTP
MOST_NODES = 250  # /24 networks of pods, one for each node


class Layout(msgspec.Struct, frozen=True):
    """Which hosts a bay has: controls c1…, nodes n1…; a node that was replaced leaves a gap."""

    controls: tuple[str, ...]
    nodes: tuple[str, ...]

    @classmethod
    def of(cls, controls: int, nodes: int) -> Layout:
        return cls(tuple(f"c{i + 1}" for i in range(controls)), tuple(f"n{i + 1}" for i in range(nodes)))

    @property
    def hosts(self) -> tuple[tuple[str, Role], ...]:
        return tuple((c, Role.CONTROL) for c in self.controls) + tuple((n, Role.NODE) for n in self.nodes)

    def more(self, count: int) -> Layout:
        """With `count` further nodes, numbered on."""
        last = max((number(n) for n in self.nodes), default=0)
        return Layout(self.controls, self.nodes + tuple(f"n{last + i + 1}" for i in range(count)))

    def without(self, gone: set[str]) -> Layout:
        return Layout(self.controls, tuple(n for n in self.nodes if n not in gone))


def number(host: str) -> int:
    """3 of "n3"."""
    return int(host[1:])


def address(host: str) -> str:
    """A host's address: controls in 10.77.0, nodes in 10.77.1, a registry in 10.77.2."""
    return f"10.77.{'cnr'.index(host[0])}.{number(host)}"


def registry() -> str:
    """HOST:PORT of a bay's registry, as it stands before images' names."""
    return f"{address(REGISTRY)}:{REGISTRY_PORT}"


def pods(node: str) -> str:
    """The network of a node's pods."""
    return f"10.79.{number(node)}.0/24"


def pod_routes(but: str = "") -> tuple[str, ...]:
    """Routes to the pods of all nodes that a bay could have, but one."""
    nodes = (f"n{i}" for i in range(1, MOST_NODES + 1))
    return tuple(f"{pods(n)} via {address(n)}" for n in nodes if n != but)
