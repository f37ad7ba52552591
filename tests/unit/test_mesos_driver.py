"""The Mesos driver against a Marathon that answers as told: what a real one does too seldom to wait for."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("marathon")

from coebench_mesos import MesosDriver

from coebench.contract import Access, EngineError

ID = "/coebench/web"


class Marathon:
    """Serves one app; the test says which tasks it has, sends events and cuts their stream."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}
        self.requests: Counter[str] = Counter()
        self.authorised: set[str | None] = set()
        self.streams: list[Any] = []
        self.listening = threading.Condition()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                fake.requests[path] += 1
                fake.authorised.add(self.headers.get("Authorization"))
                if path == "/v2/events":
                    return self.events()
                master = f"127.0.0.1:{fake.port}"
                answers: dict[str, Any] = {
                    "/v2/info": {"name": "marathon", "version": "1.5", "marathon_config": {"master": master}, "new": 1},
                    "/slaves": {"slaves": [{"id": "S1", "hostname": "n1", "pid": "slave(1)@10.0.0.5:5051", "new": []}]},
                    f"/v2/apps/{ID}": {"app": fake.app()},
                    f"/v2/apps{ID}": {"app": fake.app()},
                }
                body = json.dumps(answers.get(path, {"message": "no"})).encode()
                self.send_response(200 if path in answers else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return None

            def events(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.flush()
                self.close_connection = True
                over = threading.Event()
                with fake.listening:
                    fake.streams.append((self.wfile, over, self.connection))
                    fake.listening.notify_all()
                over.wait(20)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def app(self) -> dict[str, Any]:
        return {
            "id": ID,
            "version": "2026-01-01T00:00:00.000Z",
            "instances": 1,
            "labels": {"coebench_version": "v7"},
            "tasks": self.tasks,
            "deployments": [],
            "somethingNew": {"nested": [1]},
            **self.more,
        }

    def task(self, name: str, state: str = "TASK_RUNNING") -> dict[str, Any]:
        return {
            "id": name,
            "state": state,
            "slaveId": "S1",
            "host": "n1",
            "ports": [31000],
            "version": "2026-01-01T00:00:00.000Z",
            "stagedAt": "2026-01-01T00:00:01.000Z",
            "somethingNew": True,
        }

    def stream(self, count: int) -> None:
        """Wait until so many have listened."""
        with self.listening:
            assert self.listening.wait_for(lambda: len(self.streams) >= count, timeout=10)

    def tell(self, kind: str, app: str = ID) -> None:
        out, _, _ = self.streams[-1]
        out.write(f'event: {kind}\r\ndata: {{"eventType":"{kind}","appId":"{app}"}}\r\n\r\n'.encode())
        out.flush()

    def cut(self) -> None:
        for _, over, connection in self.streams:
            over.set()
            try:
                connection.shutdown(2)
            except OSError:
                pass

    def close(self) -> None:
        self.cut()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def marathon() -> Iterator[Marathon]:
    fake = Marathon()
    yield fake
    fake.close()


@pytest.fixture
def driver(marathon: Marathon) -> Iterator[MesosDriver]:
    access = Access(coe="mesos", url=f"http://127.0.0.1:{marathon.port}", user="me", password="secret")
    connected = MesosDriver.connect(access)
    yield connected
    connected.close()


def test_unknown_fields_are_ignored(marathon: Marathon, driver: MesosDriver) -> None:
    marathon.tasks = [marathon.task("t1")]
    (i,) = driver.instances("web")
    assert (i.id, i.version, i.node, i.address, i.port) == ("t1", "v7", "n1", "10.0.0.5", 31000)


def test_progress_counts_what_was_there_before_scaling(marathon: Marathon, driver: MesosDriver) -> None:
    """Scaling gives the app a new version, and its tasks keep theirs."""
    marathon.tasks = [marathon.task("t1")]
    marathon.more = {"version": "2026-01-02T00:00:00.000Z", "versionInfo": {"lastConfigChangeAt": "2026-01-01T00:00:00.000Z"}}
    progress = driver.progress("web")
    assert (progress.done, progress.ready) == (True, 1)
    marathon.more["versionInfo"]["lastConfigChangeAt"] = "2026-01-02T00:00:00.000Z"  # but an update does
    progress = driver.progress("web")
    assert (progress.done, progress.ready) == (False, 0)


def test_every_request_is_authorised(marathon: Marathon, driver: MesosDriver) -> None:
    with driver.watch("web"):
        marathon.stream(1)
    assert None not in {a for a in marathon.authorised if a} and any((a or "").startswith("Basic ") for a in marathon.authorised)
    assert marathon.requests["/v2/events"] == 1


def test_a_watch_outlives_its_event_stream(marathon: Marathon, driver: MesosDriver) -> None:
    with driver.watch("web") as watch:
        marathon.stream(1)
        marathon.cut()
        marathon.stream(2)  # it listens again
        marathon.tasks = [marathon.task("t1")]
        marathon.tell("status_update_event")
        change = watch.next(1.5)  # by the event: the next listing of its own accord may be 2 s away
        assert change and (change.kind, change.instance.id) == ("added", "t1")


def test_others_events_cost_nothing(marathon: Marathon, driver: MesosDriver) -> None:
    with driver.watch("web") as watch:
        marathon.stream(1)
        watch.next(0.3)
        before = marathon.requests.total()
        for _ in range(200):
            marathon.tell("status_update_event", "/somebody/else")
        marathon.tasks = [marathon.task("t1")]
        marathon.tell("status_update_event")
        assert watch.next(1.5)
        assert marathon.requests.total() - before <= 6


def test_many_events_share_a_listing(marathon: Marathon, driver: MesosDriver) -> None:
    with driver.watch("web") as watch:
        marathon.stream(1)
        watch.next(0.3)
        before, begun = marathon.requests.total(), time.monotonic()
        for _ in range(100):
            marathon.tell("status_update_event")
        watch.next(0.3)
        most = (time.monotonic() - begun) / 0.015 + 5
        assert marathon.requests.total() - before < min(most, 60)


def test_a_marathon_that_is_gone_is_an_error(marathon: Marathon, driver: MesosDriver) -> None:
    marathon.close()
    with pytest.raises(EngineError):
        driver.services()
