"""One host's systemd, over D-Bus on a unix socket. What is asked there leaves as the contract's errors."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call
from jeepney.io.blocking import DBusConnection, prep_socket

from coebench.contract import BadInput, Conflict, EngineError, MissingService

TIMEOUT = 30.0  # seconds for an answer
NAME = "org.freedesktop.systemd1"
MANAGER = DBusAddress("/org/freedesktop/systemd1", NAME, f"{NAME}.Manager")
PROPERTIES = "org.freedesktop.DBus.Properties"
KINDS = {
    f"{NAME}.UnitExists": Conflict,
    f"{NAME}.NoSuchUnit": MissingService,
    "org.freedesktop.DBus.Error.UnknownObject": MissingService,  # a unit that is no longer loaded
}
Call = tuple[str, str, tuple[Any, ...]]  # a method of the manager, the signature of its arguments, the arguments


def path_of(url: str) -> str:
    """The socket that a URL names. Raises BadInput."""
    parts = urlsplit(url)
    if parts.scheme != "unix" or not parts.path:
        raise BadInput(f"systemd is reached by a host's D-Bus socket, unix:///PATH, not by '{url}'")
    return parts.path


class Bus:
    """A connection to a host, made anew after it broke. May be used by several threads at once."""

    MANAGER_PATH = MANAGER.object_path

    def __init__(self, host: str, url: str) -> None:
        self.host = host
        self.path = path_of(url)
        self._connection: DBusConnection | None = None
        self._lock = threading.Lock()
        self._closed = False

    def open(self) -> DBusConnection:
        """A connection of the caller's own. Raises OSError."""
        return DBusConnection(prep_socket(self.path))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    def call(self, what: str, method: str, signature: str = "", *arguments: Any) -> Any:
        """Ask the manager one thing; returns what the answer holds. Raises Conflict, MissingService, EngineError."""
        return self.calls(what, [(method, signature, arguments)])[0]

    def calls(self, what: str, asked: Iterable[Call]) -> list[Any]:
        """Ask several things in one go. All are asked, whatever becomes of one; then the first error is raised."""
        return self._answers(what, [new_method_call(MANAGER, m, s or None, a) for m, s, a in asked])

    def properties(self, what: str, asked: Sequence[tuple[str, str, str]]) -> list[Any]:
        """The values of (unit's object path, interface, property), in one go; None for those of a unit that is gone."""
        messages = [
            new_method_call(DBusAddress(path, NAME, PROPERTIES), "Get", "ss", (f"{NAME}.{interface}", name))
            for path, interface, name in asked
        ]
        return [None if a is None else a[1] for a in self._answers(what, messages, missing=None)]

    def _answers(self, what: str, messages: list[Message], missing: Any = MissingService) -> list[Any]:
        what = f"{what} on {self.host}"
        with self._lock:
            if self._closed:
                raise EngineError(what, "this connection was closed")
            try:
                if self._connection is None:
                    self._connection = self.open()
                serials = []
                for message in messages:
                    serials.append(next(self._connection.outgoing_serial))
                    self._connection.send(message, serial=serials[-1])
                replies = self._collect(set(serials))
            except OSError as e:  # TimeoutError is one
                self._drop()
                raise EngineError(what, f"{self.path}: {type(e).__name__} {e.strerror or e}") from e
        found: list[Any] = []
        for serial in serials:
            reply = replies[serial]
            if reply.header.message_type is not MessageType.error:
                found.append(reply.body[0] if reply.body else None)
                continue
            name, said = reply.header.fields.get(HeaderFields.error_name, ""), str(reply.body[0]) if reply.body else ""
            kind = KINDS.get(name, EngineError)
            if kind is not MissingService or missing is not None:
                raise kind(what, said or name)
            found.append(None)
        return found

    def _collect(self, serials: set[int]) -> dict[int, Message]:
        assert self._connection
        replies: dict[int, Message] = {}
        while serials - set(replies):
            message = self._connection.receive(timeout=TIMEOUT)
            serial = message.header.fields.get(HeaderFields.reply_serial)
            if serial in serials:
                replies[serial] = message
        return replies

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            self._connection.close()
            self._connection = None
