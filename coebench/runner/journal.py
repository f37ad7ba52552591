"""The journal: what is about to be created, on disk before it is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..contract import Driver, Journal, Resource, ServiceSpec


class FileJournal:
    """Appends to journal.jsonl in the run folder, synced before `creating` returns."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def creating(self, resource: Resource) -> None:
        self._write("creating", resource)
        os.fsync(self._fd)

    def gone(self, resource: Resource) -> None:
        self._write("gone", resource)

    def _write(self, what: str, resource: Resource) -> None:
        os.write(self._fd, msgspec.json.encode({"what": what, **msgspec.to_builtins(resource)}) + b"\n")

    def close(self) -> None:
        os.close(self._fd)


class JournaledDriver:
    """A driver that writes services down before it asks for them. Everything else is the driver's own."""

    def __init__(self, driver: Driver, journal: Journal, provisioner: str, bay: str) -> None:
        self._driver = driver
        self._journal = journal
        self._where = {"provisioner": provisioner, "bay": bay}
        self.asked_for: set[str] = set()  # names of services that were deployed, removed ones too

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def deploy(self, spec: ServiceSpec) -> None:
        self._journal.creating(self._resource(spec.name))
        self.asked_for.add(spec.name)
        self._driver.deploy(spec)

    def remove(self, service: str) -> None:
        self._driver.remove(service)
        self._journal.gone(self._resource(service))

    def _resource(self, service: str) -> Resource:
        return Resource(kind="service", id=service, provisioner=self._where["provisioner"], where={"bay": self._where["bay"]})
