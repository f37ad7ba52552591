"""Clusters that run already: somebody else's, so nothing that isn't coebench's is ever touched."""

from .provisioner import ExistingProvisioner

__all__ = ["ExistingProvisioner"]
