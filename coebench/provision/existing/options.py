"""The options of a subject whose bay exists, and the access that they name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ...contract import Access, BadInput
from . import certificates, dockerhost, kubeconfig

# option → what it is; none holds a secret itself, since options are recorded with the run
KNOWN = {
    "kubeconfig": "a kubeconfig's path; KUBECONFIG, then ~/.kube/config, if not given",
    "context": "of the kubeconfig, or Docker's own; the current one if not given",
    "in-cluster": "yes: the service account of the pod that coebench runs in",
    "url": "where the engine's API is: https://…, http://…, tcp://…, unix://…",
    "tls": "a folder with ca.pem, cert.pem and key.pem, as DOCKER_CERT_PATH",
    "ca": "the path of the certificates to trust (PEM)",
    "cert": "the path of a client's certificate (PEM)",
    "key": "the path of its key (PEM)",
    "user": "a user's name",
    "password-file": "the path of a file that holds the password",
    "password-env": "the environment variable that holds the password",
    "token-file": "the path of a file that holds the token",
    "token-env": "the environment variable that holds the token",
    "images": "REGISTRY/PREFIX that the images were pushed to; without it nodes must have them",
    "pull-secret": "what the engine pulls them with: Kubernetes: a Secret's name; Marathon: a .docker archive's URI",
    "namespace": "the namespace to be in, for engines that have some; coebench if not given",
    "master": "the URL of the Mesos master as it is reached from here, if Marathon names another",
    "fail-node-cmd": "a command that makes a node fail: {node}, {address} and {fault} are filled in",
    "heal-node-cmd": "a command that undoes it",
}
NODE = "node."  # node.NAME=URL: a node's own API
PASSED_ON = ("context", "images", "pull-secret", "namespace", "master")


def check(coe: str, given: Mapping[str, str]) -> None:
    """Raise BadInput for options that are not known, or that can't be together."""
    for name, value in given.items():
        if name not in KNOWN and not name.startswith(NODE):
            raise BadInput(f"an existing bay has no option '{name}'; it has: {', '.join(KNOWN)} and node.NAME")
        if not value:
            raise BadInput(f"{coe}: option '{name}' is empty")
    for one, other in (("password-file", "password-env"), ("token-file", "token-env"), ("kubeconfig", "in-cluster")):
        if one in given and other in given:
            raise BadInput(f"{coe}: give {one} or {other}, not both")
    if ("cert" in given) != ("key" in given):
        raise BadInput(f"{coe}: cert and key go together")
    if ("fail-node-cmd" in given) != ("heal-node-cmd" in given):
        raise BadInput(f"{coe}: --fail-node-cmd and --heal-node-cmd go together: somebody's node would stay dead")
    if given.get("in-cluster", "yes") != "yes":
        raise BadInput(f"{coe}: in-cluster is 'yes' or left out, not '{given['in-cluster']}'")
    if "url" in given:
        url = urlsplit(given["url"])
        if not url.scheme:
            raise BadInput(f"{coe}: url={given['url']} has no scheme: write https://… or what the engine has")
        if url.password:
            raise BadInput(f"{coe}: a password in the url would be recorded with the run: use user and password-file or -env")


def access(coe: str, by: str, given: Mapping[str, str]) -> Access:
    """The access that options name. `by`: what the driver is reached by, "kubeconfig", "docker" or "url".

    Raises BadInput: a file that can't be read, an unset variable, an expired certificate, nothing given to go by.
    """
    check(coe, given)
    options = {name: given[name] for name in PASSED_ON if name in given}
    nodes = {name.removeprefix(NODE): url for name, url in given.items() if name.startswith(NODE)}
    tls = {name: given[name] for name in ("ca", "cert", "key") if name in given}
    if "tls" in given:
        tls = {**{n: str(Path(given["tls"]) / f"{n}.pem") for n in ("ca", "cert", "key")}, **tls}
    url = given.get("url", "")
    if by == "kubeconfig":
        if given.get("in-cluster"):
            return Access(coe=coe, kubeconfig=kubeconfig.in_cluster(), options=options)
        text = kubeconfig.read(given.get("kubeconfig", ""), given.get("context", ""))
        options.pop("context", None)  # it is the current one of what was read
        return Access(coe=coe, kubeconfig=text, options=options)
    if by == "docker" and not url:
        url, found = dockerhost.find(given.get("context", ""))
        tls = {**found, **tls}
    if not url and not nodes:
        raise BadInput(f"{coe}: an existing bay is reached by a URL: write {coe}:url=https://ADDRESS:PORT, or --option url=…")
    pem = {name: _file(coe, name, path) for name, path in tls.items()}
    if "cert" in pem:
        certificates.check(pem["cert"], f"{coe}: the client certificate {tls['cert']}")
    return Access(
        coe=coe,
        url=url,
        user=given.get("user", ""),
        password=_secret(coe, "password", given),
        token=_secret(coe, "token", given),
        nodes=nodes,
        options=options,
        **pem,
    )


def _secret(coe: str, name: str, given: Mapping[str, str]) -> str:
    if path := given.get(f"{name}-file"):
        return _file(coe, name, path).strip()
    if variable := given.get(f"{name}-env"):
        if not os.environ.get(variable):
            raise BadInput(f"{coe}: the environment variable {variable}, for the {name}, is not set")
        return os.environ[variable]
    return ""


def _file(coe: str, what: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{coe}: can't read the {what} {path}: {getattr(e, 'strerror', None) or e}") from None
