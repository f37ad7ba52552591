"""A client's key is on the disk while its connection is open, and not after a connection that failed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from coebench import plugins
from coebench.contract import Access, EngineError
from coebench.lab import pki


@pytest.mark.parametrize(("coe", "url"), [("swarm", "tcp://127.0.0.1:1"), ("mesos", "https://127.0.0.1:1")])
def test_a_connection_that_fails_leaves_no_key(coe: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ca = pki.Authority.new("somebody")
    cert, key = ca.sign("client", "somebody")
    with pytest.raises(EngineError):
        plugins.load("drivers", coe, "COE").connect(Access(coe=coe, url=url, ca=ca.cert, cert=cert, key=key))
    assert list(tmp_path.iterdir()) == []
