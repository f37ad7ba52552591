"""What `coebench doctor` says of the lab's machine, on machines that lack something."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from coebench import machine
from coebench.lab import bay, cgroups, doctor, install, mirror, netns, trees
from coebench.lab.magnum import plane


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kinds of links that the kernel is to lack; it has no file system but ext4, and no module."""
    kinds: list[str] = []
    opened = open

    def filesystems(file: object, *args: object, **more: object) -> object:
        return opened(os.devnull if file == "/proc/filesystems" else file, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", filesystems)
    monkeypatch.setattr(machine, "module", lambda name: False)
    monkeypatch.setattr(netns, "has_link", lambda kind: kind not in kinds)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    yield kinds


def said(what: str) -> list[tuple[str, str]]:
    return [(f.verdict, f.told) for f in doctor.findings() if f.what == what]


def test_what_a_kernel_lacks_is_said(lacking: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/sbin/{name}")  # modprobe alone makes no overlayfs
    lacking += ["bridge", "vxlan"]
    assert [v for v, _ in said("overlayfs")] == ["no"]
    assert [v for v, _ in said("mqueue")] == ["no"]
    assert said("bridge") == [("no", "not in this kernel: bays have no switch")]
    assert [v for v, _ in said("vxlan")] == ["note"]  # Kubernetes and Mesos do without
    assert said("veth") == []


def test_a_coe_that_can_t_run_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "freezer", lambda: "this kernel has none")
    assert said("mesos")[0][1].startswith("can't run here: Mesos 1.11 needs cgroup v1's freezer")


def test_a_left_magnum_is_a_leftover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bay, "names", list)
    monkeypatch.setattr(plane, "left", lambda: True)
    assert said("leftovers")[0][1].startswith("up or left: the lab's Magnum")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_kind_of_link_that_no_kernel_has() -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    assert not netns.has_link("nonsense")
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


@pytest.mark.parametrize(
    ("configured", "verdict", "told"),
    [
        ("", "note", "apt has no package lists yet"),
        ("http://u.example/ubuntu|jammy|jammy|main|Ubuntu\n", "no", "COEBENCH_MIRROR=https://HOST/debian"),
        ("http://d.example/debian|bookworm|bookworm|main|Debian\n", "ok", "Debian bookworm (the machine's own)"),
    ],
)
def test_where_packages_would_come_from(configured: str, verdict: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mirror.MIRROR, raising=False)
    monkeypatch.setattr(install, "installed", lambda coe: False)
    monkeypatch.setattr(trees, "_configured", lambda: configured)
    monkeypatch.setattr(trees, "run", lambda *_, **__: pytest.fail("doctor fetches something"))
    assert [(v, told in text) for v, text in said("packages")] == [(verdict, True)]
