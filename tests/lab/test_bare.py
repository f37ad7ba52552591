"""The baseline: the same processes on the same hosts, without a COE."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from trials import Bench, bench

from coebench.contract import BaySpec, Capability, Conflict, MissingService, Strategy, Unsupported

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


class NoJournal:
    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


def unobserved(name: str, **data: object) -> None: ...


@pytest.fixture(scope="module")
def bare(lab_installed: object) -> Iterator[Bench]:
    from coebench.lab import lock
    from coebench.provision.lab import LabProvisioner

    with lock.take("tests of bare"):
        provisioner = LabProvisioner()
        provisioner.delete("tests-bare", NoJournal(), unobserved)
        try:
            made = provisioner.create("tests-bare", BaySpec(coe="bare"), NoJournal(), unobserved)
            with provisioner.network(made), bench(provisioner, made) as it:
                yield it
        finally:
            provisioner.delete("tests-bare", NoJournal(), unobserved)


def test_deploy(bare: Bench) -> None:
    _, samples = bare.run("deploy", instances=[1, 6])
    assert 0 < samples["first_answer"][6].value <= samples["all_answer"][6].value < 30
    assert samples["silent"][6].value > 0
    assert bare.driver.info().baseline


def test_a_service_of_processes(bare: Bench) -> None:
    spec = bare.workload.service("plain", 3, "v1")
    with bare.driver.watch("plain") as watch:
        bare.driver.deploy(spec)
        ready: set[str] = set()
        while len(ready) < 3:
            change = watch.next(10)
            assert change is not None
            if change.instance.state.value == "ready":
                ready.add(change.instance.id)
        assert {i.node for i in bare.driver.instances("plain")} == {"n1", "n2", "n3"}
        with pytest.raises(Conflict):
            bare.driver.deploy(spec)
        first = bare.driver.instances("plain")[0]
        bare.driver.kill(first)
        while not (change := watch.next(10)) or change.instance.id != first.id or change.instance.live:
            assert change is not None
    assert sum(i.live for i in bare.driver.instances("plain")) == 2  # nobody replaces it
    bare.driver.scale("plain", 4)
    assert sum(i.live for i in bare.driver.instances("plain")) == 4
    with pytest.raises(Unsupported, match="nobody"):
        bare.driver.update(spec, Strategy())
    bare.driver.remove("plain")
    with pytest.raises(MissingService):
        bare.driver.scale("plain", 1)


def test_what_takes_an_orchestrator_is_refused(bare: Bench) -> None:
    lacking = {c for c, s in bare.driver.capabilities().items() if not s.ok}
    assert {Capability.HEALTH, Capability.UPDATE, Capability.DRAIN, Capability.NATIVE} <= lacking
    assert set(bare.driver.capabilities()) == set(Capability)
    assert all(s.reason for s in bare.driver.capabilities().values() if not s.ok)
