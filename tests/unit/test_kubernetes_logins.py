"""Who a kubeconfig logs in as, and what a watch does about an API server that refuses it for a while."""

from __future__ import annotations

import http.server
import json
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from coebench_kubernetes import KubernetesDriver, driver

from coebench.contract import Access, BadInput, EngineError
from coebench.provision.existing import kubeconfig

VERSION = dict.fromkeys(("major", "minor", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), "1")
Answer = tuple[int, dict[str, str], Any]


class Api:
    """An API server on loopback. `watch` answers each watch in turn, the last of them all later ones."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, Any]] = []
        self.pods: list[Any] = []
        self.watch: list[Answer] = [(200, {}, [])]
        self.lists = 0
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self) -> None:
                api.heads.append((f"{self.command} {self.path}", self.headers))
                if length := int(self.headers.get("Content-Length") or 0):
                    self.rfile.read(length)
                status, headers, body = api.answer(self.path)
                data = b"" if body is None else json.dumps(body).encode()
                if isinstance(body, list):
                    data = b"".join(json.dumps(e).encode() + b"\n" for e in body)
                if status == 0:
                    return  # the connection ends without an answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer

            def log_message(self, *_: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str) -> Answer:
        if path == "/version/":
            return 200, {}, {**VERSION, "gitVersion": "v1.30.0"}
        if "watch=" in path:
            return self.watch.pop(0) if len(self.watch) > 1 else self.watch[0]
        if "/pods" in path:
            self.lists += 1
            return 200, {}, {"metadata": {"resourceVersion": str(self.lists)}, "items": self.pods}
        return 200, {}, {}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(driver, "LONGEST", 0.2)
    api = Api()
    yield api
    api.server.shutdown()
    api.server.server_close()


@pytest.fixture
def connect(api: Api, tmp_path: Path) -> Iterator[Callable[..., KubernetesDriver]]:
    made: list[KubernetesDriver] = []

    def connect(user: Any, cluster: dict[str, Any] | None = None, named: bool = True) -> KubernetesDriver:
        context = {"cluster": "k", "user": "u"} if named else {"cluster": "k"}
        text = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": context}],
            "clusters": [{"name": "k", "cluster": {"server": api.url, **(cluster or {})}}],
            "users": [{"name": "u", "user": user}] if named else [],
        }
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(text))
        made.append(KubernetesDriver.connect(Access(coe="k8s", kubeconfig=kubeconfig.read(str(file), ""))))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def test_tokens_are_sent_without_the_white_space_around_them(api: Api, connect: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    for user in ({"tokenFile": "token"}, {"token": "abc\r\n"}, {"token": "older", "tokenFile": "token"}):
        connect(user)
        assert api.heads[-1][1]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize("token", ["sec\nret", "sec ret", "sécret", "\n"])
def test_no_message_holds_a_token(connect: Any, tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    for user in ({"token": token}, {"tokenFile": "token"}):
        with pytest.raises(BadInput, match="has a token that is empty or holds") as refused:
            connect(user)
        assert "ret" not in str(refused.value) and refused.value.__cause__ is None
    with pytest.raises(BadInput, match=r"tokenFile .*/none can't be read"):
        connect({"tokenFile": "none"})


def test_impersonation_is_sent_with_every_request(api: Api, connect: Any) -> None:
    extra = {"scopes": ["view", "list"], "example.com/a": ["é"]}
    bay = connect({"token": "abc", "as": "bot", "as-uid": "7", "as-groups": ["one", "two"], "as-user-extra": extra})
    bay.scale("web", 2)
    bay.ask(driver.Verb.DELETE, "web")
    with bay.watch("web") as watch:
        watch.next(0.3)
    assert {"GET", "PATCH", "DELETE"} <= {path.split()[0] for path, _ in api.heads}
    assert any("watch=" in path for path, _ in api.heads)
    for path, head in api.heads:
        assert (head["Impersonate-User"], head["Impersonate-Uid"]) == ("bot", "7"), path
        assert head.get_all("Impersonate-Group") == ["one", "two"], path
        assert head.get_all("Impersonate-Extra-Scopes") == ["view", "list"], path
        assert head["Impersonate-Extra-example.com%2Fa"].encode("latin-1").decode() == "é", path
        assert head["Authorization"] == "Bearer abc", path


@pytest.mark.parametrize(
    "user, said",
    [
        ({"as-groups": ["x"]}, "need a user that `as` names"),
        ({"as": "a\nb"}, "as holds a control character"),
        ({"as": "a", "as-groups": "x"}, "as-groups is a list"),
        ({"auth-provider": {"name": "gcp"}}, "auth-provider 'gcp' gave no token"),
        ({"auth-provider": {"name": "azure", "config": {"access-token": "x"}}}, "auth-provider 'azure' gave no token"),
        ({"auth-provider": {"name": "oidc", "config": {"client-id": "x"}}}, "auth-provider 'oidc' gave no token"),
    ],
)
def test_users_that_cant_be_are_refused_in_one_line(api: Api, connect: Any, user: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        connect(user)
    assert "\n" not in str(refused.value) and not api.heads


def test_a_context_without_a_user_is_anonymous(api: Api, connect: Any) -> None:
    for given in ({"user": {}, "named": False}, {"user": None}, {"user": {}}):
        connect(**given)
        assert "Authorization" not in api.heads[-1][1]


def _plugin(folder: Path, script: str) -> dict[str, Any]:
    file = folder / "get-token.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./get-token.sh", "installHint": "get\nit"}}


def _credential(status: Any) -> str:
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"echo '{json.dumps(said)}'"


def test_a_relative_plugin_is_found_beside_the_kubeconfig(api: Api, connect: Any, tmp_path: Path) -> None:
    connect(_plugin(tmp_path, _credential({"token": "abc"})))
    assert api.heads[-1][1]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    "script, said",
    [
        ("echo log in first >&2; exit 3", "gave no credential: exec: process returned 3. log in first"),
        ("echo hello", "gave no credential"),
        (_credential({}), "gave no credential: neither token nor"),
        (_credential({"token": ""}), "gave no credential: neither token nor"),
        (_credential(None), "gave no credential"),
        (_credential({"clientCertificateData": "x"}), "without its key"),
        ("kill -9 $$", "gave no credential"),
    ],
)
def test_a_plugin_that_gives_nothing_does_not_make_us_anonymous(
    api: Api, connect: Any, tmp_path: Path, script: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        connect(_plugin(tmp_path, script))
    assert "\n" not in str(refused.value) and not api.heads


@pytest.mark.parametrize("command", ["no-such-plugin", "./no-such-plugin"])
def test_a_missing_plugin_is_told_with_its_hint(api: Api, connect: Any, tmp_path: Path, command: str) -> None:
    user = _plugin(tmp_path, "")
    user["exec"]["command"] = command
    with pytest.raises(BadInput, match="no-such-plugin is not there or can't be run: get it"):
        connect(user)
    assert not api.heads


def test_a_cluster_that_is_not_checked_is_told(connect: Any, tmp_path: Path) -> None:
    connect({}, {"insecure-skip-tls-verify": True})
    assert kubeconfig.insecure(kubeconfig.read(str(tmp_path / "kubeconfig"), ""))
    connect({})
    assert not kubeconfig.insecure(kubeconfig.read(str(tmp_path / "kubeconfig"), ""))
    with pytest.raises(BadInput, match="insecure-skip-tls-verify and a certificate authority"):
        connect({}, {"insecure-skip-tls-verify": True, "certificate-authority-data": "eA=="})


@pytest.mark.parametrize("url", ["ftp://me:word@127.0.0.1:9", "127.0.0.1:9"])
def test_a_proxy_that_cant_be_used_is_refused_without_its_password(connect: Any, url: str) -> None:
    with pytest.raises(BadInput, match="proxy-url must begin with") as refused:
        connect({}, {"proxy-url": url})
    assert "word" not in str(refused.value)


# watches


def _pod(name: str) -> Any:
    meta = {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": {"containers": [{"name": "main", "ports": [{"containerPort": 80}]}]}, "status": {}}


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


@pytest.mark.parametrize(
    "trouble, said",
    [
        ((429, {"Retry-After": "1"}, {"message": "too many requests"}), "429 too many requests"),
        ((429, {"Retry-After": "soon"}, {"message": "too many requests"}), "429 too many requests"),
        ((410, {}, GONE), "410 too old"),
        ((200, {}, [{"type": "ERROR", "object": GONE}]), "too old resource version"),
        ((500, {}, {"message": "etcd"}), "500 etcd"),
        ((503, {}, None), "503 Service Unavailable"),
        ((0, {}, None), "watching pods"),
        ((200, {}, []), "ended at once"),
    ],
)
def test_a_watch_that_is_refused_once_lists_again_and_tells(api: Api, connect: Any, trouble: Answer, said: str) -> None:
    bay = connect({})
    api.pods = [_pod("a")]
    api.watch = [trouble, (200, {}, [{"type": "ADDED", "object": _pod("a")}, {"type": "ADDED", "object": _pod("b")}])]
    seen, told = [], queue.SimpleQueue[str]()
    with bay.watch("web") as watch:
        while len(seen) < 2:
            change = watch.next(5.0)
            assert change is not None
            seen.append((change.kind, change.instance.id))
        told = watch.interruptions
    assert seen == [("added", "a"), ("added", "b")]
    assert said in told.get(timeout=1)


@pytest.mark.parametrize(
    "trouble", [(429, {}, {"message": "busy"}), (410, {}, GONE), (200, {}, [{"type": "ERROR", "object": GONE}])]
)
def test_a_watch_that_is_refused_for_ever_is_an_error(
    api: Api, connect: Any, trouble: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TRIES", 3)
    api.watch = [trouble]
    with connect({}).watch("web") as watch, pytest.raises(EngineError, match=r"busy|too old"):
        watch.next(10.0)
    assert api.lists == 4


def test_a_watch_that_is_not_allowed_is_an_error_at_once(api: Api, connect: Any) -> None:
    api.watch = [(403, {}, {"message": "pods is forbidden"})]
    with connect({}).watch("web") as watch, pytest.raises(EngineError, match="forbidden"):
        watch.next(5.0)
    assert api.lists == 1
