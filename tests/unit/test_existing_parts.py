"""The provisioner `existing` without a cluster: what it writes down, and what it refuses."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coebench_swarm import driver as swarm
from coebench_swarm import tasks
from coebench_swarm.driver import SwarmDriver

from coebench.contract import Access, BadInput, Bay, BaySpec, EngineError, Host, NodeFault, Role, ServiceSpec, Unsupported
from coebench.provision.existing import ExistingProvisioner, kubeconfig, options
from coebench.runner.bays import TrialBays

sys.path.insert(0, str(Path(__file__).parents[2] / "drivers/docker"))  # a package of its own, that need not be installed

from coebench_docker import certificates

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
        monkeypatch.setattr("coebench.provision.existing.provisioner.AGAIN", 0.0)
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


def test_one_refused_answer_leaves_nothing_behind(existing: ExistingProvisioner, monkeypatch: pytest.MonkeyPatch) -> None:
    made = existing.create("b", SPEC, NoJournal(), _observe)
    services, refusals = Played.services, [EngineError("listing services", "connection reset")]

    def refusing(driver: Played) -> tuple[str, ...]:
        if refusals:
            raise refusals.pop()
        return services(driver)

    monkeypatch.setattr(Played, "services", refusing)
    existing.delete(made, NoJournal(), _observe)
    assert not refusals and not existing.leftovers()


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


def test_kubeconfigs_are_merged_as_kubectl_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing or empty is passed over, the first of two things of one name is taken, paths are of their own file."""

    def write(name: str, current: str = "", **things: Any) -> str:
        file = tmp_path / name / "config"
        file.parent.mkdir()
        kinds = {kind: [{"name": n, kind[:-1]: fields} for n, fields in named.items()] for kind, named in things.items()}
        file.write_text(json.dumps({"kind": "Config", "current-context": current, **kinds}))
        return str(file)

    empty = tmp_path / "empty"
    empty.touch()
    one = write("one", clusters={"c": {"server": "https://one", "certificate-authority": "ca.pem"}}, contexts={})
    two = write(
        "two",
        "b",
        clusters={"c": {"server": "https://two"}},
        contexts={"a": {"cluster": "c", "user": "u"}, "b": {"cluster": "c", "user": "none"}},
    )
    three = write("three", "a", users={"u": {"tokenFile": "token"}}, contexts={"a": {"cluster": "wrong"}})
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "missing"), str(empty), one, two, three]))
    text = json.loads(kubeconfig.read("", "a"))
    assert text["clusters"] == [
        {"name": "c", "cluster": {"server": "https://one", "certificate-authority": str(tmp_path / "one/ca.pem")}}
    ]
    assert text["users"] == [{"name": "u", "user": {"tokenFile": str(tmp_path / "three/token")}}]
    assert text["current-context"] == "a"
    with pytest.raises(BadInput, match="context 'b' names user 'none'"):  # the first current context is meant
        kubeconfig.read("", "")
    with pytest.raises(BadInput, match="no context 'c'; it has: a, b"):
        kubeconfig.read("", "c")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "missing"), str(empty)]))
    with pytest.raises(BadInput, match="no kubeconfig there has a context"):
        kubeconfig.read("", "")
    with pytest.raises(BadInput, match="can't read the kubeconfig"):
        kubeconfig.read(str(tmp_path / "missing"), "")
    with pytest.raises(BadInput, match="is no kubeconfig"):
        kubeconfig.read(str(empty), "")


HUB = "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    "url, images, image, user",
    [
        ("https://127.0.0.1:9", "r.example:5000/b", "r.example:5000/b/coebench-http:v1", "own"),
        ("unix:///nowhere", "r.example:5000/b/", "r.example:5000/b/coebench-http:v1", "own"),
        ("https://127.0.0.1:9", "docker.io/me", "docker.io/me/coebench-http:v1", "hub"),
        ("https://127.0.0.1:9", "me", "me/coebench-http:v1", "hub"),
        ("https://127.0.0.1:9", "r.example:5000/b", "coebench-http:v1", ""),  # of another registry
        ("https://127.0.0.1:9", "other.example", "other.example/coebench-http:v1", ""),  # which nobody logged in to
        ("https://127.0.0.1:9", "", "r.example:5000/b/coebench-http:v1", ""),  # not asked for
        ("https://127.0.0.1:9", "", "coebench-http:v1", ""),
        ("tcp://127.0.0.1:9", "r.example:5000/b", "r.example:5000/b/coebench-http:v1", ""),  # in the clear
        ("http://127.0.0.1:9", "docker.io/me", "docker.io/me/coebench-http:v1", ""),
    ],
)
def test_what_docker_login_left_goes_only_with_images_of_that_registry(
    url: str, images: str, image: str, user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nodes can pull from a registry that wants a login, and nobody else gets it."""
    auths = {
        name: {"auth": base64.b64encode(f"{who}:word".encode()).decode()}
        for name, who in (("r.example:5000", "own"), (HUB, "hub"))
    }
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(swarm.Client, "_retrieve_server_version", lambda self: "1.41")
    monkeypatch.setattr(swarm.Client, "info", lambda self: {"Swarm": {"ControlAvailable": True}})
    monkeypatch.setattr(swarm.Client, "networks", lambda self, **_: [{"Name": "coebench"}])
    sent: list[Any] = []
    monkeypatch.setattr(swarm.Client, "_post_json", lambda self, url, data, **more: sent.append(more.get("headers") or {}))
    monkeypatch.setattr(swarm.Client, "_result", lambda *_: {})
    bay = SwarmDriver.connect(Access(coe="swarm", url=url, options={"images": images} if images else {}))
    bay.deploy(ServiceSpec(name="x", image=image, instances=1))
    bay.close()
    header = json.loads(base64.urlsafe_b64decode(sent[0].get("X-Registry-Auth", "e30=")))
    assert header.get("username", "") == user


def test_plain_docker_knows_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {HUB: {"auth": base64.b64encode(b"user:word").decode()}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    api = certificates.Client(base_url="tcp://127.0.0.1:9", version="1.41")
    sent: list[Any] = []
    monkeypatch.setattr(api, "_post", lambda url, **more: sent.append(more["headers"]))
    monkeypatch.setattr(api, "_raise_for_status", lambda *_: None)
    monkeypatch.setattr(api, "_result", lambda *_: {})
    api.pull("coebench-http", tag="v1")
    assert sent == [{}]


@pytest.mark.parametrize(
    "status, manager, address",
    [
        ("10.0.0.2", "10.0.0.9:2377", "10.0.0.2"),
        ("0.0.0.0", "10.0.0.9:2377", "10.0.0.9"),
        ("", "10.0.0.9:2377", "10.0.0.9"),
        ("127.0.0.1", "10.0.0.9:2377", "10.0.0.9"),
        ("::", "[fd00::9]:2377", "fd00::9"),
        ("::1", "[fd00::9]:2377", "fd00::9"),
        ("::ffff:0.0.0.0", "10.0.0.9:2377", "10.0.0.9"),
        ("0.0.0.0", "manager.example:2377", "manager.example"),
        ("0.0.0.0", "0.0.0.0:2377", ""),
        ("0.0.0.0", "", ""),
    ],
)
def test_a_leaders_address_is_one_that_others_reach(status: str, manager: str, address: str) -> None:
    node = {"ID": "n", "Description": {}, "Spec": {"Availability": "active"}, "Status": {"Addr": status, "State": "ready"}}
    node |= {"ManagerStatus": {"Addr": manager}} if manager else {}
    assert tasks.node(node).address == address
    ports = {"Ports": [{"PublishedPort": 81}]}
    task = {"ID": "t", "NodeID": "n", "CreatedAt": "2026-01-01T00:00:00Z", "Status": {"State": "running", "PortStatus": ports}}
    assert tasks.instance(task, "x", {"n": node}).published == ((address, 81) if address else None)
