"""Get libmesos: the one file of PyPI's ``mesos.scheduler`` 1.11.0 that holds all of Apache Mesos.

pip itself cannot be asked for it: since 24.1 it does not list the old "dumb" format the file is published
in.  So the package's page is read from the index that pip is configured with, the archive is fetched the
way pip's settings say (certificate, proxy), and what comes out has to have one known SHA-256.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import html.parser
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

PROJECT = "mesos-scheduler"
ARCHIVE = "mesos.scheduler-1.11.0.linux-x86_64.tar.gz"
LIBRARY = "_scheduler.so"
LIBRARY_SHA256 = "84d7ee9af27e912636b139de40257df1ee4f56c201de6bba834278aa1e8fd64c"
TRIES = 4

Progress = Callable[[int, int], None]
"""Called with bytes so far and bytes in all (0 if the server does not say)."""


class FetchError(Exception):
    """The library cannot be had; the message says from where it was asked for and what to do."""


def fetch(folder: Path, progress: Progress | None = None) -> Path:
    """Put the library into ``folder`` and return its path; at once if it is there already.

    Interrupted downloads go on where they stopped.  Two callers at once take turns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / LIBRARY
    with open(folder / ".fetch.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists() and sha256(target) == LIBRARY_SHA256:
            return target
        archive = folder / ARCHIVE
        settings = PipSettings()
        if not archive.exists():
            _download(settings, folder, archive, progress)
        try:
            _extract(archive, target)
        finally:
            archive.unlink(missing_ok=True)
    return target


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PipSettings:
    """The index addresses, certificate and proxy that this Python's pip would use."""

    def __init__(self) -> None:
        found: dict[str, str] = {}
        for line in _pip("config", "list").splitlines():  # e.g. global.index-url='…'; what counts more comes later
            name, _, value = line.partition("=")
            section, _, key = name.rpartition(".")
            if section in ("global", "download"):
                found[key] = value.strip().strip("'\"")
        for key in ("index-url", "extra-index-url", "cert", "proxy", "timeout", "default-timeout"):
            if given := os.environ.get("PIP_" + key.upper().replace("-", "_")):
                found[key] = given
        indexes = [found.get("index-url") or _default_index()]
        indexes += found.get("extra-index-url", "").replace("\\n", " ").split()
        self.indexes = [i.rstrip("/") for i in indexes]
        proxy = found.get("proxy")
        context = ssl.create_default_context(cafile=found.get("cert") or None)
        proxies = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None)
        self._opener = urllib.request.build_opener(proxies, urllib.request.HTTPSHandler(context=context))
        self._timeout = float(found.get("default-timeout") or found.get("timeout") or 30)

    def open(self, url: str, start: int = 0):  # type: ignore[no-untyped-def]
        """GET ``url`` from byte ``start`` on."""
        parts = urllib.parse.urlsplit(url)
        headers = {"User-Agent": "coebench", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        if parts.username:  # an index with a password in its address
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
            url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return self._opener.open(urllib.request.Request(url, headers=headers), timeout=self._timeout)


def _pip(*words: str) -> str:
    try:
        done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return done.stdout


def _default_index() -> str:
    """pip's own built-in default, so that no registry is named here."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise FetchError("no package index is configured (PIP_INDEX_URL) and pip is not installed beside coebench")
    return done.stdout.strip()


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _addresses(settings: PipSettings, said: list[str]) -> Iterator[str]:
    for index in settings.indexes:
        page = f"{index}/{PROJECT}/"
        try:
            with settings.open(page) as answer:
                links = _Links()
                links.feed(answer.read().decode("utf-8", "replace"))
                base = answer.url
        except (OSError, ValueError) as error:
            said.append(f"{_public(page)}: {error}")
            continue
        hits = [h for h in links.hrefs if urllib.parse.unquote(urllib.parse.urlsplit(h).path).endswith("/" + ARCHIVE)]
        if not hits:
            said.append(f"{_public(page)}: does not list {ARCHIVE}")
        for href in hits:
            yield urllib.parse.urljoin(base, href)


def _public(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _download(settings: PipSettings, folder: Path, archive: Path, progress: Progress | None) -> None:
    said: list[str] = []
    for address in _addresses(settings, said):
        url, _, fragment = address.partition("#")
        want = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
        part = folder / (ARCHIVE + ".part")
        for _ in range(TRIES):
            try:
                _continue(settings, url, part, progress)
            except urllib.error.HTTPError as error:
                said.append(f"{_public(url)}: {error}")
                if error.code == 416:  # what is there is longer than the file: begin again
                    part.unlink(missing_ok=True)
                    continue
                break
            except OSError as error:
                said.append(f"{_public(url)}: {error}")
                continue
            if want and sha256(part) != want:
                said.append(f"{_public(url)}: the SHA-256 is not the one that the index gives")
                part.unlink()
                continue
            part.rename(archive)
            return
    raise FetchError(f"cannot fetch {ARCHIVE}:\n  " + "\n  ".join(said or ["no index is configured"]))


def _continue(settings: PipSettings, url: str, part: Path, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    with settings.open(url, have) as answer:
        if have and getattr(answer, "status", 200) != 206:  # the server sends all of it again
            have = 0
        length = int(answer.headers.get("Content-Length") or 0)
        total = have + length if length else 0
        with open(part, "r+b" if have else "wb") as out:
            out.seek(have)
            while block := answer.read(1 << 18):
                out.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
    if total and have < total:
        raise OSError(f"the connection ended after {have} of {total} bytes")


def _extract(archive: Path, target: Path) -> None:
    part = target.with_name(target.name + f".{os.getpid()}")
    try:
        with tarfile.open(archive) as tar:
            inside = next((m for m in tar if m.isfile() and m.name.endswith("/" + LIBRARY)), None)
            stream = tar.extractfile(inside) if inside else None
            if stream is None:
                raise FetchError(f"{ARCHIVE} holds no {LIBRARY}")
            with open(part, "wb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
        if (got := sha256(part)) != LIBRARY_SHA256:
            raise FetchError(f"{LIBRARY} has SHA-256 {got}, not {LIBRARY_SHA256}: refused")
        part.chmod(0o644)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1])))
