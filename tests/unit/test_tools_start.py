"""The prober and the generators are services too: where the engine says that they can't be started, that ends the waiting."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from coebench.contract import EngineError, FollowingWatch, Instance, InstanceState, Progress, ServiceSpec
from coebench.load.prober import BayProber
from coebench.load.recruits import recruit

WORDS = 'ImagePullBackOff: Back-off pulling image "coebench-load:v1"'


class Stuck:
    """A driver whose instance of each service has a node and an address, and never runs."""

    def __init__(self, listed: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            at = free.getsockname()
        self.instances = [
            Instance(id="p", service="s", version="v1", state=InstanceState.STARTING, engine_state="", published=at, node="n")
        ]
        self.listed = listed

    def watch(self, service: str) -> FollowingWatch:
        return FollowingWatch(lambda watch: watch.snapshot(self.instances if self.listed else []))

    def deploy(self, spec: ServiceSpec) -> None: ...

    def progress(self, service: str) -> Progress:
        return Progress(done=False, wanted=1, ready=0, blocked=WORDS)


WORKLOAD: Any = SimpleNamespace(versions=("v1",), service=lambda name, n, version: ServiceSpec(name=name, image="x", instances=n))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    "start",
    [
        lambda driver: BayProber(driver, WORKLOAD).start(60),
        lambda driver: recruit(driver, WORKLOAD, 1, False, 60, "word"),
    ],
    ids=["prober", "generators"],
)
def test_the_engines_words_end_the_waiting(start: Callable[[Any], Any], listed: bool) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match="ImagePullBackOff: Back-off pulling"):
        start(Stuck(listed))
    assert time.monotonic() - begun < 5
