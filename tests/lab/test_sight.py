"""What could keep the prober from seeing a change when it happens."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coebench import plugins
from coebench.contract import BaySpec
from coebench.lab import bay as bays
from coebench.lab import cgroups, install
from coebench.load.prober import BayProber

pytestmark = pytest.mark.lab


def quiet(*_: object, **__: object) -> None: ...


@pytest.mark.timeout(120)
def test_the_prober_is_not_held_up_by_its_own_kernel(lab_installed: object) -> None:
    """Swarm gives an address before anything has it; a kernel that has asked for its owner in vain waits a second."""
    spec = BaySpec(coe="swarm", nodes=1)
    bay = bays.LabBay.create("sight-swarm", spec, install.layers("swarm", quiet), install.image_folder("swarm", quiet), quiet)
    try:
        with bay.network():
            driver = plugins.load("drivers", "swarm", "COE").connect(bay.access())
            prober = BayProber(driver, plugins.load("workloads", "loadgen", "workload"), executes=True)
            try:
                prober.start(60)
                agents = [p for p in cgroups.pids(bay.name) if Path(f"/proc/{p}/comm").read_text() == "coeload\n"]
                assert len(agents) == 1
                look = ["nsenter", "-t", str(agents[0]), "-n", "sh", "-c", "cat /proc/sys/net/ipv4/neigh/eth*/retrans_time_ms"]
                waits = subprocess.run(look, capture_output=True, text=True, check=True).stdout.split()
                assert waits and {int(w) for w in waits} == {20}
            finally:
                prober.close()
                driver.close()
    finally:
        bay.delete()
