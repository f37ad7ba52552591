"""Kernel modules that engines count on, and what a host does in Docker's balancers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coebench import machine
from coebench.lab import cache, doctor, modules, paths
from coebench.lab.engines import ENGINES


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A kernel with nothing built in and a modprobe that loads what is in `disk`. Returns the folder of both."""
    (tmp_path / "loaded").mkdir()
    (tmp_path / "disk").write_text("")
    program = tmp_path / "modprobe"
    program.write_text(
        f'#!/bin/sh\nif grep -qx "$1" {tmp_path}/disk; then : > {tmp_path}/loaded/$1; '
        'else echo "modprobe: FATAL: Module $1 not found in directory /lib/modules/6.1" >&2; exit 1; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(modules, "PROOFS", {name: f"{tmp_path}/loaded/{name}" for name in ("one", "two")})
    monkeypatch.setattr(machine, "built_in", lambda name: False)
    monkeypatch.setattr(machine, "module", lambda name: name in (tmp_path / "disk").read_text().split())
    return tmp_path


def test_a_module_on_disk_is_loaded(kernel: Path) -> None:
    (kernel / "disk").write_text("one\n")
    assert not modules.there("one") and modules.loadable("one") == ""
    assert modules.load(["one", "two"]) == {"two": "FATAL: Module two not found in directory /lib/modules/6.1"}
    assert modules.there("one") and not modules.there("two")
    assert "have no two" in modules.loadable("two")


def test_a_machine_without_modprobe(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel / "disk").write_text("one\n")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install kmod" in modules.loadable("one")
    assert "apt-get install kmod" in modules.load(["one"])["one"]


def test_doctor_names_each_module_and_what_fails_without_it(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel / "disk").write_text("one\n")
    monkeypatch.setattr(ENGINES["swarm"], "modules", {"one": "no mesh", "two": "no virtual IPs"})
    monkeypatch.setattr(ENGINES["k8s"], "modules", {})
    told = {f.what: f for f in doctor.findings() if f.what in ("one", "two")}
    assert (told["one"].verdict, "modprobe one" in told["one"].told) == ("ok", True)
    assert told["two"].verdict == "note" and "Docker Swarm: no virtual IPs" in told["two"].told


def test_doctor_tells_a_state_folder_on_another_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system at /dev/shm")
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(paths, "state", lambda: Path("/dev/shm/none"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert any("copied, not linked" in f.told for f in doctor.findings() if f.what == "state")


def test_a_state_folder_that_can_t_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "state", lambda: Path("/proc/none"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert any("set COEBENCH_STATE to a folder that can" in f.told for f in doctor.findings() if f.what == "state")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_what_can_t_be_linked_is_copied(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_text("text")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("elsewhere")
    monkeypatch.setattr(os, "link", refuse)
    for name in ("file", "link"):
        cache.share(tmp_path / name, tmp_path / f"{name}.2")
    assert (tmp_path / "file.2").read_text() == "text" and (tmp_path / "file.2").stat().st_mode & 0o777 == 0o640
    assert os.readlink(tmp_path / "link.2") == "elsewhere"


def test_another_fault_of_linking_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cache.share(tmp_path / "none", tmp_path / "target")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_balancers_are_made_to_forward(tmp_path: Path) -> None:
    """Namespaces that were there before, and those that come later, as dockerd makes them: the file first, then the mount. One
    that takes long, as on a slow machine, keeps no other waiting."""
    script = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
folder=$1/netns; mkdir "$folder"
pids=
space() {
  : > "$folder/$1"
  unshare --net sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward; : > "$0"; exec sleep 60' "$1.made" & pids="$pids $!"
  until [ -e "$1.made" ]; do :; done
  mount --bind "/proc/$!/ns/net" "$folder/$1"
}
cd "$1"
space early
"$2" "$3" "$folder" & watcher=$!
trap 'kill $watcher $pids' EXIT
: > "$folder/slow"
space late
forwards() { [ "$(nsenter --net="$folder/$1" cat /proc/sys/net/ipv4/ip_forward)" = 1 ]; }
n=0; until forwards early && forwards late; do n=$((n + 1)); [ $n -lt 500 ]; done
sleep 6; space slow
n=0; until forwards slow; do n=$((n + 1)); [ $n -lt 500 ]; done
echo forwards
"""
    watcher = Path(modules.__file__).parent / "guest/balancers.py"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"]
    p = subprocess.run([*command, str(tmp_path), sys.executable, str(watcher)], capture_output=True, text=True, timeout=60)
    assert p.stdout == "forwards\n", p.stderr
