"""Credentials for a bay: a key of this process, signed by Magnum for that bay."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ...contract import Access, BayFailed
from .clusters import Clusters

MARATHON = 8080


def of(clusters: Clusters, coe: str, cluster: Any, tls: bool, nodes: dict[str, str] | None = None) -> Access:
    """Access to a cluster's engine. `nodes`: node name → address, for Swarm, whose nodes have an API too. Raises BayFailed."""
    if not cluster.api_address:
        raise BayFailed(f"cluster {cluster.name} has no API address")
    ca = cert = secret = ""
    if tls:
        secret, request = _request()
        magnum = clusters.cloud.magnum
        signed = clusters.ask("signing a certificate", lambda: magnum.certificates.create(cluster_uuid=cluster.uuid, csr=request))
        authority = clusters.ask(
            "asking for the authority", lambda: magnum.certificates.get(cluster_uuid=cluster.uuid), safe=True
        )
        ca, cert = authority.pem, signed.pem
    if coe == "k8s":
        return Access(coe=coe, url=cluster.api_address, kubeconfig=_kubeconfig(cluster.api_address, ca, cert, secret))
    if coe == "swarm":
        near = {name: f"tcp://{address}:2376" for name, address in (nodes or {}).items()} if tls else {}
        return Access(coe=coe, url=_docker(cluster.api_address, tls), ca=ca, cert=cert, key=secret, nodes=near)
    return Access(coe=coe, url=_marathon(cluster.api_address), ca=ca, cert=cert, key=secret)


@functools.cache
def key() -> rsa.RSAPrivateKey:
    """One for all bays of this process: making one is no part of a bay's life, so `prepare` has it made beforehand."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _request() -> tuple[str, str]:
    """The key and a request that names the administrator, as Kubernetes knows one (the others do not look at names)."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "admin"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")]
    )
    mine = key()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(mine, hashes.SHA256())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    text = mine.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return text, request.public_bytes(serialization.Encoding.PEM).decode()


def _kubeconfig(server: str, ca: str, cert: str, key: str) -> str:
    def b64(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    cluster = {"server": server} | ({"certificate-authority-data": b64(ca)} if ca else {})
    user = {"client-certificate-data": b64(cert), "client-key-data": b64(key)} if cert else {}
    context = {"cluster": "bay", "user": "admin"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bay", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "bay", "context": context}],
            "current-context": "bay",
        },
        indent=1,
    )


def _docker(api: str, tls: bool) -> str:
    parts = urlsplit(api if "://" in api else f"tcp://{api}")
    return f"tcp://{parts.hostname}:{parts.port or (2376 if tls else 2375)}"


def _marathon(api: str) -> str:
    """Magnum's Mesos gives the master's address alone; Marathon is beside it."""
    parts = urlsplit(api if "://" in api else f"http://{api}")
    scheme = parts.scheme if parts.scheme in ("http", "https") else "http"
    return f"{scheme}://{parts.hostname}:{parts.port or MARATHON}"
