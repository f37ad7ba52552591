"""Magnum 23, the newest: Kubernetes alone. What it lacks is refused before anything is made; what it has works."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from magnum_harness import WEIGHTLESS, NoJournal, coebench, nothing_is_left

from coebench.contract import BadInput, BaySpec
from coebench.lab.magnum import plane, releases
from coebench.provision.magnum import MagnumProvisioner

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
LACKS = "Magnum up to 13 (Xena) offers kubernetes, swarm and mesos; 14 to 17 kubernetes and swarm; 18 and later kubernetes alone"


@pytest.fixture(scope="module")
def newest(lab_installed: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MagnumProvisioner]:
    """It is up, in a lab of its own beside the other tests' Magnum."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OS_")}
    state = os.environ.get("COEBENCH_STATE")
    os.environ["COEBENCH_STATE"] = str(tmp_path_factory.mktemp("newest"))
    try:
        plane.up(print, releases.RELEASES["23"])
        yield MagnumProvisioner()
    finally:
        plane.down()
        del os.environ["COEBENCH_STATE"]
        if state is not None:
            os.environ["COEBENCH_STATE"] = state
        os.environ.update(kept)


def test_doctor_tells_what_it_offers_and_which_releases_offer_the_rest(newest: MagnumProvisioner) -> None:
    p = coebench("doctor", "--provisioner", "magnum")
    assert p.returncode == 0, p.stdout + p.stderr
    words = {line.split()[1]: line for line in p.stdout.splitlines()}
    assert words["k8s"].startswith("ok") and newest.cloud.most >= (1, 11)
    for coe in ("swarm", "mesos"):
        assert words[coe].startswith("note") and LACKS in words[coe]
    assert "Magnum 23.0.0, ready" in coebench("lab", "status").stdout


def test_what_it_does_not_offer_is_refused_before_anything_is_made(newest: MagnumProvisioner, tmp_path: Path) -> None:
    asked: list[object] = []

    class Journal(NoJournal):
        def creating(self, resource: object) -> None:
            asked.append(resource)

    for coe in ("swarm", "mesos"):
        with pytest.raises(BadInput, match=r"offers no .*18 and later kubernetes alone"):
            newest.begin("none", BaySpec(coe=coe, options=WEIGHTLESS), Journal(), lambda name, **data: None)
    assert asked == []
    for words in (("bay", "create", "swarm"), ("compare", "k8s", "mesos", "--provisioner", "magnum", "--runs", str(tmp_path))):
        p = coebench(*words)
        assert p.returncode == 2 and LACKS in p.stderr and "Traceback" not in p.stderr, p.stderr
    assert list(tmp_path.iterdir()) == []
    nothing_is_left(newest)


def test_a_life_of_a_kubernetes_bay(newest: MagnumProvisioner) -> None:
    for words, told in (
        (("create", "k8s", "--name", "mine", "--nodes", "2", "-o", "weightless=yes"), "2 nodes (n1, n2)"),
        (("resize", "mine", "3"), "3 nodes"),
    ):
        p = coebench("bay", *words)
        assert p.returncode == 0 and told in p.stdout, p.stdout + p.stderr
    assert json.loads(coebench("bay", "show", "mine", "--json").stdout)["status"] == "UPDATE_COMPLETE"
    assert coebench("bay", "delete", "mine").returncode == 0
    nothing_is_left(newest)
