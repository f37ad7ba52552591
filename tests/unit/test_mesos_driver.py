"""The Mesos driver against a Marathon that answers as told: what a real one does too seldom to wait for."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("marathon")

from coebench_mesos import MesosDriver

from coebench.contract import Access, BadInput, EngineError, ServiceSpec

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
        self.special: Callable[[Any, str], bool] = lambda handler, path: False  # whether it has answered
        self.config: dict[str, Any] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                fake.requests[path] += 1
                fake.authorised.add(self.headers.get("Authorization"))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if fake.special(self, path):
                    return None
                if path == "/v2/events":
                    return self.events()
                master = f"127.0.0.1:{fake.port}"
                answers: dict[str, Any] = {
                    "/v2/info": {
                        "name": "marathon",
                        "version": "1.5",
                        "marathon_config": {"master": master, **fake.config},
                        "new": 1,
                    },
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

            do_POST = do_PUT = do_DELETE = do_GET

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


def _say(
    handler: Any, status: int, body: bytes = b"{}", kind: str = "application/json", head: tuple[str, str] | None = None
) -> bool:
    handler.send_response(status)
    if kind:
        handler.send_header("Content-Type", kind)
    if head:
        handler.send_header(*head)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def _cut(handler: Any) -> bool:
    handler.close_connection = True
    return True


def _ends(handler: Any) -> bool:
    return _say(handler, 200, b"", "text/event-stream")


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda h: _say(h, 403), "403 Forbidden"),
        (lambda h: _say(h, 404), "404 Not Found"),
        (lambda h: _say(h, 401), "401 Unauthorized"),
        (lambda h: _say(h, 502), "502 Bad Gateway"),
        (lambda h: _say(h, 200, b"<html>sign in</html>", "text/html"), "text/html"),
        (_cut, "the event stream breaks"),
        (_ends, "the event stream ends"),
    ],
    ids=["403", "404", "401", "502", "html", "cut", "ends"],
)
def test_a_refused_event_stream_is_told_of(marathon: Marathon, driver: MesosDriver, answer: Any, said: str) -> None:
    marathon.special = lambda handler, path: path == "/v2/events" and answer(handler)
    with driver.watch("web") as watch:
        end = time.monotonic() + 4
        while not watch.fallback and time.monotonic() < end:
            watch.next(0.1)
        assert said in watch.fallback and "every 0.5 s" in watch.fallback
        assert getattr(watch, "interval", 0) == 0.5
        asked = marathon.requests["/v2/events"]
        if said[0] == "4":
            watch.next(0.5)
            assert marathon.requests["/v2/events"] == asked == 1  # it is not asked again and again


def test_a_stream_that_tells_of_nothing_is_found_out_by_what_it_misses(marathon: Marathon, driver: MesosDriver) -> None:
    with driver.watch("web") as watch:
        marathon.stream(1)
        watch.next(0.3)
        assert not watch.fallback
        marathon.tasks = [marathon.task("t1")]  # no event
        assert watch.next(4)
        watch.next(0.1)
        assert "tells of nothing" in watch.fallback and getattr(watch, "interval", 0) == 2


def test_a_stream_that_works_is_no_poll(marathon: Marathon, driver: MesosDriver) -> None:
    with driver.watch("web") as watch:
        marathon.stream(1)
        marathon.cut()
        marathon.stream(2)
        marathon.tasks = [marathon.task("t1")]
        marathon.tell("status_update_event")
        assert watch.next(1.5) and not watch.fallback


def test_the_login_goes_to_no_other_origin(marathon: Marathon, driver: MesosDriver) -> None:
    """Neither the event stream nor a change is sent on; both errors name both hosts."""
    other = Marathon()
    there = f"http://localhost:{other.port}"

    def move(handler: Any, path: str) -> bool:
        return (path == "/v2/events" or handler.command != "GET") and _say(handler, 302, head=("Location", there + handler.path))

    marathon.special = move
    try:
        with driver.watch("web") as watch:
            end = time.monotonic() + 3
            while not watch.fallback and time.monotonic() < end:
                watch.next(0.1)
            assert there in watch.fallback and f"127.0.0.1:{marathon.port}" in watch.fallback and "login" in watch.fallback
        with pytest.raises(EngineError, match=rf"{there}/v2/apps: the login is not sent"):
            driver.deploy(ServiceSpec(name="web", image="i", instances=1))
        assert not other.requests
    finally:
        other.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_change_stays_a_change(marathon: Marathon, driver: MesosDriver, status: int) -> None:
    seen: list[str] = []

    def move(handler: Any, path: str) -> bool:
        if path == "/v2/apps":
            return _say(handler, status, head=("Location", "/leader/v2/apps"))
        if path == "/leader/v2/apps":
            seen.append(handler.command)
            return _say(handler, 201)
        return False

    marathon.special = move
    driver.deploy(ServiceSpec(name="web", image="i", instances=1))
    assert seen == ["POST"]


def test_fields_that_the_client_does_not_know_are_no_obstacle(marathon: Marathon, driver: MesosDriver) -> None:
    marathon.more = {"tasksStats": {}}
    body = json.dumps(marathon.app()).encode()
    marathon.special = lambda handler, path: handler.command != "GET" and _say(handler, 201, body)
    driver.deploy(ServiceSpec(name="web", image="i", instances=1))
    driver.scale("web", 0)
    driver.remove("web")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"app": null}', b'{"app": {}}', b'{"apps": 1}', b"<html>", b'{"slaves": [1]}'])
def test_strange_answers_are_the_engines_errors(marathon: Marathon, driver: MesosDriver, body: bytes) -> None:
    marathon.special = lambda handler, path: _say(handler, 200, body)
    for call in (lambda: driver.progress("web"), lambda: driver.instances("web"), driver.services, driver.nodes):
        with pytest.raises(EngineError):
            call()


def test_a_master_named_by_zookeeper_is_the_leader_or_asked_for(marathon: Marathon) -> None:
    access = Access(coe="mesos", url=f"http://127.0.0.1:{marathon.port}")
    zk = "zk://10.0.0.1:2181/mesos"
    marathon.config = {"master": zk}
    marathon.tasks = [marathon.task("t1")]
    driver = MesosDriver.connect(access)
    with pytest.raises(EngineError, match=rf"'{zk}': give the option master=http://HOST:5050"):
        driver.nodes()
    assert [i.address for i in driver.instances("web")] == ["n1"]
    driver.close()
    marathon.config["mesos_leader_ui_url"] = f"http://127.0.0.1:{marathon.port}/"
    driver = MesosDriver.connect(access)
    assert [i.address for i in driver.instances("web")] == ["10.0.0.5"]
    driver.close()


def test_a_silent_master_is_asked_once(marathon: Marathon, driver: MesosDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coebench_mesos.driver.MASTER_TIMEOUT", 0.3)
    marathon.special = lambda handler, path: path == "/slaves" and not time.sleep(1) and _cut(handler)
    marathon.tasks = [marathon.task("t1") | {"slaveId": "S2"}, marathon.task("t2") | {"slaveId": "S3"}]
    begun = time.monotonic()
    for _ in range(3):
        assert {i.address for i in driver.instances("web")} == {"n1"}
    assert time.monotonic() - begun < 0.9 and marathon.requests["/slaves"] == 1


def test_logins_are_utf_8_and_what_can_not_be_sent_is_refused_without_telling_it(marathon: Marathon) -> None:
    import base64

    def connect(**login: str) -> None:
        MesosDriver.connect(Access(coe="mesos", url=f"http://127.0.0.1:{marathon.port}", **login)).close()

    connect(user="mé", password="pässwört→")
    assert "Basic " + base64.b64encode("mé:pässwört→".encode()).decode() in marathon.authorised
    connect(token="abc\n")
    assert "token=abc" in marathon.authorised
    for login in (
        {"user": "a:b", "password": "geheim"},
        {"user": "a", "password": "geheim\r\nX: y"},
        {"token": "geheim\nX"},
        {"token": "geheimä"},
    ):
        with pytest.raises(BadInput) as e:
            connect(**login)
        assert "geheim" not in str(e.value)
