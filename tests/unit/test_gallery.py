"""What README and the docs show of docs/example-run is what the commands make of it now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from coebench.cli.main import app

ROOT = Path(__file__).parents[2]
RUN = str(ROOT / "docs" / "example-run")


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "scripts" / "gallery.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_run_is_in_order() -> None:
    done = CliRunner().invoke(app, ["verify", RUN])
    assert done.exit_code == 0 and done.stdout.rstrip().endswith("in order"), done.stdout


def test_readme_has_the_table_that_markdown_gives(gallery: ModuleType) -> None:
    text = (ROOT / "README.md").read_text()
    assert gallery.readme(text) == text, "python scripts/gallery.py --texts"
    made = CliRunner().invoke(app, ["report", RUN, "--format", "markdown"]).stdout
    rows = [line for line in made.splitlines() if line.startswith("| ")]
    assert len(rows) > 25 and all(row in text for row in rows)
    assert gallery.readme(text.replace("| saturation", "| satiation")) == text


def test_its_picture_is_what_svg_gives() -> None:
    made = CliRunner().invoke(app, ["report", RUN, "--format", "svg"]).stdout
    assert made == (ROOT / "docs" / "gallery" / "table.svg").read_text()


def test_the_samples_are_what_the_commands_print(gallery: ModuleType) -> None:
    assert gallery.samples() == (ROOT / "docs" / "gallery.md").read_text(), "python scripts/gallery.py --texts"
