"""A bay: one cluster of one COE, and how to get at it."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

import msgspec

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?")


def is_bay_name(text: str) -> bool:
    """Whether it may name a bay: 1 to 100 letters, digits, `.`, `_` and `-`, a letter or digit first and last. It becomes the
    name of folders, cgroups and clusters, so nothing else is ever taken for one."""
    return _NAME.fullmatch(text) is not None and ".." not in text


class Role(enum.StrEnum):
    """What a host is for."""

    CONTROL = "control"
    NODE = "node"


class NodeFault(enum.StrEnum):
    """How a provisioner can make a host fail. A provisioner knows some of these and refuses the others."""

    CRASH = "crash"  # power off: the cable goes first, then everything on it ends at once
    CUT = "cut"  # off the network, everything on it goes on; can be healed
    AGENT = "agent"  # the engine's agent alone ends (kubelet, dockerd, mesos-agent); instances go on
    CONTROL = "control"  # of a control host: all of the engine's processes end; the host stays


class BaySpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a provisioner is asked for. Memory in bytes; `cpu` is a host's limit in cores, 0 for none (equal weights)."""

    coe: str
    nodes: int = 3
    controls: int = 1
    cpu: float = 0.0
    memory: int = 3 << 30
    timeouts: str = "stock"  # "stock": the engine's own; "harmonised": failure detection set alike for all
    options: Mapping[str, str] = {}
    step_timeout: float = 120.0  # seconds that each step of the bay's making may take


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of a bay."""

    name: str
    role: Role
    address: str


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """A bay's own credentials, in the form that the COE's clients take.

    `url`: the engine's API. `kubeconfig`: a kubeconfig's text. `ca`, `cert`, `key`: PEM text for TLS. `nodes`: for COEs
    whose nodes have an API of their own (Docker), node name → URL, where it can be reached. `options`: of the driver.
    """

    coe: str
    url: str = ""
    kubeconfig: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    nodes: Mapping[str, str] = {}
    options: Mapping[str, str] = {}


class Bay(msgspec.Struct, frozen=True, kw_only=True):
    """A bay as its provisioner describes it.

    `timeouts` are the failure-detection and retry settings in force, by the engine's own names, as a table prints them.
    `notes` name everything that is not the upstream's or not as usual.
    """

    name: str
    spec: BaySpec
    provisioner: str
    hosts: tuple[Host, ...]
    engine: str  # "Kubernetes"
    version: str
    components: Mapping[str, str] = {}  # component → version
    timeouts: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()
    state: str = "ready"

    @property
    def nodes(self) -> tuple[Host, ...]:
        """The hosts that run instances."""
        return tuple(h for h in self.hosts if h.role is Role.NODE)
