"""The engines that the lab can run: what each puts onto hosts, and how one sees that it is ready."""

from __future__ import annotations

from ...contract import BadInput
from .base import Engine
from .kubernetes import Kubernetes
from .mesos import Mesos
from .swarm import Swarm

ENGINES: dict[str, type[Engine]] = {"k8s": Kubernetes, "swarm": Swarm, "mesos": Mesos}


def engine(coe: str) -> type[Engine]:
    """The engine of a COE. Raises BadInput naming those that the lab has."""
    try:
        return ENGINES[coe]
    except KeyError:
        raise BadInput(f"the lab has no engine for '{coe}'; it has {', '.join(ENGINES)}") from None


__all__ = ["ENGINES", "Engine", "engine"]
