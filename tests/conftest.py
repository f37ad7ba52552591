"""Fixtures that tests of several folders share."""

from __future__ import annotations

import os

import pytest

from coebench.contract import BadInput


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
