"""What the Magnum driver and the keeper tell each other: one folder a cluster, with spec.json and state.json in it.

The driver's half is in `plugin/`, which can't import this: it runs with Magnum's Python. Both files are replaced whole.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

PREFIX = "magnum-"  # of the lab bays that are Magnum's
COES = {"kubernetes": "k8s", "swarm": "swarm", "swarm-mode": "swarm", "mesos": "mesos"}  # Magnum's word → ours


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What Magnum wants: `request` counts its wishes. `remove` names nodes, by name or address, that are to go first. `upgrades`
    counts the upgrades asked for, `batch` is how many nodes at a time."""

    request: int
    uuid: str
    name: str
    coe: str
    nodes: int
    masters: int
    remove: list[str] = []
    labels: dict[str, str] = {}
    tls: bool = True
    ca_cert: str = ""
    ca_key: str = ""
    delete: bool = False
    upgrades: int = 0
    batch: int = 1


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What there is, as of a request. `phase`: "ready", "failed" or "deleted"."""

    request: int
    phase: str
    reason: str = ""
    api: str = ""
    version: str = ""
    nodes: list[str] = []
    masters: list[str] = []


def bay_name(uuid: str) -> str:
    """The lab bay of a cluster."""
    return PREFIX + uuid[:8]


def read_spec(folder: Path) -> Spec | None:
    """None if it isn't there (yet, or any more)."""
    try:
        return msgspec.json.decode((folder / "spec.json").read_bytes(), type=Spec)
    except FileNotFoundError:
        return None


def write_state(folder: Path, state: State) -> None:
    """No error if the folder is gone: then nobody asks any more."""
    new = folder / "state.json.new"
    try:
        new.write_bytes(msgspec.json.encode(state))
        os.replace(new, folder / "state.json")
    except FileNotFoundError:
        pass
