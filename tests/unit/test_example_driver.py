"""examples/driver-toy is what docs/drivers.md says: its own tests pass here, and its entry points name what is there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

from coebench import contract

EXAMPLE = Path(__file__).parents[2] / "examples/driver-toy"
sys.path.insert(0, str(EXAMPLE))

_spec = importlib.util.spec_from_file_location("toy_tests", EXAMPLE / "tests/test_toy.py")
assert _spec and _spec.loader
_tests = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tests)
bay, driver = _tests.bay, _tests.driver
globals().update({name: value for name, value in vars(_tests).items() if name.startswith("test_")})


@pytest.mark.parametrize("group", ["drivers", "provisioners"])
def test_the_entry_points_name_what_is_there(group: str) -> None:
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"][f"coebench.{group}"]
    assert set(points) == {"toy"}
    for name, value in points.items():
        module, _, thing = value.partition(":")
        found = getattr(importlib.import_module(module), thing)
        assert name in (getattr(found, "coe", None), getattr(found, "name", None))


def test_the_driver_has_every_method_of_the_port() -> None:
    toy = importlib.import_module("coebench_toy").ToyDriver
    port = [n for n in vars(contract.Driver) if not n.startswith("_")]
    assert [n for n in port if not hasattr(toy, n)] == []
    assert toy.contract == contract.VERSION
