"""A toy COE: instances are plain processes on loopback. What a driver's package looks like, whole."""

from .driver import ToyDriver
from .provisioner import ToyProvisioner

__all__ = ["ToyDriver", "ToyProvisioner"]
