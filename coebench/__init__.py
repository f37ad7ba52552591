"""coebench: the same workload on Kubernetes, Docker Swarm and Mesos, measured the same way, in one table.

What the command line does is callable from here: see `coebench.api`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "BadInput",
    "CoebenchError",
    "__version__",
    "check_driver",
    "clean",
    "compare",
    "derive",
    "diff",
    "drivers",
    "export",
    "gates",
    "history",
    "metrics",
    "plan",
    "read",
    "render",
    "rights",
    "value",
    "verify",
]

if TYPE_CHECKING:
    from .api import (
        check_driver,
        clean,
        compare,
        derive,
        diff,
        drivers,
        export,
        gates,
        history,
        metrics,
        plan,
        read,
        render,
        rights,
        value,
        verify,
    )
    from .contract import BadInput, CoebenchError


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: `coebench --help` and a driver's `coebench.contract` do not wait for it."""
    if name in ("BadInput", "CoebenchError"):
        from . import contract

        return getattr(contract, name)
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'coebench' has no attribute '{name}'")
