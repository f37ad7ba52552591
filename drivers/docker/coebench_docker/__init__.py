"""Plain Docker for coebench: one engine, no orchestrator."""

from .driver import DockerDriver

__all__ = ["DockerDriver"]
