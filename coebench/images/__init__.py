"""The workloads' images for registries: which there are, how they get there, and copies of them that no node has."""

from .archive import Image, read
from .fresh import fresh
from .registry import Registry, Where

__all__ = ["Image", "Registry", "Where", "fresh", "read"]
