"""Images on their way to a registry: a registry of this file's own, that answers as the API's specification says, or refuses."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coebench.contract import BadInput, EngineError
from coebench.images import Registry, Where, fresh, read
from coebench.lab import images as making
from coebench.lab.registry import sent
from coebench.runner.connecting import rewritten


class Server(http.server.ThreadingHTTPServer):
    """`mode`: "open", "basic" (user:word), "token" (a token server of its own, for user:word), "deny", "full"."""

    def __init__(self, mode: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode = mode
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.sent = 0
        self.host = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def allowed(self) -> bool:
        given, basic = self.headers.get("Authorization", ""), "Basic " + base64.b64encode(b"user:word").decode()
        mode = self.server.mode
        if self.path.startswith("/token"):
            if given == basic:
                self.reply(200, json.dumps({"token": "t-" + self.path.split("scope=")[1]}).encode())
            else:
                self.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}')
            return False
        if mode == "basic" and given != basic:
            self.reply(401, b"{}", WWW_Authenticate='Basic realm="r"')
            return False
        if mode == "token" and not given.startswith("Bearer t-repository"):
            realm = f"http://{self.server.host}/token"
            self.reply(401, b"{}", WWW_Authenticate=f'Bearer realm="{realm}",service="s"')
            return False
        if mode == "deny" and self.command != "HEAD":
            self.reply(403, b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}')
            return False
        return True

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.allowed():
            return
        path, _, query = self.path.partition("?")
        last = path.rsplit("/", 1)[1]
        if "/manifests/" in path and self.command == "PUT":
            for blob in [json.loads(body)["config"], *json.loads(body)["layers"]]:
                assert len(self.server.blobs[blob["digest"]]) == blob["size"]
            self.server.manifests[path] = body
            self.reply(201)
        elif "/manifests/" in path:
            found = self.server.manifests.get(path)
            digest = "sha256:" + hashlib.sha256(found or b"").hexdigest()
            self.reply(200 if found else 404, Docker_Content_Digest=digest)
        elif self.command == "HEAD":
            self.reply(200 if last in self.server.blobs else 404)
        elif self.command == "POST":
            self.reply(500 if self.server.mode == "full" else 202, b"no space left", Location=f"{path}u1?state=x")
        else:
            digest = query.split("digest=")[1].replace("%3A", ":")
            assert digest == "sha256:" + hashlib.sha256(body).hexdigest()
            self.server.blobs[digest] = body
            self.server.sent += 1
            self.reply(201)

    do_GET = do_HEAD = do_PUT = do_POST = do


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(getattr(request, "param", "open"))
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "hello").write_text("hello\n")
    file = tmp_path / "from" / "coebench-x:v1.tar"
    file.parent.mkdir()
    file.write_bytes(making.archive(making.layer_of(root), "coebench-x:v1", {"Cmd": ["/hello"]}))
    return file


@pytest.mark.parametrize("server", ["open", "basic", "token"], indirect=True)
def test_an_image_is_pushed_once(server: Server, archive: Path) -> None:
    (image,) = read(archive)
    registry = Registry(Where.of(f"http://{server.host}/bench/a"), "user", "word")
    assert registry.digest("coebench-x", "v1") == ""
    assert registry.push(image) == f"{server.host}/bench/a/coebench-x:v1"
    assert registry.digest("coebench-x", "v1") == image.digest
    assert server.sent == 2
    registry.push(image)
    assert server.sent == 2
    assert list(server.manifests) == ["/v2/bench/a/coebench-x/manifests/v1"]


@pytest.mark.parametrize(
    ("server", "user", "said"),
    [
        ("basic", "", "give --user"),
        ("token", "", "no token .*who are you.*give --user"),
        ("deny", "user", "DENIED requested access.*may not push"),
    ],
    indirect=["server"],
)
def test_a_registry_that_refuses(server: Server, archive: Path, user: str, said: str, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (image,) = read(archive)
    with pytest.raises(BadInput, match=said):
        Registry(Where.of(f"http://{server.host}"), user, "word").push(image)
    assert server.manifests == {}


@pytest.mark.parametrize("server", ["full"], indirect=True)
def test_a_registry_that_fails(server: Server, archive: Path) -> None:
    (image,) = read(archive)
    with pytest.raises(EngineError, match="POST is answered with 500"):
        Registry(Where.of(f"http://{server.host}")).push(image)


def test_a_registry_that_is_not_there_or_has_no_tls(server: Server, archive: Path) -> None:
    (image,) = read(archive)
    with pytest.raises(EngineError, match="can't be reached"):
        Registry(Where.of("http://127.0.0.1:9")).push(image)
    with pytest.raises(EngineError, match="--plain-http"):
        Registry(Where.of(server.host)).push(image)


def test_what_docker_login_left_is_used(server: Server, archive: Path, monkeypatch: Any, tmp_path: Path) -> None:
    server.mode = "basic"
    auth = base64.b64encode(b"user:word").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (image,) = read(archive)
    Registry(Where.of(f"http://{server.host}")).push(image)
    assert server.manifests


@pytest.mark.parametrize("mode", ["basic", "token"])
def test_an_upload_that_goes_on_elsewhere_gets_no_login(server: Server, archive: Path, monkeypatch: Any, mode: str) -> None:
    server.mode = mode
    other = Server("open")
    seen: list[tuple[str, str]] = []
    send = Registry._send

    def elsewhere(self: Registry, method: str, url: str, body: Any, headers: Any, authorization: str) -> Any:
        seen.append((url, authorization))
        status, head, content = send(self, method, url, body, headers, authorization)
        if method == "POST" and status == 202:
            head = {**head, "location": f"http://localhost:{other.server_port}/upload?state=x"}
        if "localhost" in url:
            server.blobs |= other.blobs
        return status, head, content

    monkeypatch.setattr(Registry, "_send", elsewhere)
    (image,) = read(archive)
    try:
        Registry(Where.of(f"http://{server.host}"), "user", "word").push(image)
        assert other.sent == 2 and server.manifests
        assert {auth for url, auth in seen if "localhost" in url} == {""}
        other.mode, server.blobs = "basic", {}
        with pytest.raises(EngineError, match=rf"goes on at http://localhost:{other.server_port}.*login is not sent there"):
            Registry(Where.of(f"http://{server.host}"), "user", "word").push(image)
    finally:
        other.shutdown()
        other.server_close()


@pytest.mark.parametrize(
    "head, said",
    [
        ((202, {"location": "http://registry.example/upload?secret=x"}, b""), "go on without TLS at http://registry.example:80"),
        (
            (401, {"www-authenticate": 'Bearer realm="http://login.example/t"'}, b""),
            "login without TLS at http://login.example:80",
        ),
    ],
)
def test_nothing_goes_from_tls_to_plain_http(archive: Path, monkeypatch: Any, head: Any, said: str) -> None:
    asked: list[str] = []

    def send(self: Registry, method: str, url: str, *_: Any) -> Any:
        asked.append(url)
        return (404, {}, b"") if method == "HEAD" else head

    monkeypatch.setattr(Registry, "_send", send)
    (image,) = read(archive)
    with pytest.raises(EngineError, match=said):
        Registry(Where.of("registry.example"), "user", "word").push(image)
    assert all(url.startswith("https://registry.example/") for url in asked)


@pytest.mark.parametrize("text", ["docker.io/me", "https://registry-1.docker.io/me", "index.docker.io/me/"])
def test_docker_hubs_names_are_mapped(text: str, archive: Path, monkeypatch: Any, tmp_path: Path) -> None:
    """Its API is elsewhere than its name says, and `docker login` calls it by a third one."""
    auth = base64.b64encode(b"user:word").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    asked: list[tuple[str, str]] = []

    def send(self: Registry, method: str, url: str, body: Any, headers: Any, authorization: str) -> Any:
        asked.append((url, authorization))
        if url.startswith("https://auth.docker.io/"):
            return 200, {}, b'{"token": "t"}'
        if not authorization:
            return 401, {"www-authenticate": 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'}, b""
        return 200, {"docker-content-digest": "sha256:1"}, b""

    monkeypatch.setattr(Registry, "_send", send)
    there = Registry(Where.of(text))
    assert there.where.option == "docker.io/me" and there.digest("coebench-http", "v1") == "sha256:1"
    assert asked[0][0] == "https://registry-1.docker.io/v2/me/coebench-http/manifests/v1"
    assert asked[1][1] == f"Basic {auth}" and asked[2][1] == "Bearer t"


@pytest.mark.parametrize("text", ["docker.io", "bench", "ftp://a.b/c", "a.b/Upper", "a.b/x//y", "a b/c", "", "/x"])
def test_what_is_no_registry(text: str) -> None:
    with pytest.raises(BadInput):
        Where.of(text)


def test_the_command_pushes_and_lists(server: Server, archive: Path) -> None:
    def coebench(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "coebench", "images", *words, "--from", str(archive.parent), "--plain-http"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    where = f"{server.host}/bench"
    p = coebench("list", where)
    assert (p.returncode, "not there" in p.stdout) == (1, True), p.stderr
    p = coebench("push", where)
    assert p.returncode == 0, p.stderr
    assert f"--option images={where}" in p.stdout
    p = coebench("list", where)
    assert (p.returncode, p.stdout.strip().endswith("  there")) == (0, True)
    server.mode = "deny"
    server.blobs.clear()
    p = coebench("push", where)
    assert p.returncode == 2
    assert len(p.stderr.strip().splitlines()) == 1


def test_archives_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(BadInput, match="no archive of docker save"):
        read(tmp_path / "x.tar")


def test_names_are_rewritten_only_where_they_name_no_registry() -> None:
    assert rewritten("coebench-http:v1", "r.example:5000/b") == "r.example:5000/b/coebench-http:v1"
    assert rewritten("other.example/x:1", "r.example:5000/b") == "other.example/x:1"
    assert rewritten("coebench-http:v1", "") == "coebench-http:v1"


def test_a_fresh_image_has_no_layer_of_its_model_and_all_of_its_files(archive: Path) -> None:
    (model,) = read(archive)
    one, unpacked = fresh(model, "cold:a", filler=1 << 20, seed=1)
    assert (one.name, one.tag) == ("cold", "a")
    assert len(one.layers) == len(model.layers) + 1
    assert {b.digest for b in one.layers}.isdisjoint(b.digest for b in model.layers)
    tars = [gzip.decompress(layer.content) for layer in one.layers]
    assert json.loads(one.config.content)["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(t).hexdigest() for t in tars]
    assert json.loads(one.config.content)["config"] == json.loads(model.config.content)["config"]
    assert unpacked == sum(map(len, tars)) > 1 << 20
    with (
        tarfile.open(fileobj=io.BytesIO(gzip.decompress(model.layers[0].content))) as was,
        tarfile.open(fileobj=io.BytesIO(tars[0])) as now,
    ):
        assert set(now.getnames()) - set(was.getnames()) == {".coebench/0"}
    assert 0.45 < len(one.layers[-1].content) / (1 << 20) < 0.55  # half of the filler packs to nothing
    again, _ = fresh(model, "cold:a", filler=1 << 20, seed=1)
    assert again.digest == one.digest
    other, _ = fresh(model, "cold:a", filler=1 << 20, seed=2)
    assert {b.digest for b in other.layers}.isdisjoint(b.digest for b in one.layers)


def test_what_a_registry_has_sent_is_read_from_its_log() -> None:
    log = """\
time="2026-01-01T00:00:00Z" level=warning msg="No HTTP secret provided"
10.77.1.1 - - [01/Jan/2026:00:00:00 +0000] "HEAD /v2/cold/manifests/a HTTP/1.1" 200 528 "" "containerd/1.6"
10.77.1.1 - - [01/Jan/2026:00:00:00 +0000] "GET /v2/cold/manifests/a HTTP/1.1" 200 528 "" "containerd/1.6"
10.77.1.1 - - [01/Jan/2026:00:00:00 +0000] "GET /v2/cold/blobs/sha256:aa HTTP/1.1" 200 1000 "" "containerd/1.6"
10.77.1.1 - - [01/Jan/2026:00:00:00 +0000] "GET /v2/cold/blobs/sha256:bb HTTP/1.1" 206 234 "" "containerd/1.6"
10.77.1.2 - - [01/Jan/2026:00:00:01 +0000] "GET /v2/cold/blobs/sha256:aa HTTP/1.1" 404 77 "" "docker/20.10"
10.77.255.254 - - [01/Jan/2026:00:00:01 +0000] "PUT /v2/cold/blobs/uploads/1?digest=sha256%3Aaa HTTP/1.1" 201 0 "" "Python"
10.77.9.9 - - [01/Jan/2026:00:00:01 +0000] "GET /v2/cold/blobs/sha256:aa HTTP/1.1" 200 5 "" "curl"
"""
    assert sent(log, {"10.77.1.1": "n1", "10.77.1.2": "n2"}) == {"n1": 1234, "10.77.9.9": 5}
    assert sent("", {}) == {}
