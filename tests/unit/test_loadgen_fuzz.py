"""The HTTP parser under sanitizers, fed with what mutation and coverage come up with; a few seconds of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from coebench_workload_loadgen import SOURCES

PLANT = "if (size < 2)"


def fuzz(folder: Path, runs: int, seed: int, plant: str = "") -> subprocess.CompletedProcess[str]:
    """Build the fuzzer from a copy of the sources, `plant` put in front of the target, and run it."""
    if not shutil.which("gcc") or not shutil.which("make"):
        pytest.skip("the fuzzer is built with gcc and make")
    work = folder / "src"
    shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns("build"))
    target = work / "fuzz_http.c"
    text = target.read_text()
    assert PLANT in text
    target.write_text(text.replace(PLANT, f"{plant}\n    {PLANT}", 1))
    build = subprocess.run(["make", "-s", f"BUILD={folder}", f"{folder}/fuzz_gcc"], cwd=work, capture_output=True, text=True)
    if build.returncode and "asan" in build.stderr:
        pytest.skip(f"gcc has no sanitizers here: {build.stderr.strip().splitlines()[-1]}")
    assert build.returncode == 0, build.stderr
    return subprocess.run(
        [folder / "fuzz_gcc", str(runs), str(seed), str(folder / "crash")], capture_output=True, text=True, timeout=120
    )


def test_no_input_found_breaks_the_parser(tmp_path: Path) -> None:
    p = fuzz(tmp_path, 40_000, 1)
    assert p.returncode == 0, p.stderr
    kept, ways = map(int, re.findall(r"(\d+) kept, (\d+) ways", p.stdout)[0])
    assert kept > 100  # beyond the six that it begins with: coverage leads it
    assert ways > 150
    assert not (tmp_path / "crash").exists()


def test_the_fuzzer_finds_what_there_is_to_find(tmp_path: Path) -> None:
    """A bug that one lost byte wakes: a read of one byte beyond the end."""
    p = fuzz(tmp_path, 40_000, 1, 'if (memmem(data, size, "\\n0\\n", 3)) return data[size];')
    assert p.returncode != 0
    assert "heap-buffer-overflow" in p.stderr
    assert b"\n0\n" in (tmp_path / "crash").read_bytes()
