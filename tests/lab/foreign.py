"""What makes a lab engine look like somebody else's: TLS, and a password or a client's certificate, in front of its API.

The listener is made in the network of the thread that starts it: a bay's, in these tests.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from coebench.lab import pki


class Certificates:
    """A certificate authority of a foreign cluster's own, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = pki.Authority.new("foreign")
        self.ca = self._write("ca.pem", self._authority.cert)

    def pair(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        cert, key = self._authority.sign(name, names=addresses)
        return self._write(f"{name}-cert.pem", cert), self._write(f"{name}-key.pem", key)

    def _write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file


class Front:
    """Ends TLS and hands on what comes, if the client may. `target`: a path of a unix socket, or (address, port).

    `password` ("user:password"): asked for in every request, of which a connection then carries one only. `clients`: the
    authority whose certificates clients must have.
    """

    def __init__(
        self,
        address: str,
        server: tuple[Path, Path],
        target: str | tuple[str, int],
        password: str = "",
        clients: Path | None = None,
    ) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*server)
        if clients:
            self._context.load_verify_locations(clients)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._target = target
        self._wanted = b"basic " + base64.b64encode(password.encode()) if password else b""
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, ValueError):
            raw.settimeout(120)
            with self._context.wrap_socket(raw, server_side=True) as client, self._connect() as there:
                if self._wanted:
                    self._one_request(client, there)
                back = threading.Thread(target=_pump, args=(there, client), daemon=True)
                back.start()
                _pump(client, there)
                back.join()

    def _one_request(self, client: ssl.SSLSocket, there: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := client.recv(65536)):
                raise ValueError("no request")
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        named = {f.partition(b":")[0].strip().lower(): f.partition(b":")[2].strip() for f in fields}
        given = named.get(b"authorization", b"")
        if given[:6].lower() + given[6:] != self._wanted:
            client.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            raise ValueError("refused")
        kept = [f for f in fields if not f.lower().startswith((b"connection:", b"authorization:"))]
        there.sendall(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]) + body)

    def _connect(self) -> socket.socket:
        if isinstance(self._target, tuple):
            return socket.create_connection(self._target)
        there = socket.socket(socket.AF_UNIX)
        there.connect(self._target)
        return there

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pump(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError, ValueError):
        while data := source.recv(65536):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def closing(*fronts: Front) -> Iterator[None]:
    try:
        yield
    finally:
        for front in fronts:
            front.close()
