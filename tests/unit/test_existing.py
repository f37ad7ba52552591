"""The provisioner `existing` without a cluster: what it writes down, and what it refuses."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coebench.contract import BadInput, Bay, BaySpec, EngineError, Host, NodeFault, Role, Unsupported
from coebench.provision.existing import ExistingProvisioner, options
from coebench.runner.bays import TrialBays

SPEC = BaySpec(coe="mesos", options={"url": "http://127.0.0.1:9"})


class Played:
    """A driver that can be out of reach, and whose services can refuse to go."""

    title = "Played"
    access_by = "url"
    reachable, removable = True, True

    @classmethod
    def connect(cls, access: Any) -> Played:
        if not cls.reachable:
            raise EngineError("connecting", "nobody is there")
        return cls()

    def services(self) -> tuple[str, ...]:
        if not self.removable:
            raise EngineError("listing services", "refused")
        return ()

    def info(self) -> Any:
        return SimpleNamespace(engine="Played", version="1", components={})

    def nodes(self) -> tuple[Any, ...]:
        return (SimpleNamespace(name="n1", address="10.0.0.1"),)

    def close(self) -> None: ...


class NoJournal:
    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


@pytest.fixture
def existing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExistingProvisioner:
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path))
    monkeypatch.setattr("coebench.provision.existing.provisioner.plugins.load", lambda *_: Played)
    monkeypatch.setattr(Played, "reachable", True)
    monkeypatch.setattr(Played, "removable", True)
    return ExistingProvisioner()


def _observe(*_: Any, **__: Any) -> None: ...


def _bay(spec: BaySpec) -> Bay:
    host = Host(name="n1", role=Role.NODE, address="10.0.0.1")
    return Bay(name="b", spec=spec, provisioner="existing", hosts=(host,), engine="Played", version="1")


@pytest.mark.parametrize("before", [False, True])
def test_what_could_not_be_reached_is_written_down_only_if_it_was_before(
    existing: ExistingProvisioner, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before:  # an earlier run's clean-up failed
        first = ExistingProvisioner()
        first.check(SPEC)
        made = first.create("a", SPEC, NoJournal(), _observe)
        monkeypatch.setattr(Played, "removable", False)
        for bay in (made, made, "a"):  # asked again, it has no connection and must not take it for empty
            try:
                first.delete(bay, NoJournal(), _observe)
            except EngineError:
                pass
        assert len(first.leftovers()) == 1
        monkeypatch.setattr(Played, "removable", True)
    monkeypatch.setattr(Played, "reachable", False)
    existing.check(SPEC)
    with pytest.raises(EngineError):
        existing.create("b", SPEC, NoJournal(), _observe)
    existing.delete("b", NoJournal(), _observe)
    assert len(existing.leftovers()) == int(before)
    monkeypatch.setattr(Played, "reachable", True)
    assert len(existing.clean()) == int(before) and not existing.leftovers()


def test_a_bay_that_was_emptied_is_written_down_no_more(existing: ExistingProvisioner) -> None:
    made = existing.create("b", SPEC, NoJournal(), _observe)
    assert existing.leftovers()
    existing.delete(made, NoJournal(), _observe)
    existing.create("c", SPEC, NoJournal(), _observe)
    existing.delete("c", NoJournal(), _observe)
    assert not existing.leftovers()


@pytest.mark.parametrize("given", ["fail-node-cmd", "heal-node-cmd"])
def test_a_node_is_not_made_to_fail_without_a_way_back(given: str) -> None:
    with pytest.raises(BadInput, match="go together"):
        options.check("k8s", {given: "true"})


def test_a_command_is_for_whole_nodes_and_its_end_is_told(existing: ExistingProvisioner) -> None:
    bay = _bay(BaySpec(coe="k8s", options={"fail-node-cmd": "sh -c 'echo no >&2; exit 3'", "heal-node-cmd": "true"}))
    for fault in (NodeFault.AGENT, NodeFault.CONTROL):
        with pytest.raises(Unsupported, match="crash and cut"):
            existing.fail_node(bay, "n1", fault, _observe)
    with pytest.raises(EngineError, match=r"status 3.*no"):
        existing.fail_node(bay, "n1", NodeFault.CRASH, _observe)
    existing.heal_node(bay, "n1", _observe)
    with pytest.raises(Unsupported, match="left alone unless --fail-node-cmd"):
        existing.fail_node(_bay(SPEC), "n1", NodeFault.CUT, _observe)


@pytest.mark.parametrize("name, said", [("lab", "run coebench clean"), ("magnum", "run coebench clean --provisioner magnum")])
def test_a_clean_up_that_failed_says_whose_is_to_be_cleaned(name: str, said: str) -> None:
    def fail(*_: Any) -> None:
        raise EngineError("deleting", "refused")

    provisioner: Any = SimpleNamespace(name=name, delete=fail, create=lambda *_: None)
    bays = TrialBays(provisioner, "p", SPEC, NoJournal())
    told: list[str] = []
    bays.create("x", 1, _observe)
    bays.close(lambda _, text="", **__: told.append(text))
    assert len(told) == 1 and told[0].endswith(said)


def test_bays_that_are_left_are_deleted_at_once() -> None:
    together = threading.Barrier(3, timeout=10)
    provisioner: Any = SimpleNamespace(name="magnum", delete=lambda *_: together.wait(), create=lambda *_: None)
    bays = TrialBays(provisioner, "p", SPEC, NoJournal())
    for label in "abc":
        bays.create(label, 1, _observe)
    told: list[str] = []
    bays.close(lambda name, **_: told.append(name))
    assert told == [] and together.n_waiting == 0 and not together.broken
