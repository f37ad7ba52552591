"""An authority without key identifiers, as Magnum's: the engines' tools take it, Python 3.13 by itself does not."""

from __future__ import annotations

import datetime
import http.server
import importlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coebench.contract import Access, EngineError, tls


def _pair(
    folder: Path, name: str, signer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
) -> tuple[Path, Path, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, by = signer or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number())
    built = built.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    built = built.add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    if signer:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    cert, file = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(built.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return cert, file, key


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """An HTTPS server's port and its authority's certificate."""
    ca, _, key = _pair(tmp_path, "ca", None)
    cert, file, _ = _pair(tmp_path, "server", (x509.load_pem_x509_certificate(ca.read_bytes()).subject, key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, file)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1], ca
    made.shutdown()
    made.server_close()


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What urllib3 does on Python 3.13, on any."""

    def make(**kw: object) -> ssl.SSLContext:
        context = plain(**kw)  # type: ignore[arg-type]
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    plain = urllib3.util.ssl_.create_urllib3_context
    monkeypatch.setattr(urllib3.connection, "create_urllib3_context", make)
    monkeypatch.setattr(tls, "create_urllib3_context", make)


@pytest.mark.usefixtures("strict")
def test_an_authority_without_key_identifiers_is_taken(server: tuple[int, Path]) -> None:
    port, ca = server
    manager = urllib3.PoolManager(ca_certs=str(ca), retries=False)
    with pytest.raises(urllib3.exceptions.SSLError, match="Missing Authority Key Identifier"):
        manager.request("GET", f"https://localhost:{port}/")
    manager = urllib3.PoolManager(ca_certs=str(ca), retries=False)
    tls.relax(manager)
    assert manager.request("GET", f"https://localhost:{port}/").status == 204
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(ca)
        tls.relax_session(session)
        assert session.get(f"https://localhost:{port}/", timeout=10).status_code == 204


@pytest.mark.usefixtures("strict")
def test_everything_else_is_checked(server: tuple[int, Path], tmp_path: Path) -> None:
    port, ca = server
    (tmp_path / "other").mkdir()
    other, _, _ = _pair(tmp_path / "other", "ca", None)
    for bundle, host, said in (
        (str(other), "localhost", "certificate verify failed"),
        (None, "localhost", "verify failed"),
        (str(ca), "127.0.0.1", "doesn't match|not valid"),
    ):
        manager = urllib3.PoolManager(ca_certs=bundle, retries=False)
        tls.relax(manager)
        with pytest.raises(urllib3.exceptions.SSLError, match=said):
            manager.request("GET", f"https://{host}:{port}/")
    manager = urllib3.PoolManager(cert_reqs="CERT_NONE", retries=False)
    tls.relax(manager)
    with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
        assert manager.request("GET", f"https://127.0.0.1:{port}/").status == 204


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("coe", ["swarm", "docker"])
def test_docker_with_a_client_certificate_and_no_authority_checks_the_server(
    server: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coe: str
) -> None:
    port, ca = server
    pair = {"cert": (tmp_path / "server.pem").read_text(), "key": (tmp_path / "server.key").read_text()}
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "drivers/docker")
    module = importlib.import_module(f"coebench_{coe}.driver")
    connect = getattr(module, f"{coe.title()}Driver").connect
    with pytest.raises(EngineError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(Access(coe=coe, url=f"tcp://localhost:{port}", **pair))
    with pytest.raises(EngineError) as caught:
        connect(Access(coe=coe, url=f"tcp://localhost:{port}", ca=ca.read_text(), **pair))
    assert "CERTIFICATE" not in str(caught.value)  # it is taken; no Docker answers there
