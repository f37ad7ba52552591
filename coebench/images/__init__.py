"""The workloads' images for clusters that are not the lab's: which there are, and how they get into a registry."""

from .archive import Image, read
from .registry import Registry, Where

__all__ = ["Image", "Registry", "Where", "read"]
