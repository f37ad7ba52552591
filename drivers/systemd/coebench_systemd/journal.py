"""What instances wrote: the host's journal by systemd-journal-gatewayd, on a socket beside the one of D-Bus."""

from __future__ import annotations

import http.client
import json
import os
import socket
from urllib.parse import quote

from coebench.contract import EngineError

TIMEOUT = 10.0  # seconds


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def there(bus: str) -> bool:
    return os.path.exists(_beside(bus))


def tail(what: str, bus: str, unit: str, lines: int) -> str:
    """The last lines that a unit's processes wrote. Raises EngineError."""
    connection = _Connection(_beside(bus))
    try:
        headers = {"Accept": "application/json", "Range": f"entries=:-{lines}:{lines}"}
        connection.request("GET", f"/entries?_SYSTEMD_UNIT={quote(unit)}&_TRANSPORT=stdout", headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status >= 300:
            raise EngineError(what, f"the journal's gateway: {answer.status} {text}")
    except (OSError, http.client.HTTPException) as e:
        raise EngineError(what, f"the journal's gateway: {type(e).__name__} {e}") from e
    finally:
        connection.close()
    return "\n".join(_words(json.loads(line)["MESSAGE"]) for line in text.splitlines() if line)


def _words(message: object) -> str:
    """What is no text comes as a list of bytes."""
    return bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)


def _beside(bus: str) -> str:
    return os.path.join(os.path.dirname(bus), "journal")
