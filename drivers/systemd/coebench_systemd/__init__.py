"""systemd for coebench: units on hosts, no orchestrator."""

from .driver import SystemdDriver

__all__ = ["SystemdDriver"]
