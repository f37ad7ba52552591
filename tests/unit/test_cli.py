"""The command line as its users meet it: exit codes, one line, nothing half-done."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coebench import plugins
from coebench.contract import BadInput
from coebench.lab import install


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-m", "coebench", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=60)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("compare", "k8s", "nomad"), "unknown COE 'nomad'; known: "),
        (("compare", "swarm", "swarm"), "given twice"),
        (("compare", "k8s", "--provisioner", "moon"), "unknown provisioner 'moon'; known: existing, lab"),
        (("compare", "k8s", "--set", "deploy.instances=many"), "--set deploy.instances=many"),
        (("compare", "k8s", "--plan", "no-such-plan.toml"), "can't read the plan no-such-plan.toml"),
        (("compare", "k8s", "--nodes", "0"), "1 to 250 nodes, not 0"),
        (("compare", "k8s", "--timeouts", "eager"), "'stock' or 'harmonised', not 'eager'"),
        (("compare", "k8s", "--host-memory", "64"), "at least 512 MiB"),
        (("compare", "k8s", "--instances", "3", "--set", "deploy.instances=[1]"), "say two things of the same setting"),
        (("compare", "k8s", "--slo", "p99<20ms", "--set", "serve.slo='p99<9ms'"), "and --slo say two things"),
        (("compare", "k8s", "--cross-check", "wrk", "--set", "serve.cross_check=[]"), "and --cross-check say two things"),
        (("compare", "k8s", "swarm", "--aa"), "--aa compares one subject with itself"),
        (("compare", "k8s", "--precision", "0.1", "--trials", "1"), "one trial has none"),
        (("compare", "k8s", "--scenarios", "churn", "--budget", "5s"), "a budget of 5 s is too small for one block"),
        (("compare", "k8s", "--scenarios", "deploy", "--instances", "400"), "deploy on k8s can't fit: it wants 400 instances"),
        (("compare", "k8s", "--scenarios", "cold-image", "--set", "cold-image.filler=[5000]"), "from 0 to 4096"),
        (("compare", "k8s:colour=red"), "k8s has no option 'colour'"),
        (("compare", "k8s:kubernetes-bin=/nowhere"), "kubernetes-bin=/nowhere: lacks kube-apiserver"),
        (("lab", "up", "nomad"), "the lab has no engine for 'nomad'"),
        (("lab", "exec", "nothing", "true"), "no lab bay 'nothing' is up"),
        (("report", "no-such-run"), "no-such-run"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: tuple[str, ...], said: str, tmp_path: Path) -> None:
    runs = ("--runs", str(tmp_path / "runs")) if args[0] == "compare" else ()
    p = run(*args, *runs, COEBENCH_STATE=str(tmp_path / "state"))
    assert p.returncode == 2, p.stderr
    try:
        install.check_machine()
    except BadInput as e:
        if str(e) in p.stderr:
            pytest.skip(f"no lab here, which is said first: {e}")
    assert said in p.stderr
    assert len(p.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_without_root_the_lab_says_so(tmp_path: Path) -> None:
    """As another user, by dropping it in the child: the message names what works instead."""
    code = (
        "import os; os.setuid(65534)\n"
        "from coebench.lab import install\n"
        "from coebench.contract import BadInput\n"
        "try: install.check_machine()\n"
        "except BadInput as e: print(e)\n"
    )
    import os

    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    root = Path(__file__).parents[2]
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    if "No module named" in p.stderr or "Permission" in p.stderr:
        pytest.skip("this checkout can't be read by another user")
    assert "run it as root" in p.stdout


def test_plan_prints_a_plan_and_runs_nothing(tmp_path: Path) -> None:
    p = run("plan", "k8s", "slow=mesos:nodes=5", "--profile", "smoke", "--seed", "9", COEBENCH_STATE=str(tmp_path))
    assert p.returncode == 0, p.stderr
    file = tmp_path / "plan.toml"
    file.write_text(p.stdout)
    again = run("plan", "--plan", str(file))
    assert again.stdout == p.stdout
    assert "seed = 9" in p.stdout


def test_drivers_are_listed() -> None:
    p = run("drivers", "list")
    assert p.returncode == 0
    assert {line.split()[0] for line in p.stdout.splitlines()} >= {"k8s", "mesos", "swarm"}
    assert "broken" not in p.stdout


def test_doctor_tells_what_matters() -> None:
    p = run("doctor")
    assert p.returncode in (0, 1)
    for word in ("overlayfs", "cgroups", "memory", "ip_vs", "leftovers", "k8s", "swarm", "mesos"):
        assert word in p.stdout


def test_help_names_every_command() -> None:
    p = run("--help")
    assert p.returncode == 0
    for word in ("compare", "plan", "report", "drivers", "doctor", "clean", "lab"):
        assert word in p.stdout


def test_a_broken_driver_hurts_nobody_else(tmp_path: Path) -> None:
    """A package on the path whose driver raises on import, and one of an older contract."""
    (tmp_path / "brokendriver.py").write_text("raise RuntimeError('no luck')\n")
    (tmp_path / "olddriver.py").write_text("class Old:\n    contract = 0\n    title = 'Old'\n")
    info = tmp_path / "brokendriver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brokendriver\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[coebench.drivers]\nbroken = brokendriver:Driver\nold = olddriver:Old\n")
    import os

    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    p = run("drivers", "list", PYTHONPATH=path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    lines = {line.split()[0]: line for line in p.stdout.splitlines()}
    assert set(lines) >= {"broken", "k8s", "mesos", "old", "swarm"}, p.stderr
    assert "RuntimeError: no luck" in lines["broken"]
    assert "contract 0" in lines["old"]
    assert "broken" not in lines["k8s"]
    refused = run("compare", "broken", PYTHONPATH=path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert refused.returncode == 2
    assert "no luck" in refused.stderr


def test_unknown_plugins_name_those_known() -> None:
    with pytest.raises(BadInput, match=r"unknown scenario 'x'; known: .*deploy.*serve"):
        plugins.load("scenarios", "x", "scenario")


def test_json_errors_leave_stdout_empty() -> None:
    p = run("compare", "nomad", "--json")
    assert p.returncode == 2
    assert p.stdout == ""


@pytest.mark.parametrize(
    ("number", "mend"), [(errno.ENOSPC, "make room there"), (errno.EROFS, "name a folder that can be written")]
)
def test_a_disk_that_takes_nothing_is_one_line(
    number: int, mend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coebench.cli import main

    def full() -> None:
        raise OSError(number, os.strerror(number), "/somewhere/file")

    monkeypatch.setattr(main, "app", full)
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(said) == 1 and said[0].startswith("coebench: /somewhere/file: ") and mend in said[0]


def test_an_error_gives_a_terminal_no_orders() -> None:
    """What a file or a name has put into it is shown, not obeyed."""
    for words in (
        ["report", "no\x1b[2J\x07such"],
        ["lab", "down", "a\x1b]0;x\x07"],
        ["diff", "\x9b2J", "b"],
        ["compare", "k8s\x1b[2J"],
    ):
        p = subprocess.run([sys.executable, "-m", "coebench", *words], capture_output=True, text=True, timeout=60)
        assert p.returncode == 2, p.stderr
        assert not set(p.stdout + p.stderr) & {"\x1b", "\x07", "\x9b"}
