"""Fixtures that tests of several folders share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coebench.contract import BadInput, Bay


def _lab_is_wanted() -> bool:
    return bool(os.environ.get("CI") or os.environ.get("COEBENCH_TEST_LAB"))


@pytest.fixture(scope="session")
def lab_installed() -> None:
    """The lab, with all that its bays need in the cache. Skips where it can't be, or isn't, unless it is demanded: with CI or
    COEBENCH_TEST_LAB set, a missing lab is a failure."""
    from coebench.lab import install
    from coebench.lab.engines import ENGINES

    try:
        install.check_machine()
    except BadInput as e:
        if _lab_is_wanted():
            raise
        pytest.skip(f"no lab here: {e}")
    if not _lab_is_wanted() and not all(install.installed(coe) for coe in ENGINES):
        pytest.skip("the lab isn't installed: coebench lab install, or set COEBENCH_TEST_LAB=1")
    install.install(list(ENGINES), print)


@pytest.fixture(scope="session")
def coeload() -> Path:
    """The load generator for this machine. Skips where there is nothing to build it with."""
    from coebench.load import native

    try:
        return native.program()
    except BadInput:
        if shutil.which("gcc") or shutil.which("cc"):
            raise
        pytest.skip("the generator is built from C and there is no gcc")


class NoJournal:
    """A journal for bays that a fixture takes down."""

    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


def _unobserved(name: str, **data: object) -> None: ...


@pytest.fixture(scope="module", params=("k8s", "swarm", "mesos"))
def coe(request: pytest.FixtureRequest) -> str:
    """Each COE in turn: pytest runs all of a module's tests that use it, or `bay`, with one before the next."""
    return str(request.param)


@pytest.fixture(scope="module")
def bay(lab_installed: object, coe: str) -> Iterator[tuple[Any, Bay]]:
    """The COE's lab bay (its provisioner, the bay), up once a module; the main thread is in its network meanwhile. One bay at
    a time: the lab is locked, so that a run at the same time fails with who holds it."""
    from coebench.contract import BaySpec
    from coebench.lab import lock
    from coebench.provision.lab import LabProvisioner

    name = f"tests-{coe}"
    with lock.take(f"tests of {coe}"):
        provisioner = LabProvisioner()
        provisioner.delete(name, NoJournal(), _unobserved)  # of a session that was killed
        try:
            made = provisioner.create(name, BaySpec(coe=coe), NoJournal(), _unobserved)
            with provisioner.network(made):
                yield provisioner, made
        finally:
            provisioner.delete(name, NoJournal(), _unobserved)
