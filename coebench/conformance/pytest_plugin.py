"""The conformance suite as tests of a driver's own package. pytest finds this by entry point wherever coebench is installed.

    from coebench.conformance.pytest_plugin import Verdict

    def test_behaviour(coebench_verdict: Verdict) -> None:
        coebench_verdict.accept()

runs once for each behaviour, on a bay that is made once a session. Which driver and which bay, pyproject.toml says:

    [tool.pytest.ini_options]
    coebench_driver = "toy"
    coebench_provisioner = "toy"
    coebench_options = ["url=http://127.0.0.1:8080"]   # of the bay, as `coebench driver check --option` takes them

or the command line: --coebench-driver, --coebench-provisioner, --coebench-option. A test that takes `coebench_bench` has the
bay's driver, services that are taken away again, and eyes inside the bay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # a session that has no such test shall not wait for this
    from . import Bench, Outcome

_KEY = "coebench_outcomes"


class Verdict:
    """What became of one behaviour."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def accept(self) -> None:
        """Pass, skip (it does not apply, for the reason that the driver gives) or fail."""
        o = self.outcome
        if o.result == "not applicable":
            pytest.skip(f"not applicable: {o.reason}")
        if o.result == "failed":
            pytest.fail(f"{o.reason}\nIt is asked for because: {o.why}", pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("coebench", "conformance of a coebench driver")
    group.addoption("--coebench-driver", help="the driver's name")
    group.addoption("--coebench-provisioner", help="where its bay comes from")
    group.addoption("--coebench-option", action="append", default=[], help="NAME=VALUE of the bay; may be given again")
    parser.addini("coebench_driver", "the driver's name", default="")
    parser.addini("coebench_provisioner", "where its bay comes from", default="existing")
    parser.addini("coebench_options", "NAME=VALUE of the bay, one a line", type="linelist", default=[])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "coebench_verdict" in metafunc.fixturenames:
        from . import behaviours

        metafunc.parametrize("coebench_verdict", behaviours(), ids=lambda b: b.name, indirect=True)


@pytest.fixture(scope="session")
def coebench_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The driver on its bay; what it deployed must be gone afterwards."""
    from ..cli.options import pairs
    from ..contract import CoebenchError
    from ..sdk import checking

    config = request.config
    driver = config.getoption("--coebench-driver") or config.getini("coebench_driver")
    if not driver:
        pytest.fail("which driver? set coebench_driver in pyproject.toml, or give --coebench-driver", pytrace=False)
    provisioner = config.getoption("--coebench-provisioner") or config.getini("coebench_provisioner")
    options = pairs(config.getoption("--coebench-option") or config.getini("coebench_options"))
    try:
        with checking.bench(driver, provisioner, options=options) as bench:
            yield bench
            left = bench.close()
    except CoebenchError as e:
        pytest.fail(f"no bench for {driver}: {e}", pytrace=False)
    assert not left, f"left behind: {left}"


@pytest.fixture
def coebench_verdict(request: pytest.FixtureRequest, coebench_bench: Bench) -> Verdict:
    """One behaviour put to the driver."""
    from . import check

    outcome = check(coebench_bench, request.param)
    told: list[Any] = request.config.__dict__.setdefault(_KEY, [])
    told.append(outcome)
    return Verdict(outcome)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if outcomes := config.__dict__.get(_KEY):
        from ..sdk import checking
        from . import Report

        driver = config.getoption("--coebench-driver") or config.getini("coebench_driver")
        report = Report(coe=driver, outcomes=tuple(outcomes), seconds=sum(o.seconds for o in outcomes))
        terminalreporter.section("coebench conformance")
        for line in checking.summary(report):
            terminalreporter.line(line)
