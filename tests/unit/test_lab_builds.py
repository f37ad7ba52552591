"""Builds of the lab's artefacts that are cut short: what they started ends with them, and nobody builds beside it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coebench.contract import BadInput
from coebench.lab import trees
from coebench.lab.cache import Artefact
from coebench.lab.process import Process, ended_tidily

BUILD = """
import sys
from pathlib import Path
from coebench.lab import trees
from coebench.lab.cache import Artefact
from coebench.lab.process import ended_tidily

def build(work, out, say):
    trees.run([*sys.argv[1:], "sh", "-c", f"echo $$ > {work}/pid.new; mv {work}/pid.new {work}/pid; exec sleep 60"])

try:
    with ended_tidily():
        Artefact("thing", "k", build).ensure(print)
except KeyboardInterrupt:
    sys.exit(130)
"""


def until(fact: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def begun(cache: Path, *before: str) -> tuple[subprocess.Popen[bytes], Process]:
    """A coebench that builds, and what it has started."""
    parent = subprocess.Popen([sys.executable, "-c", BUILD, *before], env={**os.environ, "COEBENCH_CACHE": str(cache)})
    file = cache / "lab" / "work" / "thing-k" / "pid"
    assert until(file.exists)
    return parent, Process.of(int(file.read_text()))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_build_ends_with_whoever_wanted_it(number: int, status: int, tmp_path: Path) -> None:
    parent, child = begun(tmp_path)
    parent.send_signal(number)
    assert parent.wait(10) == status
    assert until(lambda: not child.alive, 2)


def test_nobody_builds_beside_an_orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child = begun(tmp_path, "setpriv", "--pdeathsig", "clear")  # as one that could not be told to end with us
    parent.kill()
    parent.wait()
    assert child.alive
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path))
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        child.kill()

    Artefact("thing", "k", lambda work, out, say: None).ensure(say)
    assert said == ["another coebench is building thing: waiting"]


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="no-such-program is not on this machine"):
        trees.run(["no-such-program"])


def test_sigterm_is_as_before_afterwards() -> None:
    with pytest.raises(KeyboardInterrupt), ended_tidily():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_a_build_inherits_is_out_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that passes its own descriptors to dash needs those below 10: locks are inherited far above."""
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path))
    numbers: list[int] = []

    def build(work: Path, out: Path, say: object) -> None:
        numbers.extend(int(n) for n in trees.run(["ls", "/proc/self/fd"]).split())

    Artefact("thing", "k", build).ensure(print)
    inherited = sorted(numbers)[4:]  # 0 to 2, and the folder that ls reads
    assert inherited and min(inherited) >= 100


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_one_line_and_the_next_call_goes_on(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path))
    room: list[bool] = []

    def build(work: Path, out: Path, say: object) -> None:
        if not room:
            (work / "half").touch()
            raise OSError(number, os.strerror(number), "/somewhere/file")
        assert (work / "half").exists()
        (out / "whole").touch()

    with pytest.raises(BadInput, match=r"building thing stopped: /somewhere/file: .*; make room, or set COEBENCH_CACHE"):
        Artefact("thing", "k", build).ensure(print)
    room.append(True)
    assert (Artefact("thing", "k", build).ensure(print) / "whole").exists()
