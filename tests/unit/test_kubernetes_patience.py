"""An API server that has stopped answering, and has not said so: who asks gets an error, a watch lists again."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import yaml
from coebench_kubernetes import KubernetesDriver, driver

from coebench.contract import Access, EngineError


class Server:
    """Accepts everything. A path that holds a key of `answers` is answered with its value, as JSON or, if it ends with a new
    line, as the beginning of a stream; all others never are."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                there, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(there,), daemon=True).start()

    def _one(self, there: socket.socket) -> None:
        with there:
            while head := there.recv(65536).decode():
                path = head.split()[1]
                self.asked.append(path)
                body = next((text for part, text in self.answers.items() if part in path), None)
                if body is None:
                    time.sleep(30)
                elif body.endswith("\n"):
                    there.sendall(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n".encode())
                    time.sleep(30)
                else:
                    there.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    @property
    def access(self) -> Access:
        url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": url}}],
            "users": [{"name": "x", "user": {}}],
        }
        return Access(coe="k8s", kubeconfig=yaml.safe_dump(config))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[Server]:
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path))
    monkeypatch.setattr(driver, "TIMEOUT", 0.3)
    monkeypatch.setattr(driver, "SILENCE", 0.3)
    server = Server()
    yield server
    server.socket.close()


def talking(server: Server) -> None:
    version = {"major": "1", "minor": "20", "gitVersion": "v1.20.2", "gitCommit": "", "gitTreeState": "", "buildDate": ""}
    more = {"goVersion": "", "compiler": "", "platform": ""}
    server.answers["/version"] = json.dumps({**version, **more})
    server.answers["/namespaces/coebench/pods?"] = json.dumps({"metadata": {"resourceVersion": "7"}, "items": []})
    server.answers["/namespaces/coebench?"] = server.answers["/namespaces/coebench "] = "{}"


def test_a_server_that_never_answers_is_an_error(server: Server) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match="reaching the API server"):
        KubernetesDriver.connect(server.access)
    assert time.monotonic() - begun < 5


def test_a_call_is_not_waited_for_for_ever(server: Server) -> None:
    talking(server)
    server.answers["/namespaces/coebench"] = "{}"
    bay = KubernetesDriver.connect(server.access)
    server.answers.clear()
    begun = time.monotonic()
    for call in (lambda: bay.progress("web"), lambda: bay.instances("web"), lambda: bay.scale("web", 2), bay.nodes):
        with pytest.raises(EngineError):
            call()
    assert time.monotonic() - begun < 5
    bay.close()


def test_a_stream_that_falls_silent_is_asked_for_again(server: Server) -> None:
    server.answers["watch="] = '{"type": "BOOKMARK", "object": {}}\n'  # before the listing, whose path it shares
    talking(server)
    server.answers["/namespaces/coebench"] = "{}"
    bay = KubernetesDriver.connect(server.access)
    with bay.watch("web") as watch:
        assert watch.next(2.0) is None  # and no error
        assert sum("watch=" in path for path in server.asked) >= 2
    bay.close()
