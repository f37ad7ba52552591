"""`coebench lab` and `clean` where something goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coebench.cli import lab as command
from coebench.contract import BayFailed, BaySpec, Role
from coebench.lab import bay, cgroups, install, plan
from coebench.lab.host import Host, HostSpec
from coebench.lab.magnum import plane
from coebench.provision.lab import LabProvisioner


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path))
    monkeypatch.setattr(cgroups, "folders", lambda name="": [])
    return tmp_path / "lab"


def standing(name: str) -> bay.LabBay:
    """A bay of one host, on disk only; its engine has written a log."""
    layout = plan.Layout.of(1, 1)
    spec = HostSpec(
        bay=name, name="c1", role=Role.CONTROL, address="10.77.0.1", bits=16, gateway="", layers=(), images="", payload=()
    )
    made = bay.LabBay(
        bay.State(name=name, spec=BaySpec(coe="swarm"), layout=layout, layers=(), images="", hosts=[Host(spec=spec)])
    )
    made.save()
    logs = made.hosts[0].folder / "upper/var/log"
    logs.mkdir(parents=True)
    (logs / "dockerd.log").write_text("no space left\n")
    (made.hosts[0].folder / "out").write_text("made\n")
    return made


def test_the_logs_of_a_bay_that_did_not_come_up_are_kept(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create(name: str, *_: Any) -> None:
        standing(name)
        raise BayFailed("dockerd on c1 ended with status 1")

    monkeypatch.setattr(install, "install", lambda *_: 0.0)
    monkeypatch.setattr(install, "layers", lambda *_: ())
    monkeypatch.setattr(install, "image_folder", lambda *_: Path())
    monkeypatch.setattr(LabProvisioner, "check", lambda *_: None)
    monkeypatch.setattr(bay.LabBay, "create", create)
    with pytest.raises(BayFailed, match="dockerd on c1"):
        command.up("swarm", name="mine")
    assert bay.names() == []
    kept = state / "failed/mine"
    assert str(kept) in capsys.readouterr().err
    assert {f.name: f.read_text() for f in (kept / "c1").iterdir()} == {"dockerd.log": "no space left\n", "making.log": "made\n"}


def test_clean_goes_on_past_a_bay_that_does_not_go(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        standing(name)
    erase = bay.erase

    def erased(name: str) -> None:
        if name == "b":
            raise BayFailed("bay b: processes [7] do not end")
        erase(name)

    monkeypatch.setattr(bay, "erase", erased)
    monkeypatch.setattr(plane, "left", lambda: True)
    monkeypatch.setattr(plane, "down", lambda: (_ for _ in ()).throw(OSError("busy")))
    with pytest.raises(BayFailed) as told:
        LabProvisioner().clean()
    assert "the lab's Magnum: busy" in str(told.value) and "lab bay b: bay b: processes [7] do not end" in str(told.value)
    assert "lab bay a, lab bay c: gone" in str(told.value)
    assert bay.names() == ["b"]
