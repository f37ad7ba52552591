"""A bay's registry comes after its line in the journal, and goes with the trial, or with the bay where the harness was killed."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coebench.contract import Bay, BaySpec, EngineError, Resource
from coebench.lab import cgroups, lock, paths, plan
from coebench.lab.bay import LabBay
from coebench.provision.lab import LabProvisioner
from coebench.runner.journal import FileJournal

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
NAME = "tests-registry"


def unobserved(name: str, **data: object) -> None: ...


class Witness(FileJournal):
    """Notes what there was of the registry when it was to be created, and when it was said to be gone."""

    def creating(self, resource: Resource) -> None:
        super().creating(resource)
        if resource.kind == "registry":
            self.before = cgroups.pids(f"{NAME}/{plan.REGISTRY}")

    def gone(self, resource: Resource) -> None:
        super().gone(resource)
        if resource.kind == "registry":
            self.after = cgroups.pids(f"{NAME}/{plan.REGISTRY}")


@pytest.fixture
def made(lab_installed: object, tmp_path: Path) -> Iterator[Any]:
    with lock.take("tests of the registry"):
        provisioner, journal = LabProvisioner(), Witness(tmp_path / "journal.jsonl")
        provisioner.delete(NAME, journal, unobserved)
        try:
            yield provisioner, journal, provisioner.create(NAME, BaySpec(coe="mesos", nodes=1), journal, unobserved)
        finally:
            provisioner.delete(NAME, journal, unobserved)


def test_a_registry_comes_and_goes(made: Any, tmp_path: Path) -> None:
    provisioner, journal, bay = made
    folder = paths.state() / "bays" / NAME / "hosts" / plan.REGISTRY
    agent = LabBay.open(NAME).host("n1")
    with provisioner.registry(bay, journal) as registry:
        assert journal.before == set()
        assert cgroups.pids(f"{NAME}/{plan.REGISTRY}")
        assert "MESOS_DOCKER_REGISTRY" in agent.exec(["cat", "/etc/mesos/env"])
        pushed = registry.push("coebench-http:v1", "cold:x", filler=0, seed=1)
        assert pushed.name == f"{plan.registry()}/cold:x"
        tags = agent.exec(["curl", "-s", f"http://{plan.registry()}/v2/cold/tags/list"])
        assert json.loads(tags) == {"name": "cold", "tags": ["x"]}
        with pytest.raises(EngineError, match="the bay has no such image"):
            registry.push("coebench-none:v1", "cold:y", filler=0, seed=1)
    assert journal.after == set()
    assert not folder.exists()
    assert "MESOS_DOCKER_REGISTRY" not in agent.exec(["cat", "/etc/mesos/env"])
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines if line["kind"] == "registry"] == ["creating", "gone"]
    provisioner.describe(bay)  # no engine has ended


def _enter(provisioner: LabProvisioner, bay: Bay, journal: FileJournal, there: Any) -> None:
    with provisioner.registry(bay, journal):
        there.set()
        signal.pause()


def test_the_registry_of_a_harness_that_was_killed_is_found_and_goes_with_its_bay(made: Any, tmp_path: Path) -> None:
    provisioner, journal, bay = made
    processes = multiprocessing.get_context("fork")
    there = processes.Event()
    harness = processes.Process(target=_enter, args=(provisioner, bay, journal, there))
    harness.start()
    assert there.wait(60)
    harness.kill()
    harness.join()
    assert cgroups.pids(f"{NAME}/{plan.REGISTRY}")
    assert '"kind":"registry"' in (tmp_path / "journal.jsonl").read_text()
    assert provisioner.leftovers() == (f"lab bay {NAME}",)
    provisioner.delete(bay.name, journal, unobserved)
    assert not cgroups.pids(NAME)
    assert provisioner.leftovers() == ()
