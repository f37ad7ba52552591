"""What the test on an emulated machine (`make test-guest`) makes of what it reads; the machine itself is tried by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "guest"))

import run


def test_answers_are_what_stands_between_the_marks() -> None:
    lines = [
        "created",
        "@instance",
        "coebench coebench",
        "@1764550000",
        "to 10.80.0.2",
        "@virtual",
        "curl: (28) timed out",
        "@17",
    ]
    found, ends = run.bodies("\n".join(lines))
    assert found == {"instance": "coebench coebench\n", "virtual": ""}
    assert ends["instance"] == 1764550000
    assert run.bodies("the API server refuses") == ({}, {})


def test_modules_and_what_came_with_them_are_no_leftovers() -> None:
    before = {"module veth", "sysctl /proc/sys/kernel/panic:0", "cgroup ./init.scope"}
    came = {"module ip_vs", "sysctl /proc/sys/net/ipv4/vs/backup_only:0"}
    assert run.difference(before, before | came) == ([], ["ip_vs"])
    left, _ = run.difference(
        before, {"module veth", "sysctl /proc/sys/kernel/panic:10", "cgroup ./init.scope", "cgroup ./coebench"}
    )
    assert left == [
        "gone: sysctl /proc/sys/kernel/panic:0",
        "new: cgroup ./coebench",
        "new: sysctl /proc/sys/kernel/panic:10",
    ]


def test_a_word_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["sid"]) == 2
    assert "not sid" in capsys.readouterr().err
