"""A browser for tests of pages. It is skipped where Debian's can't be had, unless it is demanded (CI, COEBENCH_TEST_LAB)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, tree

from coebench.contract import BadInput
from coebench.lab import install


@pytest.fixture(scope="session")
def chromium_root() -> Path:
    wanted = bool(os.environ.get("CI") or os.environ.get("COEBENCH_TEST_LAB"))
    try:
        install.check_machine()
    except BadInput as e:
        if wanted:
            raise
        pytest.skip(f"no Debian tree here: {e}")
    if not wanted and not tree().ready:
        pytest.skip("Chromium isn't in the cache: set COEBENCH_TEST_LAB=1 to have it put there")
    return tree().ensure(print)


@pytest.fixture(scope="module")
def browser(chromium_root: Path) -> Iterator[Chromium]:
    """Without any network: what a page asks for, it can't get."""
    with Chromium(chromium_root, network=False) as found:
        yield found


@pytest.fixture(scope="module")
def browser_here(chromium_root: Path) -> Iterator[Chromium]:
    """In this machine's network, for pages that are served here."""
    with Chromium(chromium_root, network=True) as found:
        yield found
