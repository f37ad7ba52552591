"""The Marathon-compatible scheduler itself, with what it tells Mesos written down instead of sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coebench.lab.marathon import scheduler as module
from coebench.lab.marathon.apps import App, normalised
from coebench.lab.marathon.deployments import RESTART
from coebench.lab.marathon.events import Bus
from coebench.lab.marathon.instances import Instance
from coebench.lab.marathon.scheduler import Scheduler
from coebench.lab.marathon.store import Store

SUBSCRIBED = {"type": "SUBSCRIBED", "subscribed": {"framework_id": {"value": "f"}}}


class Told(Scheduler):
    """Connected, as far as it knows."""

    def __init__(self, folder: Path) -> None:
        super().__init__(["127.0.0.1:1"], Store(folder), Bus())
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.mesos.connected = True
        self.mesos.call = lambda kind, **more: self.calls.append((kind, more))  # type: ignore[method-assign]

    def kills(self) -> list[str]:
        return [more["kill"]["task_id"]["value"] for kind, more in self.calls if kind == "KILL"]

    def put(self, app: App, *names: str) -> None:
        """So many instances that run."""
        for name in names:
            instance = Instance(
                name, app.id, app.version, app.config_at, "s", "n", {}, [], "2026-01-01T00:00:00.000Z", "TASK_RUNNING"
            )
            self.instances[app.id][name] = instance
            self.store.put("instance", name, instance.kept())

    def ended(self, name: str) -> None:
        self.handle({"type": "UPDATE", "update": {"status": {"task_id": {"value": name}, "state": "TASK_KILLED"}}})


def app(version: str, instances: int = 2, cmd: str = "x", config: str = "") -> App:
    return App(normalised({"id": "/a", "cmd": cmd, "instances": instances, "ports": [1]}), version, config or version, version)


def test_a_kill_that_a_new_master_does_not_know_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_RETRY", 0.05)

    async def main() -> None:
        before = Told(tmp_path)
        one = app("1")
        before.change({"/a": one})
        before.put(one, "t1", "t2")
        before.change({"/a": None}, force=True)
        assert sorted(before.kills()) == ["t1", "t2"]
        before.store.close()  # and so ends its process; the master, too

        after = Told(tmp_path)
        after.handle(SUBSCRIBED)
        assert sorted(after.kills()) == ["t1", "t2"]
        await asyncio.sleep(0.2)
        assert after.kills().count("t1") >= 3
        for name in ("t1", "t2"):
            after.ended(name)
        assert not after.deployments and not after.apps
        count = len(after.kills())
        await asyncio.sleep(0.15)
        assert len(after.kills()) == count

    asyncio.run(main())


def test_scaling_in_the_middle_of_an_update_goes_on_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        told = Told(tmp_path)
        old, new = app("1"), app("2", cmd="y")
        told.change({"/a": old})
        told.put(old, "o1", "o2")
        told.settle()
        told.change({"/a": new}, force=True)
        told.put(new, "n1")
        more = told.change({"/a": app("3", instances=4, cmd="y", config="2")}, force=True)
        assert more.steps == [[(RESTART, "/a")]]
        told.put(new, "n2", "n3", "n4")
        told.touch("/a")
        assert sorted(told.kills()) == ["o1", "o2"]
        for name in ("o1", "o2"):
            told.ended(name)
        assert not told.deployments
        assert sorted(told.instances["/a"]) == ["n1", "n2", "n3", "n4"]

        same = told.change({"/a": app("4", instances=4, cmd="y", config="2")})  # nothing is outdated: nothing is done
        assert same.steps == []

    asyncio.run(main())


def test_the_same_again_in_the_middle_of_an_update_goes_on_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        told = Told(tmp_path)
        old, new = app("1"), app("2", cmd="y")
        told.change({"/a": old})
        told.put(old, "o1", "o2")
        told.change({"/a": new}, force=True)
        assert told.change({"/a": app("3", cmd="y", config="2")}, force=True).steps == [[(RESTART, "/a")]]

    asyncio.run(main())
