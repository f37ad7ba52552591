"""Mesos by Marathon's API, through PyPI's `marathon` client, and the Mesos master's own for its agents."""

from .driver import MesosDriver

__all__ = ["MesosDriver"]
