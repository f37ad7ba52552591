"""Machines on which the lab can't be, or a bay does not fit: exit code 2, and one line that says what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from coebench.cli.main import main
from coebench.lab import cgroups, install, trees

Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Root on an empty machine that has all that it takes; what a command line says there that is refused."""
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(install, "_whole_perl", lambda: True)
    monkeypatch.setattr(cgroups, "problem", lambda: "")
    monkeypatch.setattr(cgroups, "freezer", lambda: "")
    monkeypatch.setattr(shutil, "which", lambda name, *_: f"/usr/bin/{name}")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 << 30))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 << 30, total=100 << 30))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["coebench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err.strip().splitlines()
        assert ended.value.code == 2, said
        assert len(said) == 1 and said[0].startswith("coebench: "), said
        assert not (tmp_path / "cache/lab/work").exists()  # nothing was begun
        return said[0]

    return run


@pytest.mark.parametrize("words", [("lab", "up", "k8s", "--nodes", "5"), ("compare", "k8s", "--nodes", "5")])
def test_too_little_memory(words: tuple[str, ...], refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 << 30, total=4 << 30))
    said = refused(*words)
    assert "a k8s bay of 1+5 hosts takes about 2824 MiB of memory, 2048 are free: fewer --nodes" in said


def test_too_little_disk_for_the_bay(refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "check_machine", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=300 << 20))
    said = refused("lab", "up", "swarm", "--nodes", "3")
    assert f"{tmp_path}/state/lab has 300 MiB free, a swarm bay of 1+3 hosts wants 512: set COEBENCH_STATE elsewhere" in said


def test_too_little_disk_to_build(refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 30))
    said = refused("lab", "install", "swarm")
    assert f"{tmp_path}/cache/lab has 5120 MiB free, building takes 6144: set COEBENCH_CACHE elsewhere" in said


@pytest.mark.parametrize(
    ("tool", "others", "mends"),
    [
        ("apt-get", ("dnf",), "dnf install apt"),
        ("apt-get", (), "install the package apt (Debian) or apt (Fedora)"),
        ("perl", ("apt-get",), "apt-get install perl"),
        ("setpriv", ("apt-get",), "apt-get install util-linux"),
    ],
)
def test_a_missing_package(
    tool: str, others: tuple[str, ...], mends: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = {tool, "apt-get", "dnf"} - set(others)
    monkeypatch.setattr(shutil, "which", lambda name, *_: None if name in lacking else f"/usr/bin/{name}")
    assert refused("compare", "swarm").endswith(f"the lab needs {tool}, which is not on this machine: {mends}")


def test_a_perl_that_is_the_base_alone(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_whole_perl", lambda: False)
    assert refused("lab", "install", "swarm").endswith("perl-base alone: apt-get install perl")


def test_another_kind_of_machine(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "programs for Linux on x86-64; this is Linux on aarch64: use" in refused("compare", "swarm")


def test_no_apt_source(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "run", lambda *_, **__: "http://mirror.example/ubuntu|jammy|jammy|main|Ubuntu\n")
    assert "apt has no source of Debian here, and the lab's hosts are made of Debian bookworm: name a mirror" in refused(
        "lab", "install", "swarm"
    )
