"""What is written to a file or a pipe is UTF-8 whatever the locale says; a terminal that can't show a character gets another."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coebench.cli import main as cli

RUN = str(Path(__file__).parents[2] / "docs" / "example-run")
FORMATS = ("terminal", "markdown", "html", "github", "json", "csv", "csv-samples", "openmetrics", "junit", "svg")
BEYOND = ("terminal", "markdown", "html", "github", "json", "csv", "svg")  # have characters beyond ASCII


def written(monkeypatch: pytest.MonkeyPatch, encoding: str, *words: str) -> bytes:
    """The bytes that a command writes to a pipe where the interpreter was told an encoding."""
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding=encoding))
    monkeypatch.setattr("sys.argv", ["coebench", *words])
    try:
        cli.main()
    except SystemExit as e:
        assert e.code in (0, None, 1)  # doctor says 1 where something lacks
    sys.stdout.flush()
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_utf8(format: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = written(monkeypatch, encoding, "report", RUN, "--format", format)
    assert found == written(monkeypatch, "utf-8", "report", RUN, "--format", format)
    text = found.decode()
    if format in BEYOND and format != "terminal":
        assert not text.isascii()
    if format in ("junit", "svg"):
        ElementTree.fromstring(found)
    if format == "json":
        json.loads(found)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize(
    "words",
    [
        *(("diff", RUN, RUN, "--format", f) for f in ("terminal", "markdown", "json")),
        *(("history", str(Path(RUN).parent), "--format", f) for f in ("terminal", "markdown", "csv", "json")),
        ("verify", RUN),
        ("verify", RUN, "--json"),
        ("--help",),
        ("report", "--help"),
        ("explain",),
    ],
)
def test_every_other_text_is_utf8(words: tuple[str, ...], encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = written(monkeypatch, encoding, *words)
    assert found.decode()


def test_a_plan_keeps_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    found = written(monkeypatch, "ascii", "plan", "größer=swarm")
    assert tomllib.loads(found.decode())["subjects"][0]["name"] == "größer"


def test_a_plan_file_is_utf8_in_every_locale(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[[subjects]]\ncoe = "swarm"\nname = "größer"\n', encoding="utf-8")
    code = "import sys; from coebench.runner import plan; from pathlib import Path; print(ascii(plan.read(Path(sys.argv[1]))))"
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    p = subprocess.run([sys.executable, "-c", code, tmp_path / "plan.toml"], env=env, capture_output=True, text=True)
    assert (p.returncode, "gr\\xf6\\xdfer" in p.stdout) == (0, True), p.stderr


@pytest.mark.parametrize(
    "settings", [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_pipe_of_a_process_gets_utf8(settings: dict[str, str]) -> None:
    words = [sys.executable, "-m", "coebench", "report", RUN, "--format", "markdown"]
    p = subprocess.run(words, env={**os.environ, **settings}, capture_output=True)
    assert p.returncode == 0, p.stderr
    assert not p.stdout.decode().isascii()


@pytest.mark.parametrize("format", ["terminal", "markdown"])
def test_a_terminal_without_a_character_gets_another(format: str) -> None:
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "coebench", "report", RUN, "--format", format]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONIOENCODING": "ascii"}, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    found = b""
    while True:
        try:
            found += (part := os.read(master, 65536))
        except OSError:  # the other side is closed
            break
        if not part:
            break
    os.close(master)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"")
    assert found.isascii()
    assert b"swarm" in found
