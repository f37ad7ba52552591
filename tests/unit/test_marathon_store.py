"""What the Marathon-compatible scheduler keeps, how it writes the time, how long it waits after failures."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from coebench.lab.marathon import clock
from coebench.lab.marathon.apps import App, normalised
from coebench.lab.marathon.backoff import Backoff
from coebench.lab.marathon.instances import Health, Instance
from coebench.lab.marathon.store import Store


def test_keeps_what_was_committed(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "folder")
    store.put("app", "/b", {"x": 1})
    store.put("app", "/a", {"x": 2})
    store.commit()
    store.put("app", "/b", {"x": 3})
    store.put("meta", "framework_id", "f")
    store.remove("app", "/a")
    store.commit()
    store.put("app", "/lost", {})  # not committed
    again = Store(tmp_path / "new" / "folder")
    assert again.load("app") == {"/b": {"x": 3}}
    assert again.load("meta") == {"framework_id": "f"}


def test_what_could_not_be_written_is_written_next_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("app", "/a", {"x": 1})
    store.commit()
    other = sqlite3.connect(tmp_path / "state.sqlite")
    other.execute("CREATE TRIGGER full BEFORE INSERT ON thing WHEN new.key = '/c' BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    other.commit()
    store.put("app", "/b", {"x": 2})
    store.put("app", "/c", {"x": 3})
    with pytest.raises(sqlite3.Error, match="disk full"):
        store.commit()
    assert Store(tmp_path).load("app") == {"/a": {"x": 1}}, "all or nothing"
    other.execute("DROP TRIGGER full")
    other.commit()
    store.put("app", "/d", {"x": 4})
    store.commit()
    assert Store(tmp_path).load("app") == {"/a": {"x": 1}, "/b": {"x": 2}, "/c": {"x": 3}, "/d": {"x": 4}}


def test_instances_come_back_as_they_were() -> None:
    instance = Instance("i", "/a", "2", "1", "s", "n", {"rack": "r"}, [1], clock.stamp(), health=[Health(alive=True)])
    instance.confirmed = True
    again = Instance.restored(instance.kept())
    assert not again.confirmed, "Mesos has to speak of it anew"
    instance.confirmed = False
    assert again == instance


def test_versions_differ_and_sort() -> None:
    assert clock.stamp(1.5) == "1970-01-01T00:00:01.500Z"
    assert clock.seconds("1970-01-01T00:00:01.500Z") == 1.5
    assert clock.after("2100-01-01T00:00:00.000Z") == "2100-01-01T00:00:00.001Z"
    assert clock.after(None) <= clock.stamp()


def test_backoff_grows_to_its_limit() -> None:
    spec = normalised({"id": "a", "cmd": "x", "backoffSeconds": 10, "backoffFactor": 3, "maxLaunchDelaySeconds": 60})
    app, backoff = App(spec, "1", "1"), Backoff()
    assert backoff.left == 0
    lengths = []
    for _ in range(4):
        backoff.failed(app)
        lengths.append(round(backoff.left))
    assert lengths == [10, 30, 60, 60]
    assert backoff.outlived_by(61) and not backoff.outlived_by(59)
    backoff.reset()
    assert backoff.left == 0
