"""The lab's own Magnum, started once for all tests of this folder, in a state folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coebench.lab.magnum import plane


@pytest.fixture(scope="package")
def magnum(lab_installed: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[plane.Plane]:
    """It is up; OS_… name no other cloud, and what is run from here finds it."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OS_")}
    state = os.environ.get("COEBENCH_STATE")
    os.environ["COEBENCH_STATE"] = str(tmp_path_factory.mktemp("magnum"))
    try:
        yield plane.up(print)
    finally:
        plane.down()
        del os.environ["COEBENCH_STATE"]
        if state is not None:
            os.environ["COEBENCH_STATE"] = state
        os.environ.update(kept)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"
