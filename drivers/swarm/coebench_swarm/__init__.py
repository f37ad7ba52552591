"""Docker Swarm mode, through the official Python client, from a manager's API."""

from .driver import SwarmDriver

__all__ = ["SwarmDriver"]
