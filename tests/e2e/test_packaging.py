"""What users install: a wheel and an sdist that hold the same, with no extra, with each, and with all of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(set(PROJECT["optional-dependencies"]) - {"dev", "all"})
ALL = Requirement(PROJECT["optional-dependencies"]["all"][0]).extras
DRIVERS = {"k8s", "swarm", "mesos"}
IMPORT_ALL = """
import importlib, pkgutil, sys, coebench
allowed = set(sys.argv[1].split(","))
for m in pkgutil.walk_packages(coebench.__path__, "coebench."):
    if m.name.endswith("__main__") or ".lab.marathon" in m.name or ".pytest_plugin" in m.name:
        continue
    try:
        importlib.import_module(m.name)
    except ModuleNotFoundError as e:
        top = (e.name or "").split(".")[0]
        if top not in allowed:
            print(f"{m.name} needs {e.name}")
"""
OPTIONAL = (
    "cryptography,yaml,kubernetes,docker,marathon,requests,urllib3,keystoneauth1,openstack,keystoneclient,jinja2,matplotlib"
)


def run(*words: object, timeout: float = 280, **kw: object) -> subprocess.CompletedProcess[str]:
    p = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=timeout, **kw)  # type: ignore[call-overload]
    assert p.returncode == 0, f"{words}: {p.stdout[-1500:]}{p.stderr[-1500:]}"
    return p


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, built from a copy of what git knows, so that nothing that only lies about here gets in."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    listed = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    run(sys.executable, "-m", "hatchling", "build", "-d", out, cwd=clone)
    return out


def wheel(folder: Path) -> Path:
    (found,) = folder.glob("*.whl")
    return found


def test_the_sdist_makes_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        tar.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=source)
    one, other = (sorted(zipfile.ZipFile(w).namelist()) for w in (wheel(dist), wheel(tmp_path / "again")))
    assert one == other


def test_the_wheel_has_what_is_not_python(dist: Path) -> None:
    names = set(zipfile.ZipFile(wheel(dist)).namelist())
    for part in (
        "coebench/py.typed",
        "coebench/lab/guest/init.sh",
        "coebench/lab/recipes/kubelet.patch",
        "coebench/sdk/template/pyproject.toml.in",
        "coebench_workload_http/start.sh",
        "coebench_workload_loadgen/src/main.c",
    ):
        assert part in names, f"{part} is not in the wheel"
    assert not [n for n in names if n.startswith(("tests/", "docs/", "examples/"))]


@pytest.mark.parametrize(("driver", "part"), [("docker", "lab.py"), ("systemd", "host/node.sh")])
def test_a_driver_of_its_own_is_a_wheel_of_its_own(tmp_path: Path, driver: str, part: str) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT / "drivers" / driver)
    names = zipfile.ZipFile(wheel(tmp_path)).namelist()
    assert f"coebench_{driver}/{part}" in names
    assert not [n for n in names if n.startswith(("coebench/", "tests/"))]


def install(dist: Path, folder: Path, extra: str, python: str = sys.executable) -> Path:
    """A fresh environment; returns its bin folder."""
    run(python, "-m", "venv", "--without-pip", folder)
    what = f"{wheel(dist)}[{extra}]" if extra else str(wheel(dist))
    pins = folder.with_name("pins.txt")  # without hashes: with one, pip asks for one of our own wheel, too
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins.write_text("".join(line.removesuffix("\\") + "\n" for line in lines if "==" in line))
    options = ["--quiet", "--disable-pip-version-check", "--no-compile", "-c", str(pins)]
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", *options, what)
    return folder / "bin"


def closure(extra: str) -> dict[str, metadata.Distribution]:
    """What pip would install for coebench with an extra, as it is installed here (the pins are the same), without coebench."""
    found: dict[str, metadata.Distribution] = {}
    environment = {k: str(v) for k, v in default_environment().items()}

    def add(words: list[str], extras: set[str]) -> None:
        for requirement in map(Requirement, words):
            marks = [environment | {"extra": e} for e in extras | {""}]
            if requirement.marker and not any(requirement.marker.evaluate(m) for m in marks):
                continue
            name = canonicalize_name(requirement.name)
            if name == "coebench":
                add(PROJECT["optional-dependencies"][next(iter(requirement.extras))], set())
            elif name not in found:
                found[name] = metadata.distribution(name)
                add(found[name].requires or [], set(requirement.extras))

    add(PROJECT["dependencies"], set())
    if extra:
        add([f"coebench[{part}]" for part in ALL] if extra == "all" else [f"coebench[{extra}]"], set())
    return found


def environment_of(dist: Path, folder: Path, extra: str) -> Path:
    """A fresh environment with the wheel and the packages that an extra brings, and no other; returns its bin folder.

    The packages are linked to, not fetched: nine downloads of the same would take minutes and show nothing more.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in closure(extra).values():
        for file in package.files or ():
            source, target = Path(str(package.locate_file(file))), site / file
            if ".." not in file.parts and file.suffix != ".pyc" and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q", "--no-deps", "--no-compile", wheel(dist))
    checked = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, f"{extra}: {checked.stdout}"
    return folder / "bin"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("extra", ["", *EXTRAS, "all"])
def test_each_extra_alone_and_all_together(dist: Path, tmp_path: Path, extra: str) -> None:
    """The core works without any; a driver whose extra is missing is listed with the line that installs it."""
    folder = environment_of(dist, tmp_path / "venv", extra)
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    assert f"coebench {PROJECT['version']}" in run(folder / "coebench", "--version", cwd=tmp_path, env=env).stdout
    listed = run(folder / "coebench", "drivers", "list", cwd=tmp_path, env=env).stdout
    lines = {line.split()[0]: line for line in listed.splitlines()}
    works = DRIVERS if extra == "all" else {extra} & DRIVERS
    for driver in DRIVERS:
        assert ("broken" in lines[driver]) == (driver not in works), (extra, lines[driver])
        assert driver in works or f"pip install 'coebench[{driver}]'" in lines[driver]
    if extra in ("", "all"):
        missing = run(folder / "python", "-c", IMPORT_ALL, "" if extra else OPTIONAL, cwd=tmp_path, env=env).stdout
        assert not missing
        words = ("report", ROOT / "docs/example-run", "--format", "markdown")
        assert "Docker Swarm" in run(folder / "coebench", *words, cwd=tmp_path, env=env).stdout
        api = "from coebench import compare, read; from coebench.contract import Driver; print(compare, read, Driver)"
        run(folder / "python", "-c", api, cwd=tmp_path, env=env)


@pytest.mark.timeout(300)
def test_the_core_installs_from_the_index(dist: Path, tmp_path: Path) -> None:
    """The one that fetches: the wheel's own metadata is what the resolver reads."""
    folder = install(dist, tmp_path / "venv", "")
    assert "compare" in run(folder / "coebench", "--help", cwd=tmp_path).stdout


def interpreter(version: str) -> str | None:
    """A Python of that version that can make environments: on the PATH, or one that pyenv keeps and was not told to use."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))]
    look = f"import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    for python in filter(None, found):
        with contextlib.suppress(OSError):
            if subprocess.run([str(python), "-c", look], capture_output=True).returncode == 0:
                return str(python)
    return None


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
@pytest.mark.timeout(300)
def test_newer_pythons(dist: Path, tmp_path: Path, version: str) -> None:
    """Those that the machine has; Debian 12 has none. The core with every extra, at the versions that are pinned."""
    if not (python := interpreter(version)):
        pytest.skip(f"no Python {version} here")
    folder = install(dist, tmp_path / "venv", "all", python)
    run(sys.executable, "-m", "pip", "--python", folder / "python", "check")
    listed = run(folder / "coebench", "drivers", "list", cwd=tmp_path).stdout
    assert set(DRIVERS) <= {line.split()[0] for line in listed.splitlines()}
    assert "broken" not in listed
    assert not run(folder / "python", "-W", "error::SyntaxWarning", "-c", IMPORT_ALL, "", cwd=tmp_path).stdout
    for form in ("markdown", "html", "json"):
        run(folder / "coebench", "report", ROOT / "docs/example-run", "--format", form, cwd=tmp_path)
    run(folder / "coebench", "export", ROOT / "docs/example-run", "--format", "parquet,csv,openmetrics", cwd=tmp_path)
    run(folder / "coebench", "plan", "k8s", "swarm", "mesos", cwd=tmp_path)
