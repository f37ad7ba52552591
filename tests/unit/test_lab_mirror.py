"""Where packages come from on machines of other suites and distributions, and what is said of a mirror that can't be used."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coebench.contract import BadInput
from coebench.lab import mirror, trees

BOOKWORM = """\
http://one.example/debian/|bookworm|bookworm|main|Debian
http://one.example/debian/|bookworm-updates|bookworm-updates|main|Debian
http://one.example/debian/|bookworm|bookworm|contrib|Debian
http://one.example/debian-security/|bookworm-security|bookworm-security|main|Debian
http://two.example/|bookworm|bookworm|main|HashiCorp
"""
TRIXIE = BOOKWORM.replace("bookworm", "trixie")


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of keys, the only one that there is."""
    file = tmp_path / "debian-archive-keyring.gpg"
    file.write_bytes(b"keys")
    monkeypatch.setattr(mirror, "KEYRINGS", (str(file),))
    monkeypatch.delenv(mirror.KEYRING, raising=False)
    return str(file)


def lines(sources: list[mirror.Source]) -> list[str]:
    return sorted(source.line() for source in sources)


def test_the_machines_own_suite_is_taken_as_apt_has_it(keys: str) -> None:
    assert lines(mirror.derived("bookworm", BOOKWORM)) == [
        "deb http://one.example/debian-security/ bookworm-security main",
        "deb http://one.example/debian/ bookworm main",
        "deb http://one.example/debian/ bookworm-updates main",
    ]


def test_another_suite_comes_from_the_same_mirror_and_is_checked_with_debians_keys(keys: str) -> None:
    signed = f"[signed-by={keys}]"
    assert lines(mirror.derived("bookworm", TRIXIE)) == [
        f"deb {signed} http://one.example/debian-security/ bookworm-security main",
        f"deb {signed} http://one.example/debian/ bookworm main",
        f"deb {signed} http://one.example/debian/ bookworm-updates main",
    ]


def test_a_suite_in_the_making_has_itself_alone(keys: str) -> None:
    assert [source.suite for source in mirror.derived("forky", TRIXIE)] == ["forky"]


def test_a_source_that_says_stable_is_known_by_its_code_name(keys: str) -> None:
    stable = "http://one.example/debian|stable|trixie|main|Debian\n"
    assert [source.suite for source in mirror.derived("trixie", stable)] == ["trixie"]
    assert [source.suite for source in mirror.derived("bookworm", stable)] == ["bookworm"]


def test_a_machine_that_has_both_suites_uses_its_own(keys: str) -> None:
    found = mirror.derived("bookworm", TRIXIE + "http://three.example/debian|bookworm|bookworm|main|Debian\n")
    assert lines(found) == ["deb http://three.example/debian bookworm main"]


@pytest.mark.parametrize("configured", ["", "http://u.example/ubuntu|jammy|jammy|main|Ubuntu\n", "nonsense\n"])
def test_no_source_of_debians(configured: str, keys: str) -> None:
    assert mirror.derived("bookworm", configured) == []


def test_a_named_mirror(keys: str) -> None:
    found = mirror.named("bookworm", "https://three.example/debian https://three.example/debian-security")
    assert lines(found) == [
        f"deb [signed-by={keys}] https://three.example/debian bookworm main",
        f"deb [signed-by={keys}] https://three.example/debian-security bookworm-security main",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("three.example", "'three.example' is not a URI"),
        ("//me:secret@three.example", "is not a URI"),
        ("https://three.example/debian-security", "names no mirror of Debian itself"),
    ],
)
def test_a_name_that_is_none(given: str, said: str, keys: str) -> None:
    with pytest.raises(BadInput, match=said) as told:
        mirror.named("bookworm", given)
    assert "secret" not in str(told.value)


def test_no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mirror, "KEYRINGS", (str(tmp_path / "none"),))
    with pytest.raises(BadInput, match="Install the package debian-archive-keyring"):
        mirror.derived("bookworm", TRIXIE)
    monkeypatch.setenv(mirror.KEYRING, str(tmp_path / "mine"))
    with pytest.raises(BadInput, match="is not a file"):
        mirror.derived("bookworm", TRIXIE)
    (tmp_path / "mine").write_bytes(b"keys")
    assert mirror.derived("bookworm", TRIXIE)[0].keyring == str(tmp_path / "mine")


# the words of apt 2.6 and 3.0
@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (
            "E: The repository 'http://h/debian bookworm Release' does not have a Release file.",
            "the mirror lacks Debian bookworm",
        ),
        ("E: Failed to fetch http://h/debian/pool/x.deb  404  Not Found [IP: 127.0.0.1 80]", "the mirror lacks Debian bookworm"),
        ("E: Release file for http://h/debian/dists/sid/InRelease is expired (invalid since 3d).", "index is past its date"),
        ("E: Release file for http://h/InRelease is not valid yet (invalid for another 2h).", "clock is behind"),
        ("W: GPG error: http://h bookworm InRelease: ... not available: NO_PUBKEY 6ED0E7B82643E131", "debian-archive-keyring"),
        (
            "W: OpenPGP signature verification failed: http://h trixie InRelease: Missing key 4CB50190207B4758",
            "debian-archive-keyring",
        ),
        ("W: Failed to fetch http://h/InRelease  Temporary failure resolving 'h'", "can't be reached"),
        ("E: Failed to fetch http://h/x  Could not connect to h:80 (127.0.0.1). - connect (111: Connection refused)", "reached"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "the disk is full"),
        ("E: something else", ""),
    ],
)
def test_what_to_do_about_apts_errors(errors: str, said: str) -> None:
    advice = mirror.explained(errors, "Debian bookworm")
    assert said in advice and bool(said) == bool(advice)


def test_a_failing_command_tells_the_advice_and_no_password(tmp_path: Path) -> None:
    script = 'echo "E: Failed to fetch http://me:secret@h/x  Could not connect to h:80" >&2; exit 100'
    with pytest.raises(BadInput) as told:
        trees.run(["sh", "-c", script])
    assert "the mirror can't be reached" in str(told.value)
    assert "http://h/x" in str(told.value) and "secret" not in str(told.value)
    assert "\n" not in str(told.value)


class _Empty(http.server.BaseHTTPRequestHandler):
    """A server that has nothing."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def empty() -> Iterator[str]:
    """The address of a server that has nothing."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(not shutil.which("apt-get"), reason="this machine has no apt")
def test_real_apt_and_a_mirror_that_has_nothing(empty: str, keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(mirror.MIRROR, f"http://me:secret@{empty}/debian")
    with pytest.raises(BadInput, match="the mirror lacks Debian bookworm") as told:
        trees.download(("hello",), tmp_path, "bookworm")
    assert "secret" not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.skipif(not shutil.which("apt-get"), reason="this machine has no apt")
def test_real_apt_and_a_mirror_that_nobody_runs(keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]  # nobody listens there once it is closed
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(mirror.MIRROR, f"http://127.0.0.1:{port}/debian")
    monkeypatch.setattr(trees, "RETRIES", 0)
    with pytest.raises(BadInput, match="the mirror can't be reached"):
        trees.download(("hello",), tmp_path, "bookworm")
