"""The plans of published tables can be run, say where they come from, and are listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from coebench.runner import plan as plans

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "plans").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_published_table_has_a_plan_that_can_be_run(file: Path) -> None:
    text = file.read_text()
    number = file.stem.partition("-")[0].upper()
    assert text.startswith(f"# {number}: ")
    assert "\n# Original" in text
    assert "\n# Different here: " in text
    plan = plans.make(plans.read(file), [], {})
    assert {s.coe for s in plan.subjects} == {"k8s", "swarm", "mesos"}
    listed = (ROOT / "docs/scenarios/README.md").read_text()
    assert f"| {number} " in listed
    assert f"({Path('../../plans') / file.name})" in listed


def test_all_ten_tables_have_a_plan() -> None:
    assert {f.stem.partition("-")[0] for f in FILES} == {f"t{n}" for n in range(1, 11)}
