"""A client's key is on the disk while its connection is open, and not after a connection that failed; where a process was killed,
`clean` finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from coebench import api, plugins
from coebench.contract import Access, BadInput, EngineError, drop_private, private_folder
from coebench.lab import pki


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user's keys are kept."""
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    return tmp_path / "state/private"


def access(coe: str, url: str) -> Access:
    ca = pki.Authority.new("somebody")
    cert, key = ca.sign("client", "somebody")
    return Access(coe=coe, url=url, ca=ca.cert, cert=cert, key=key)


@pytest.mark.parametrize(("coe", "url"), [("swarm", "tcp://127.0.0.1:1"), ("mesos", "https://127.0.0.1:1")])
def test_a_connection_that_fails_leaves_no_key(coe: str, url: str, kept: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        plugins.load("drivers", coe, "COE").connect(access(coe, url))
    assert [f for f in kept.rglob("*") if f.is_file()] == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_folder_is_nobody_else_s(kept: Path) -> None:
    assert private_folder() == private_folder()
    assert [f.stat().st_mode & 0o777 for f in (kept, private_folder())] == [0o700, 0o700]


def test_a_folder_that_can_t_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))
    with pytest.raises(BadInput, match="where keys are kept, can't be used"):
        private_folder()


KILLED = """
import base64, os, signal, sys
from coebench import plugins
from coebench.contract import Access, EngineError
kubeconfig = open(sys.argv[1]).read()
try:
    plugins.load("drivers", "k8s", "COE").connect(Access(coe="k8s", kubeconfig=kubeconfig))
except EngineError:
    os.kill(os.getpid(), int(sys.argv[2]))
"""


def test_the_keys_of_a_killed_process_are_cleaned_and_nobody_else_s(kept: Path, tmp_path: Path) -> None:
    import base64

    a = access("k8s", "https://127.0.0.1:1")
    data = {k: base64.b64encode(v.encode()).decode() for k, v in (("ca", a.ca), ("cert", a.cert), ("key", a.key))}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": a.url, "certificate-authority-data": data["ca"]}}],
        "users": [{"name": "x", "user": {"client-certificate-data": data["cert"], "client-key-data": data["key"]}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))

    def run(signal: int) -> int:
        return subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "kubeconfig"), str(signal)]).returncode

    def keys() -> list[Path]:
        return [f for f in kept.rglob("*") if f.is_file()]

    assert run(0) == 0  # which ends as it should
    assert keys() == []
    assert run(9) == -9
    assert len(keys()) == 3
    (private_folder() / "mine").touch()
    assert drop_private() == 1
    assert [f.name for f in keys()] == ["mine"]
    assert list((tmp_path / "tmp").iterdir()) == []  # and nothing was anywhere else


def test_clean_tells_of_keys(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Provisioner:
        def clean(self) -> tuple[str, ...]:
            return ("lab bay x",)

    monkeypatch.setattr(plugins, "load", lambda *_: Provisioner)
    assert api.clean() == ("lab bay x",)
    os.makedirs(kept / "process-dead")
    assert api.clean() == ("lab bay x", "the keys of 1 processes that have ended")
