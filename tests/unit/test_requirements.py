"""requirements.txt: every package of the set-up, for every Python that is supported, with hashes. Made by scripts/lock.sh."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11.0", "3.11.2", "3.12.0", "3.13.0", "3.14.0")
PIN = re.compile(r"^(?P<pin>[^\s#][^\\\n]*?) *\\\n(?P<hashes>(?: +--hash=[^\n]*\n)+)", re.M)
TEXT = (ROOT / "requirements.txt").read_text()
PINS = [(Requirement(m["pin"]), re.findall(r"--hash=(\S+)", m["hashes"])) for m in PIN.finditer(TEXT)]


def environment(python: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
    }


def holds(requirement: Requirement, python: str, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment(python) | {"extra": extra})


def pinned(python: str) -> dict[str, Version]:
    """What pip installs from the file with that Python. A package that is pinned twice for it fails."""
    found: dict[str, Version] = {}
    for requirement, _ in PINS:
        if holds(requirement, python):
            (one,) = requirement.specifier
            assert one.operator == "==", requirement
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is pinned twice for Python {python}"
            found[name] = Version(one.version)
    return found


def wanted(words: list[str], python: str, extra: str = "") -> list[Requirement]:
    """Requirements that hold, with those of the project's own extras in place of the project's name."""
    found = []
    for requirement in map(Requirement, words):
        if not holds(requirement, python, extra):
            continue
        if canonicalize_name(requirement.name) == "coebench":
            for one in requirement.extras:
                found += wanted(PROJECT["optional-dependencies"][one], python)
        else:
            found.append(requirement)
    return found


def test_every_line_is_a_pin_with_hashes() -> None:
    assert len(PINS) == TEXT.count("==") - len(re.findall(r";.*==", TEXT))
    for requirement, hashes in PINS:
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement
    assert PIN.sub("", TEXT).strip() == ""  # no option, no index, no path


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_the_project_wants_is_pinned(python: str) -> None:
    pins = pinned(python)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"], *build, "pip"]
    for requirement in wanted(asked, python):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in requirements.txt for Python {python}: scripts/lock.sh"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version} is pinned"


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_those_want_is_pinned(python: str) -> None:
    """By the metadata of what is installed here: pip is called with --no-deps, so what is not pinned is not there."""
    pins = pinned(python)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    ahead = wanted([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"], *build], python)
    seen: set[tuple[str, str]] = set()
    while ahead:
        requirement = ahead.pop()
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement} is not in requirements.txt for Python {python}: scripts/lock.sh"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement}: {pins[name]} is pinned"
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                here = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue  # another Python's
            if here.version == str(pins[name]):
                ahead += wanted(list(here.requires or ()), python, extra)
    assert len({name for name, _ in seen}) > 80


def test_the_oldest_python_is_the_one_that_the_project_names() -> None:
    assert SpecifierSet(PROJECT["requires-python"]).contains(PYTHONS[0])
    assert not SpecifierSet(PROJECT["requires-python"]).contains("3.10.99")
    lock = (ROOT / "scripts/lock.sh").read_text()
    assert 'PYTHONS="3.11.0 3.12.0 3.13.0 3.14.0"' in lock
