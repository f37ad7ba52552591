"""Agent and relay with address and undefined-behaviour sanitizers: the protocol's own tests, once more, against that build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from coebench_workload_loadgen import SOURCES

HERE = Path(__file__).parent
# What is read and told over connections: requests good, bad and broken, events, jobs that are kept, and the relay's lines.
AGENT = "hello or ping or several_requests or bad_ or no_request or health or exec or watch or kept or seconds_that or sigterm"
RELAY = "garbage or registers_twice or register_with"


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc") or not shutil.which("make"):
        pytest.skip("it is built with gcc and make")
    folder = tmp_path_factory.mktemp("sanitized")
    work = folder / "src"
    shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns("build"))
    built = subprocess.run(["make", "-s", "-j2", f"BUILD={folder}", "asan"], cwd=work, capture_output=True, text=True)
    if built.returncode and "asan" in built.stderr and "cannot find" in built.stderr:
        pytest.skip(f"gcc has no sanitizers here: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    program = folder / "asan" / "coeload"
    assert b"__asan_init" in program.read_bytes()
    return program


@pytest.mark.parametrize(("file", "which"), [("test_loadgen_agent.py", AGENT), ("test_load_coordinator.py", RELAY)])
def test_nothing_that_is_said_breaks_a_sanitizer(sanitized: Path, tmp_path: Path, file: str, which: str) -> None:
    """What it breaks ends the process, with a report: then these tests fail, and the report is looked for besides."""
    env = os.environ | {"COELOAD": str(sanitized)}
    for tool in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
        env[tool] = f"log_path={tmp_path / 'report'}:print_stacktrace=1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / file), "-k", which]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, cwd=HERE.parents[1])
    reports = "\n".join(f.read_text() for f in tmp_path.glob("report*"))
    assert ran.returncode == 0, ran.stdout[-3000:] + reports
    assert not reports
