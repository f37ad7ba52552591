"""`coebench lab` and `clean` where something goes wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from coebench.cli import lab as command
from coebench.contract import BadInput, BayFailed, BaySpec, Role, own_folder
from coebench.lab import bay, cgroups, install, lock, paths, plan
from coebench.lab.engines import base, engine
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


def test_a_bay_of_a_slow_machine_may_take_longer(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[BaySpec] = []

    def create(_: str, spec: BaySpec, *__: Any) -> None:
        asked.append(spec)
        raise BayFailed("enough")

    monkeypatch.setattr(install, "install", lambda *_: 0.0)
    monkeypatch.setattr(install, "layers", lambda *_: ())
    monkeypatch.setattr(install, "image_folder", lambda *_: Path())
    monkeypatch.setattr(LabProvisioner, "check", lambda *_: None)
    monkeypatch.setattr(bay.LabBay, "create", create)
    for more in ({}, {"step_timeout": 1200.0}, {"step_timeout": 30.0}):
        with pytest.raises(BayFailed):
            command.up("mesos", **more)
    assert [spec.step_timeout for spec in asked] == [120, 1200, 30]
    engines = [engine("mesos")(spec, plan.Layout.of(1, 1)) for spec in asked]
    assert [e.patience(2) for e in engines] == [2, 20, 2], "requests of the lab's own, too, but never shorter than usual"


def test_looks_that_take_long_are_made_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    clock = [0.0]

    def look(seconds: float) -> bool:
        clock[0] += seconds
        return len(pauses) == 2

    monkeypatch.setattr(base.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(base.time, "sleep", pauses.append)
    for seconds in (0.002, 0.2, 3.0):
        engine("mesos")(BaySpec(coe="mesos"), plan.Layout.of(1, 1)).wait(lambda s=seconds: look(s), [], "it is so")  # type: ignore[misc]
        assert pauses == pytest.approx([min(max(seconds, base.POLL), base.MOST_POLL)] * 2)
        pauses.clear()


@pytest.mark.parametrize(("tries", "each"), [(4, 0.0), (3, 0.2)])
def test_hosts_pause_as_long_as_a_look_took(tries: int, each: float, tmp_path: Path) -> None:
    script = f"""
. {paths.guest()}/guest/lib.sh
try() {{ sleep {each}; echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) = {tries} ]; }}
sleep() {{ [ "$1" = {each} ] || echo "$1"; command sleep "$1"; }}
until_true try
"""
    p = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=60)
    pauses = [float(line) for line in p.stdout.split()]
    assert len(pauses) == tries - 1, p.stderr
    assert all(max(0.02, each) <= pause < 2 for pause in pauses)


@pytest.mark.parametrize(
    "name", ["../../evil", "..", ".", "", "a/b", "a b", "-a", "a\n", "é", "x" * 101, "a..b", "magnum", "a\x1b[2J"]
)
def test_a_name_is_no_path(state: Path, name: str) -> None:
    """Of a folder, of a cgroup: each command that takes a bay's name refuses it before it does anything."""
    told = []
    for ask in (
        lambda: command.up("swarm", name=name),
        lambda: bay.LabBay.create(name, BaySpec(coe="swarm"), (), state, print),
        lambda: bay.LabBay.open(name),
        lambda: command.logs(name),
        lambda: command.exec_(name, ["id"]),
        lambda: command.down([name]),
    ):
        if name == "" and ask.__code__.co_names[:1] == ("command",) and "up" in ask.__code__.co_names:
            continue  # no name: the COE's
        with pytest.raises(BadInput) as caught:
            ask()
        told.append(str(caught.value))
    assert not any("\x1b" in t or "\n" in t for t in told)
    assert not [p for p in state.parent.rglob("*") if p.name not in ("lab", "lock")]


def test_what_the_lab_keeps_is_nobody_else_s(state: Path) -> None:
    state.mkdir(mode=0o755)
    lock.free()
    assert state.stat().st_mode & 0o777 == 0o700
    deep = state.parent / "a/b"
    own_folder(deep)
    assert deep.stat().st_mode & 0o777 == 0o700
