"""Bays from OpenStack Magnum: any cloud's, or the lab's own."""

from .provisioner import MagnumProvisioner

__all__ = ["MagnumProvisioner"]
