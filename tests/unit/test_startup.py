"""The command line begins quickly: what a command does not use is not imported. Figures are in benchmarks/cli."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("numpy", "rich", "pydantic", "pluggy", "stevedore", "msgspec", "jinja2", "yaml", "kubernetes", "docker", "requests"),
    *("marathon", "cryptography", "openstack", "hdrh", "psutil", "coebench.contract", "coebench.runner", "coebench.lab"),
}
LISTING = {"stevedore", "msgspec", "coebench.contract"}  # what finding plug-ins is made of


def imported(*words: str, cache: Path) -> set[str]:
    command = [sys.executable, "-X", "importtime", "-m", "coebench", *words]
    env = {**os.environ, "COEBENCH_CACHE": str(cache)}
    p = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert p.returncode == 0, p.stderr[-500:]
    return {line.rsplit("|", 1)[1].strip() for line in p.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("compare", "--help"), ("lab", "--help")])
def test_help_waits_for_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    allowed = set() if words == ("--help",) else {"pydantic"}  # typer's own, for a command's options
    heavy = imported(*words, cache=tmp_path) & (HEAVY - allowed)
    assert not heavy


def test_listing_drivers_imports_none_of_them_again(tmp_path: Path) -> None:
    """The first time each has to be tried; after that it is known that it was good."""
    first = imported("drivers", "list", cache=tmp_path)
    assert {"kubernetes", "docker", "marathon"} <= first
    heavy = imported("drivers", "list", cache=tmp_path) & (HEAVY - LISTING)
    assert not heavy
