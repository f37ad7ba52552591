"""The Marathon-compatible API as a process, with no Mesos to talk to."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "coebench/lab/marathon"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Served:
    def __init__(self, state: Path, *words: str) -> None:
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        command = [sys.executable, "-B", str(FOLDER), "--master", "127.0.0.1:1", "--listen", address, "--state", str(state)]
        self.process = subprocess.Popen([*command, *words], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, "it does not listen"
                time.sleep(0.01)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        text = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, json.loads(data) if data[:1] in (b"{", b"[") else data

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.end()


def test_apps_without_mesos(served: Served, tmp_path: Path) -> None:
    assert served.ask("GET", "/ping") == (200, b"pong")
    assert served.ask("GET", "/v2/info")[1]["frameworkId"] is None
    status, app = served.ask("POST", "/v2/apps", {"id": "/a/b", "cmd": "x", "instances": 2})
    assert status == 201 and app["tasksRunning"] == 0
    status, locked = served.ask("PUT", "/v2/apps//a/b", {"instances": 3})
    assert status == 409 and locked["deployments"] == app["deployments"]
    status, changed = served.ask("PUT", "/v2/apps/a/b?force=true", {"instances": 3})
    assert status == 200 and changed["deploymentId"] != app["deployments"][0]["id"]
    (queued,) = served.ask("GET", "/v2/queue")[1]["queue"]
    assert queued["count"] == 3
    assert served.ask("GET", "/v2/apps?label=x")[1]["apps"] == []
    assert [a["id"] for a in served.ask("GET", "/v2/apps?id=b&embed=apps.tasks")[1]["apps"]] == ["/a/b"]
    assert [a["id"] for a in served.ask("GET", "/v2/apps/a/*")[1]["*"]] == ["/a/b"]
    assert served.ask("GET", "/v2/groups")[1]["groups"][0]["apps"][0]["id"] == "/a/b"
    assert served.ask("DELETE", "/v2/queue//a/b/delay") == (204, b"")
    assert len(served.ask("GET", "/v2/apps/a/b/versions")[1]["versions"]) == 2

    served.end()
    again = Served(tmp_path)
    try:
        assert again.ask("GET", "/v2/apps/a/b")[1]["app"]["instances"] == 3
        assert [d["id"] for d in again.ask("GET", "/v2/deployments")[1]] == [changed["deploymentId"]]
        assert again.ask("DELETE", "/v2/apps/a/b?force=true")[0] == 200
        assert again.ask("GET", "/v2/apps")[1]["apps"] == []
    finally:
        again.end()


def test_errors(served: Served) -> None:
    assert served.ask("GET", "/v2/apps/none") == (404, {"message": "App '/none' does not exist"})
    assert served.ask("GET", "/nowhere")[0] == 404
    assert served.ask("PATCH", "/v2/info")[0] == 405
    assert served.ask("POST", "/v2/apps", b"{")[1]["message"] == "Invalid JSON"
    assert served.ask("PATCH", "/v2/apps/none", {"instances": 1})[0] == 404
    assert served.ask("POST", "/v2/apps", [])[0] == 422
    status, body = served.ask("POST", "/v2/apps", {"id": "a", "cmd": "x", "healthChecks": 5})
    assert status == 422 and body["details"] == [{"path": "/healthChecks", "errors": ["must be a list"]}]
    assert served.ask("PUT", "/v2/apps", ["x"])[0] == 422
    assert served.ask("PUT", "/v2/apps/none", {"version": [1]})[0] == 404
    status, body = served.ask("POST", "/v2/apps", {"id": "a"})
    assert status == 422 and body["details"][0]["path"] == "/"


def test_http_itself(served: Served) -> None:
    def raw(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", served.port), 5) as one:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: one.recv(65536), b""))

    two = raw(b"GET /ping HTTP/1.1\r\n\r\nHEAD /ping HTTP/1.1\r\n\r\n")
    assert two.count(b"HTTP/1.1 200 OK") == 2 and two.count(b"pong") == 1
    chunked = b'POST /v2/apps HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"id\r\n3\r\n":1\r\n1\r\n}\r\n0\r\n\r\n'
    assert b" 422 " in raw(chunked)
    assert b" 400 " in raw(b"nonsense\r\n\r\n")
    assert b" 400 " in raw(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    assert b" 400 " in raw(b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")


def test_events_are_filtered(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    connection.request("GET", "/v2/events?event_type=deployment_info&event_type=api_post_event")
    stream = connection.getresponse()
    assert stream.getheader("Content-Type") == "text/event-stream"
    served.ask("POST", "/v2/apps", {"id": "a", "cmd": "x"})
    found: list[str] = []
    while len(found) < 3:
        line = stream.readline()
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:])["eventType"])
    assert found == ["deployment_info", "deployment_info", "api_post_event"]
    connection.close()


def test_basic_authentication(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    served = Served(tmp_path / "state", "--user", "me", "--password-file", str(tmp_path / "password"))
    try:
        right = base64.b64encode(b"me:secret").decode()
        wrong = base64.b64encode(b"me:guess").decode()
        assert served.ask("GET", "/v2/apps")[0] == 401
        assert served.ask("GET", "/v2/apps", Authorization=f"Basic {wrong}")[0] == 401
        assert served.ask("GET", "/v2/apps", Authorization=f"Basic {right}")[0] == 200
        assert served.ask("GET", "/ping")[0] == 200
    finally:
        served.end()
