"""Where Docker is when nobody says: as its own command line finds it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ...contract import BadInput

SOCKET = "unix:///var/run/docker.sock"


def find(context: str) -> tuple[str, dict[str, str]]:
    """The URL, and the paths of "ca", "cert" and "key" where it is TLS. By a context's name, else by DOCKER_HOST, the context
    in use, or the socket. Raises BadInput for a context that isn't there, or one by ssh."""
    if not context and (host := os.environ.get("DOCKER_HOST")):
        folder = Path(os.environ.get("DOCKER_CERT_PATH") or _folder())
        verify = os.environ.get("DOCKER_TLS_VERIFY")
        return _url(host, "DOCKER_HOST"), {n: str(folder / f"{n}.pem") for n in ("ca", "cert", "key")} if verify else {}
    name = context or os.environ.get("DOCKER_CONTEXT") or _current()
    if name in ("", "default"):
        return SOCKET, {}
    digest = hashlib.sha256(name.encode()).hexdigest()
    try:
        meta = json.loads((_folder() / "contexts/meta" / digest / "meta.json").read_text())
        host = meta["Endpoints"]["docker"]["Host"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"Docker has no context '{name}' in {_folder()} (docker context ls)") from None
    folder = _folder() / "contexts/tls" / digest / "docker"
    tls = {n: str(folder / f"{n}.pem") for n in ("ca", "cert", "key") if (folder / f"{n}.pem").exists()}
    return _url(host, f"context '{name}'"), tls


def _url(host: str, what: str) -> str:
    if host.startswith("ssh://"):
        raise BadInput(f"{what} is by ssh, which coebench can't: forward the socket (ssh -L) and give its url=unix://…")
    return host


def _folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _current() -> str:
    try:
        return str(json.loads((_folder() / "config.json").read_text()).get("currentContext") or "")
    except (OSError, ValueError, AttributeError):
        return ""
