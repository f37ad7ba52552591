"""The engines that the lab can run: what each puts onto hosts, and how one sees that it is ready."""

from __future__ import annotations

from ... import plugins
from ...contract import BadInput
from .bare import Bare
from .base import Engine
from .kubernetes import Kubernetes
from .mesos import Mesos
from .swarm import Swarm

ENGINES: dict[str, type[Engine]] = {"k8s": Kubernetes, "swarm": Swarm, "mesos": Mesos, "bare": Bare}


def engine(coe: str) -> type[Engine]:
    """The engine of a COE: the lab's own, or one that a package gives (entry point group `coebench.engines`). Raises BadInput
    naming those that the lab has."""
    if coe in ENGINES:
        return ENGINES[coe]
    others = plugins.names("engines")
    if coe not in others:
        raise BadInput(f"the lab has no engine for '{coe}'; it has {', '.join([*ENGINES, *others])}")
    found = plugins.load("engines", coe, "engine")
    if not (isinstance(found, type) and issubclass(found, Engine)):
        raise BadInput(f"engine '{coe}' is no coebench.lab.engines.Engine")
    return found


__all__ = ["ENGINES", "Engine", "engine"]
