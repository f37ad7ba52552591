"""No COE: processes that are started on a bay's hosts directly. The baseline that says what an orchestrator costs."""

from .driver import BareDriver

__all__ = ["BareDriver"]
