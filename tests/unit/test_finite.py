"""What Python and TOML read as a number and is none (nan, inf, 1e999) is refused in one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coebench.cli import main as cli
from coebench.contract import BadInput
from coebench.results import gates
from coebench.scenarios.slo import Slo

NONE = ("nan", "inf", "-inf", "1e999")


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """The one line with which the command refuses."""
    monkeypatch.setattr("sys.argv", ["coebench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize("value", [*NONE, "1" + 40 * "0"])
def test_of_a_setting(value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    line = said(capsys, monkeypatch, "plan", "swarm", "--set", f"deploy.timeout={value}")
    assert line.startswith("coebench: 'deploy.timeout' is ")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(
    ("plan", "name"),
    [
        ('subjects=["swarm"]\nbudget={}', "budget"),
        ('subjects=["swarm"]\nprecision={}', "precision"),
        ('subjects=["swarm"]\n[bay]\ncpu={}', "bay.cpu"),
        ('subjects=["swarm"]\n[bay]\nstep_timeout={}', "bay.step_timeout"),
        ('[[subjects]]\ncoe="swarm"\ncpu={}', "subjects, number 1.cpu"),
        ('subjects=["swarm"]\n[settings.deploy]\ntimeout={}', "deploy.timeout"),
        ('subjects=["swarm"]\n[settings.deploy]\ninstances=[1, {}]', "deploy.instances, number 2"),
    ],
)
def test_in_a_plan(
    plan: str, name: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan.toml").write_text(plan.format(value))
    assert f"'{name}' is " in said(capsys, monkeypatch, "plan", "--plan", str(tmp_path / "plan.toml"))


@pytest.mark.parametrize("value", NONE)
@pytest.mark.parametrize(
    "words",
    [
        ("plan", "swarm", "--precision"),
        ("plan", "swarm", "--host-cpu"),
        ("diff", "a", "b", "--margin"),
        ("history", "a", "--margin"),
        ("lab", "up", "swarm", "--host-cpu"),
        ("lab", "up", "swarm", "--step-timeout"),
        ("loadgen", "coordinator", "http://127.0.0.1/", "--generator", "127.0.0.1:1", "--rate"),
        ("loadgen", "coordinator", "http://127.0.0.1/", "--generator", "127.0.0.1:1", "--closed", "--duration"),
        ("loadgen", "coordinator", "http://127.0.0.1/", "--generator", "127.0.0.1:1", "--closed", "--timeout"),
        ("loadgen", "coordinator", "http://127.0.0.1/", "--generator", "127.0.0.1:1", "--closed", "--patience"),
    ],
)
def test_of_an_option(
    words: tuple[str, ...], value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{words[-1]} is {float(value)}: give a finite number" in said(capsys, monkeypatch, *words, value)


@pytest.mark.parametrize("value", NONE)
def test_of_a_gate_and_of_an_objective(value: str) -> None:
    with pytest.raises(BadInput):
        gates.parse(f"*.deploy.last > {value}")
    with pytest.raises(BadInput):
        Slo.parse(f"p99<{value}ms")
    with pytest.raises(BadInput):
        Slo.parse(f"p99<{400 * '9'}ms")


def test_of_a_subject(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "number 1.cpu' is nan" in said(capsys, monkeypatch, "plan", "swarm:cpu=nan")
