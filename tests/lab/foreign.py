"""What makes a lab engine look like somebody else's: TLS, and a password or a client's certificate, in front of its API.

The listener is made in the network of the thread that starts it: a bay's, in these tests.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from coebench.lab import pki

PASSWORD = "correct horse"
TOKEN = "battery.staple"


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

    `password` ("user:password") or `token`: asked for in every request, of which a connection then carries one only. `clients`:
    the authority whose certificates clients must have.
    """

    def __init__(
        self,
        address: str,
        server: tuple[Path, Path],
        target: str | tuple[str, int],
        password: str = "",
        clients: Path | None = None,
        token: str = "",
    ) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*server)
        if clients:
            self._context.load_verify_locations(clients)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._target = target
        self._wanted = b"basic " + base64.b64encode(password.encode()) if password else b""
        if token:
            self._wanted = b"token=" + token.encode()  # as DC/OS and Marathon's clients have it
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
                _exchange(client, there)

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


def _exchange(client: ssl.SSLSocket, there: socket.socket) -> None:
    """Hand on what comes, both ways, until one side ends. In one thread: OpenSSL's connections are not safe for two that read and
    write at the same time, and a broken one is seen as a server that ends it."""
    while True:
        ready = [client] if client.pending() else select.select([client, there], [], [], 120)[0]
        if not ready:
            return
        for source, to in ((client, there), (there, client)):
            if source not in ready:
                continue
            source.settimeout(0)
            try:
                data = source.recv(65536)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue  # a part of a record
            finally:
                source.settimeout(120)
            if not data:
                return
            to.sendall(data)


@contextlib.contextmanager
def closing(*fronts: Front) -> Iterator[None]:
    try:
        yield
    finally:
        for front in fronts:
            front.close()


class Foreign:
    """A cluster by the options that its owner hands out; `admin` is a driver with the owner's own access."""

    def __init__(self, coe: str, options: dict[str, str], admin: Any, folder: Path, server: tuple[Path, Path]) -> None:
        self.coe = coe
        self.options = options
        self.admin = admin
        self.folder = folder
        self.server = server  # the certificate and key of what stands in front of it

    def coebench(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run in the bay's network, where a user of the cluster would be."""
        return subprocess.run(self.command(*words, **changes), timeout=200, **self.around())

    def command(self, *words: str, **changes: str) -> list[str]:
        options = {**self.options, **changes}
        given = [w for k, v in options.items() for w in ("--option", f"{k}={v}")]
        return [sys.executable, "-m", "coebench", *words, "--provisioner", "existing", *given]

    def around(self, **env: str) -> dict[str, Any]:
        """What `subprocess` needs to know besides."""
        own = {"COEBENCH_STATE": str(self.folder / "state"), "MARATHON_PASSWORD": PASSWORD, "MARATHON_TOKEN": TOKEN}
        return {"capture_output": True, "text": True, "cwd": self.folder, "env": {**os.environ, **own, **env}}

    def found_by(self, **options: str) -> Foreign:
        """The same cluster by other options alone."""
        return Foreign(self.coe, options, self.admin, self.folder, self.server)

    def left(self) -> list[str]:
        folder = self.folder / "state/existing"
        return [p.name for p in folder.iterdir()] if folder.is_dir() else []


def user_of(foreign: Foreign, name: str, rules: list[dict[str, Any]], namespace: str) -> Path:
    """A kubeconfig of a service account with these rules in a namespace of somebody else's."""
    from kubernetes import client

    api = foreign.admin._api
    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    core.create_namespace({"metadata": {"name": namespace}})
    core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
    rbac.create_namespaced_role(namespace, {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    rbac.create_namespaced_role_binding(namespace, {"metadata": {"name": name}, "subjects": [subject], "roleRef": role})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
    answer = core.create_namespaced_service_account_token(name, namespace, body, _preload_content=False)
    content = yaml.safe_load(Path(foreign.options["kubeconfig"]).read_text())
    content["users"][0]["user"] = {"token": json.loads(answer.data)["status"]["token"]}
    file = foreign.folder / f"kubeconfig-{name}"
    file.write_text(yaml.safe_dump(content))
    return file


def expired() -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    end = datetime.datetime(2021, 6, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    made = builder.not_valid_before(end - datetime.timedelta(days=365)).not_valid_after(end).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()
