"""A registry of images in a bay's own network, for scenarios that have them pulled."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import msgspec

from .bay import Bay
from .journal import Journal


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """An image in a registry. `name`: in full, as an engine is to be told; `size`: bytes that a node fetches, packed;
    `unpacked`: bytes of its layers."""

    name: str
    size: int
    unpacked: int
    layers: int


class ImageRegistry(Protocol):
    """A registry that runs, and from which the bay's nodes pull what is asked for by its full name."""

    about: str  # what it is and how engines are told of it, in a few words for the record

    def push(self, image: str, name: str, *, filler: int, seed: int) -> Pushed:
        """Bring an image of the bay's (NAME:TAG) under another name (NAME:TAG), with layers that no node has, whatever ran
        there before: each is marked with `seed`. `filler`: bytes of a further layer, 0 for none; half of them can be
        packed to nothing. Raises EngineError."""

    def sent(self) -> Mapping[str, int]:
        """Bytes of images' layers and configurations that it has sent so far, by its own log: client's host → bytes."""


@runtime_checkable
class RegistryPort(Protocol):
    """What a provisioner has, besides `Provisioner`, if it can run a registry that its bays' engines pull from."""

    def registry(self, bay: Bay, journal: Journal) -> AbstractContextManager[ImageRegistry]:
        """While entered, the registry is there and engines pull from it; then the bay is as before. Written to the journal
        before it is started. Raises Unsupported where the bay's engine can't, BayFailed."""
