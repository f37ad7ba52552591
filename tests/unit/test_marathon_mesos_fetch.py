"""Fetching libmesos: from whichever index pip is configured with, resumed, and refused if it is not the one known."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coebench.lab.mesos import fetch

LIBRARY = b"not really a library " * 5000


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in (("./usr/lib/x.py", b"x"), ("./usr/lib/mesos/scheduler/_scheduler.so", LIBRARY)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


ARCHIVE = archive()


class Index(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.page = f'<a href="../../files/{fetch.ARCHIVE}#sha256={hashlib.sha256(ARCHIVE).hexdigest()}">x</a>'
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(f"{self.path} {asked}".strip())
        if self.path == "/simple/mesos-scheduler/":
            body, status = self.server.page.encode(), 200
        elif self.path == f"/files/{fetch.ARCHIVE}":
            begin = re.fullmatch(r"bytes=(\d+)-", asked)
            body, status = (ARCHIVE[int(begin[1]) :], 206) if begin else (ARCHIVE, 200)
        else:
            body, status = b"", 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    server = Index()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(fetch, "_pip", lambda *words: "")
    monkeypatch.setattr(fetch, "LIBRARY_SHA256", hashlib.sha256(LIBRARY).hexdigest())
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


def test_fetches_once(index: Index, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    library = fetch.fetch(tmp_path, lambda have, total: seen.append((have, total)))
    assert library.read_bytes() == LIBRARY
    assert seen[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert fetch.fetch(tmp_path) == library
    assert len(index.asked) == 2
    assert {p.name for p in tmp_path.iterdir()} == {fetch.LIBRARY, ".fetch.lock"}


def test_goes_on_where_it_stopped(index: Index, tmp_path: Path) -> None:
    (tmp_path / (fetch.ARCHIVE + ".part")).write_bytes(ARCHIVE[:100])
    fetch.fetch(tmp_path)
    assert index.asked[-1] == f"/files/{fetch.ARCHIVE} bytes=100-"


def test_begins_again_if_the_first_part_was_of_something_else(index: Index, tmp_path: Path) -> None:
    (tmp_path / (fetch.ARCHIVE + ".part")).write_bytes(b"?" * 100)
    assert fetch.fetch(tmp_path).read_bytes() == LIBRARY


def test_refuses_another_library(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LIBRARY_SHA256", "0" * 64)
    with pytest.raises(fetch.FetchError, match="refused"):
        fetch.fetch(tmp_path)
    assert not (tmp_path / fetch.LIBRARY).exists()


def test_says_where_it_was_not_found(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.page = "nothing"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@127.0.0.1:{index.server_port}/simple")
    with pytest.raises(fetch.FetchError, match="does not list") as failed:
        fetch.fetch(tmp_path)
    assert "secret" not in str(failed.value)
