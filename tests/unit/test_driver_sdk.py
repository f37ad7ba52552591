"""What authors of drivers are given: a package to begin with, the suite on a bay, the pytest plug-in; and what is said of
drivers that are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from coebench.conformance import Outcome, Report
from coebench.contract import VERSION, BadInput
from coebench.sdk import checking, scaffold

ROOT = Path(__file__).parents[2]
TOY = ROOT / "examples/driver-toy"


def metadata(site: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """What installing a package would leave for its entry points to be found."""
    info = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    groups = [f"[{g}]\n" + "".join(f"{n} = {v}\n" for n, v in found.items()) for g, found in points.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))


def install(site: Path, folder: Path) -> None:
    """Make a source folder's package be found."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata(site, project["name"], project["entry-points"])


def run(*command: str, cwd: Path, path: tuple[Path, ...], **env: str) -> subprocess.CompletedProcess[str]:
    joined = os.pathsep.join([*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": joined, "XDG_CACHE_HOME": str(path[0] / "cache"), "COEBENCH_STATE": str(path[0] / "state"), **env}
    own["COEBENCH_CACHE"] = str(path[0] / "cache")
    words = [sys.executable, "-m", *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=cwd, env={**os.environ, **own})


def test_a_new_driver_is_judged_without_editing_anything(tmp_path: Path) -> None:
    """From `driver new` to a first result: it is listed, and the suite says what is not written yet."""
    folder = scaffold.write("my-coe", tmp_path / "mine")
    install(tmp_path / "site", folder)
    path = (tmp_path / "site", folder)
    listed = run("coebench", "drivers", "list", cwd=tmp_path, path=path)
    assert [line.split()[1:3] for line in listed.stdout.splitlines() if line.startswith("my-coe")] == [["My", "Coe"]]
    words = ("driver", "check", "my-coe", "--provisioner", "existing", "--option", "url=http://127.0.0.1:9", "--json")
    p = run("coebench", *words, cwd=tmp_path, path=path)
    assert p.returncode == 1, p.stderr
    report = json.loads(p.stdout)
    results = {o["name"]: o["result"] for o in report["outcomes"]}
    assert results["names_itself"] == results["every_capability_is_answered"] == "passed"
    assert results["update_keeps_capacity"] == "not applicable"
    assert 0 < report["score"] < 0.2
    assert not report["ok"]
    assert "not written yet" in p.stderr
    assert not list((tmp_path / "site/state").rglob("*.json"))


def test_the_new_package_is_clean_and_complete(tmp_path: Path) -> None:
    folder = scaffold.write("two-words", tmp_path / "mine")
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "README.md",
        "pyproject.toml",
        "coebench_two_words/__init__.py",
        "coebench_two_words/driver.py",
        "coebench_two_words/py.typed",
        "tests/test_conformance.py",
    }
    assert not [f for f in folder.rglob("*") if f.is_file() and "@" in f.read_text().replace("@classmethod", "")]
    assert f"= {VERSION}  #" in (folder / "coebench_two_words/driver.py").read_text()
    ruff = ("ruff", "check", "--isolated", "--line-length", "130", str(folder))
    assert run(*ruff, cwd=folder, path=(tmp_path,)).returncode == 0
    mypy = run("mypy", "--strict", "coebench_two_words", cwd=folder, path=(tmp_path,), MYPYPATH=str(ROOT))
    assert mypy.returncode == 0, mypy.stdout


@pytest.mark.parametrize("name", ["", "K8s", "a b", "-x", "1st", "a--b", "a_b", "x" * 31, "ü", "k8s", "class", "../x"])
def test_what_can_be_no_new_driver(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        scaffold.write(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(BadInput, match="is there already"):
        scaffold.write("mycoe", tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "kept"


LIAR = """
from coebench.contract import Support
from coebench_toy import ToyDriver
class Liar(ToyDriver):
    def capabilities(self):
        return {c: Support(True) for c in super().capabilities()}
"""


def test_a_driver_that_claims_what_it_can_not_is_an_error(tmp_path: Path, coeload: Path) -> None:
    """The toy says that it can't update; a copy that says it can is told which claims are not true."""
    site = tmp_path / "site"
    install(site, TOY)
    metadata(site, "liar", {"coebench.drivers": {"toy": "liar:Liar"}})
    (site / "liar.py").write_text(LIAR)
    toy = next(site.glob("coebench_toy*/entry_points.txt"))
    toy.write_text("[coebench.provisioners]\ntoy = coebench_toy:ToyProvisioner\n")
    words = ("driver", "check", "toy", "--provisioner", "toy", "--only", "update_keeps_capacity", "--patience", "5")
    p = run("coebench", *words, cwd=ROOT, path=(site, TOY), COELOAD=str(coeload))
    assert p.returncode == 1, p.stderr
    assert "error: claims 'update', and fails 1 of its behaviours: update_keeps_capacity" in p.stdout, p.stdout


def test_a_claim_without_a_reason_is_no_lie_but_fails() -> None:
    def outcome(reason: str) -> Outcome:
        return Outcome(name="x", group="g", why="w", result="failed", reason=reason, needs=("drain",))

    assert Report(coe="x", outcomes=(outcome("drain: missing without a reason"),), seconds=1).lies == {}
    lying = Report(coe="x", outcomes=(outcome("waited 60 s"), outcome("too")), seconds=1)
    assert lying.lies == {"drain": ("x", "x")}
    assert "error: claims 'drain'" in "\n".join(checking.summary(lying))


def test_the_pytest_plugin_runs_the_suite(tmp_path: Path, coeload: Path) -> None:
    """A new package's own test, on the toy's bay: one test a behaviour, skipped where it does not apply, and a score."""
    folder = scaffold.write("mine", tmp_path / "mine")
    site = tmp_path / "site"
    install(site, TOY)
    words = ("pytest", "-q", "-p", "no:cacheprovider", "--coebench-driver", "toy", "--coebench-provisioner", "toy")
    chosen = "names_itself or every_capability or update_changes or unknown_options"
    p = run(*words, "--override-ini=coebench_options=", "-k", chosen, cwd=folder, path=(site, TOY), COELOAD=str(coeload))
    assert p.returncode == 0, p.stdout + p.stderr
    assert "3 passed, 1 skipped" in p.stdout
    assert "toy: score 100%: 3 of 3 behaviours passed, 1 do not apply" in p.stdout


def test_the_plugin_says_what_it_lacks(tmp_path: Path) -> None:
    test = tmp_path / "test_x.py"
    test.write_text("def test_behaviour(coebench_verdict):\n    coebench_verdict.accept()\n")
    p = run("pytest", "-q", "-p", "no:cacheprovider", "-k", "names_itself", str(test), cwd=tmp_path, path=(tmp_path,))
    assert p.returncode == 1
    assert "which driver? set coebench_driver" in p.stdout


def test_an_unknown_behaviour_is_told() -> None:
    assert "names_itself" in checking.chosen(["capabilities"])
    with pytest.raises(BadInput, match="no behaviour or group is called 'speed'; groups: capabilities"):
        checking.chosen(["speed"])


# what is broken


def test_two_drivers_of_one_name(tmp_path: Path) -> None:
    """Both are told with their packages, neither is used, and the others are as they were."""
    for name in ("one", "other"):
        metadata(tmp_path, f"pkg-{name}", {"coebench.drivers": {"both": f"{name}:Driver"}})
        (tmp_path / f"{name}.py").write_text(f"class Driver:\n    coe, title, contract = 'both', 'Both', {VERSION}\n")
    p = run("coebench", "drivers", "list", cwd=tmp_path, path=(tmp_path,))
    lines = [line for line in p.stdout.splitlines() if line.startswith("both ")]
    assert len(lines) == 2
    assert all("2 packages give this name" in line for line in lines)
    assert "pkg-one" in lines[0] + lines[1] and "pkg-other" in lines[0] + lines[1]
    assert "Docker Swarm" in p.stdout
    refused = run("coebench", "compare", "both", cwd=tmp_path, path=(tmp_path,))
    assert refused.returncode == 2
    assert "two COEs are named 'both'" in refused.stderr
    assert "uninstall one" in refused.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("raise RuntimeError('no luck\\nat all')", "RuntimeError: no luck at all"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import no_such_thing", "Python package no_such_thing is not installed"),
        ("syntax error", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("class Driver:\n    contract, title = 0, 'Old'", f"written for contract 0, this coebench has contract {VERSION}"),
        ("class Driver:\n    title = 'No contract'", "written for contract none"),
    ],
)
def test_a_broken_driver_is_listed_with_its_reason(tmp_path: Path, content: str, said: str) -> None:
    """It was good, and remembered as such, until its file changed."""
    metadata(tmp_path, "pkg", {"coebench.drivers": {"shaky": "shaky:Driver"}})
    good = f"class Driver:\n    coe, title, contract = 'shaky', 'Shaky', {VERSION}\n"
    (tmp_path / "shaky.py").write_text(good)

    def listed() -> str:
        p = run("coebench", "drivers", "list", cwd=tmp_path, path=(tmp_path,), PYTHONDONTWRITEBYTECODE="1")
        assert p.returncode == 0, p.stderr
        assert "Kubernetes" in p.stdout
        return next(line for line in p.stdout.splitlines() if line.startswith("shaky"))

    assert "broken" not in listed()
    assert "broken" not in listed()
    (tmp_path / "shaky.py").write_text(content)
    line = listed()
    assert "broken: " in line
    assert said in line
