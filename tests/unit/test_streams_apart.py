"""A stream that is closed costs no request: watches end in one thread while others ask the same engine."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from urllib3 import connectionpool

from coebench.contract import Access, Driver
from coebench.plugins import load

SECONDS = 3.0


class Engine(BaseHTTPRequestHandler):
    """As much of Marathon and of Kubernetes as a watch and a list ask for; streams say little, so that their readers sleep."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/v2/events" in self.path:
            self._stream("text/event-stream", b"event: app_terminated_event\ndata: {}\n\n")
        elif "watch=True" in self.path:
            self._stream("application/json", b'{"type":"BOOKMARK","object":{}}\n')
        else:
            self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        answers = {"app": {"id": "/x", "version": "1", "tasks": []}, "items": [], "metadata": {"resourceVersion": "1"}}
        version = dict.fromkeys(
            ("buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "platform"), "x"
        )
        body = json.dumps({**answers, **version, "major": "1", "minor": "20"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, kind: str, part: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                time.sleep(0.2)
        except OSError:
            self.close_connection = True

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def access(coe: str, url: str) -> Access:
    if coe == "mesos":
        return Access(coe=coe, url=url)
    cluster = {"name": "c", "cluster": {"server": url}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [cluster], "contexts": [context]}
    return Access(coe=coe, kubeconfig=json.dumps({**config, "users": [{"name": "u", "user": {}}]}))


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as can be: what two of them must not do at one time, they do."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("coe", ["mesos", "k8s"])
def test_closing_a_stream_disturbs_no_request(coe: str, url: str, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request fails, and no connection is twice among those that requests are given."""
    twice: list[object] = []
    put = connectionpool.HTTPConnectionPool._put_conn

    def noticed(pool: connectionpool.HTTPConnectionPool, connection: object) -> None:
        if connection is not None and pool.pool and any(c is connection for c in list(pool.pool.queue)):
            twice.append(connection)
        put(pool, connection)  # type: ignore[arg-type]

    monkeypatch.setattr(connectionpool.HTTPConnectionPool, "_put_conn", noticed)
    driver: Driver = load("drivers", coe, "COE").connect(access(coe, url))
    end = time.monotonic() + SECONDS
    failed: list[BaseException] = []
    asked = opened = 0

    def ask() -> None:
        nonlocal asked
        while time.monotonic() < end and not failed:
            try:
                driver.instances("x")
                asked += 1
            except BaseException as e:
                failed.append(e)

    def follow() -> None:
        nonlocal opened
        while time.monotonic() < end and not failed:
            watch = driver.watch("x")
            time.sleep(0.005)
            watch.close()
            opened += 1

    threads = [threading.Thread(target=f) for f in (ask, ask, ask, follow, follow, follow)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    driver.close()
    assert not failed and not twice
    assert asked > 20 and opened > 20
