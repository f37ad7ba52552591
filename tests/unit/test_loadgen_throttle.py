"""A generator that a CPU quota holds down says so: with a real cgroup and a real quota."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import Agent, Event, NullServer, free_port, run_json

from coebench.lab import cgroups
from coebench.load import saturation

PERIOD_US = 100_000


@pytest.fixture(scope="module")
def binary(coeload: Path) -> Path:
    return coeload


def _cpu_tops() -> list[Path]:
    """Where a cgroup with a CPU quota can be made; version 1 or 2, whichever holds the controller here."""
    return [
        top
        for top in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup"))
        if (top / "cpu.cfs_quota_us").exists() or "cpu" in _words(top / "cgroup.controllers")
    ]


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


@contextlib.contextmanager
def _group(cores: float) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("making a cgroup takes root")
    tops = _cpu_tops()
    if not tops:
        pytest.skip("no cgroup hierarchy with the cpu controller is mounted")
    folder = tops[0] / f"coebench-test-{os.getpid()}"
    inner = folder / "inner"
    try:
        folder.mkdir()
        if cgroups.version() == 2:
            (tops[0] / "cgroup.subtree_control").write_text("+cpu")
            (folder / "cpu.max").write_text(f"{int(cores * PERIOD_US)} {PERIOD_US}" if cores else "max")
            (folder / "cgroup.subtree_control").write_text("+cpu")
        elif cores:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD_US)))
        inner.mkdir()
    except OSError as e:
        for made in (inner, folder):
            if made.exists():
                made.rmdir()
        pytest.skip(f"no quota can be set here: {e}")
    try:
        yield inner  # the quota is the parent's, as an engine's pod or a lab's host has it
    finally:
        for made in (inner, folder):
            _remove(made)


def _remove(folder: Path) -> None:
    """A task that was waited for may hold its cgroup a moment longer."""
    deadline = time.monotonic() + 5
    while True:
        try:
            folder.rmdir()
            return
        except OSError as e:
            if e.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _run_in(group: Path, binary: Path, *arguments: str) -> Event:
    """`coeload run` in a cgroup from its first instruction on."""
    script = f'echo $$ > {group}/cgroup.procs && exec "$0" run "$@" --json'
    ended = subprocess.run(["sh", "-c", script, str(binary), *arguments], capture_output=True, timeout=30, check=False, text=True)
    assert ended.returncode == 0, ended.stderr
    done: Event = json.loads(ended.stdout)
    return done


def test_a_quota_that_stops_the_generator_is_told_and_called_saturated(binary: Path) -> None:
    with _group(cores=0.2) as group, NullServer(binary) as null:
        done = _run_in(group, binary, null.url, "--closed", "--connections", "8", "--duration", "1500ms", "--warmup", "200ms")
    assert done["throttled_periods"] >= 3
    assert done["periods"] >= done["throttled_periods"]
    # A busy thread under 0.2 cores stands still for up to 0.8 of the time, less where the machine is busy with other things.
    assert 150 < done["throttled_ms"] < 1800
    assert done["cpu"] < 0.4  # by its CPU alone it would be called at ease
    assert "quota" in saturation.reason(done, open_loop=False)


def test_a_quota_that_is_not_used_up_is_no_reason(binary: Path) -> None:
    with _group(cores=0.9) as group, NullServer(binary) as null:
        done = _run_in(group, binary, null.url, "--rate", "100", "--connections", "2", "--duration", "600ms")
    assert done["throttled_ms"] is not None
    assert done["throttled_ms"] <= saturation.THROTTLED * 600
    assert "quota" not in saturation.reason(done, open_loop=True)


def test_a_machine_whose_cgroups_tell_nothing_is_unknown_not_none(binary: Path) -> None:
    """With no cgroup file system in sight: a mount namespace of its own in which they are covered."""
    if os.geteuid():
        pytest.skip("a mount namespace takes root")
    script = 'umount -lR /sys/fs/cgroup && exec "$0" run "$@" --json'
    with NullServer(binary) as null:
        command = ["unshare", "-m", "sh", "-c", script, str(binary), null.url, "--rate", "100", "--duration", "200ms"]
        hidden = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if hidden.returncode and "unshare" in hidden.stderr:
        pytest.skip(f"no mount namespace here: {hidden.stderr.strip()}")
    done = json.loads(hidden.stdout)
    assert done["throttled_ms"] is None
    assert done["periods"] is None
    assert "quota" not in saturation.reason(done, open_loop=True)


def test_version_two_is_read_as_the_kernel_writes_it(binary: Path, tmp_path: Path) -> None:
    """A real cgroup2 mount and a real group of our own; where the cpu controller is bound to version 1, as it may be here, its
    cpu.stat can't tell of a quota, so a file in version 2's format is mounted over it and changed while the load runs."""
    tops = [m.split()[1] for m in Path("/proc/mounts").read_text().splitlines() if m.split()[2] == "cgroup2"]
    if os.geteuid() or not tops:
        pytest.skip("it takes root and a cgroup2 mount")
    group = Path(tops[0]) / f"coebench-test-{os.getpid()}"
    group.mkdir()
    stat = tmp_path / "cpu.stat"
    text = "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\nnr_periods {}\nnr_throttled {}\nthrottled_usec {}\nnr_bursts 0\n"
    stat.write_text(text.format(100, 40, 2_000_000))
    wrapped = tmp_path / "coeload-in-its-group"
    wrapped.write_text(f"""#!/bin/sh
        exec unshare -m sh -c '
            for m in $(awk "\\$3 == \\"cgroup\\" {{ print \\$2 }}" /proc/mounts); do umount -l $m; done
            echo $$ > {group}/cgroup.procs && mount --bind {stat} {group}/cpu.stat && exec {binary} "$@"' coeload "$@"
    """)
    wrapped.chmod(0o755)
    try:
        agent = Agent(wrapped)
        try:
            with agent.connect() as control, NullServer(binary) as null:
                control.send("load", id="L", targets=null.target, rate=100, duration="2100ms")
                control.until("second", seq=0)
                stat.write_text(text.format(115, 49, 2_300_000))
                second, _ = control.until("second", seq=1)
                done, _ = control.until("done")
        finally:
            agent.end()
    finally:
        _remove(group)
    for event in (second, done):
        assert (event["throttled_ms"], event["throttled_periods"], event["periods"]) == (300.0, 9, 15)


def test_the_line_is_one_per_cent_of_the_measured_time() -> None:
    done: dict[str, Any] = {
        "measured_from": 0,
        "measured_to": 10_000_000_000,
        "throttled_ms": 100.0,
        "throttled_periods": 1,
        "periods": 100,
        "cpu_busiest": 0.1,
        "planned": 1000,
        "unsent": 0,
    }
    assert saturation.reason(done, True) == ""
    assert "101 ms of 10.0 s (in 1 of 100 periods)" in saturation.reason(done | {"throttled_ms": 101.0}, True)
    assert "5 of 1000" in saturation.reason(done | {"unsent": 5}, True)
    assert saturation.reason(done | {"unsent": 5}, False) == ""
    assert "busiest" in saturation.reason(done | {"cpu_busiest": 0.9}, False)
    assert "late" in saturation.reason(done | {"send_lag_ms": {"p50": 2.0}}, True)


def test_seconds_tell_it_too(binary: Path) -> None:
    agent = Agent(binary)
    try:
        with agent.connect() as control:
            control.send("load", id="L", targets=f"127.0.0.1:{free_port()}", rate=10, duration="100ms")
            second, _ = control.until("second")
            done, _ = control.until("done")
        for event in (second, done):
            assert {"throttled_ms", "throttled_periods", "periods"} <= event.keys()
    finally:
        agent.end()


def test_run_json_has_the_keys(binary: Path) -> None:
    with NullServer(binary) as null:
        assert "throttled_ms" in run_json(binary, null.url, "--rate", "50", "--duration", "100ms")
