"""Kubeconfigs: from a file with a context chosen, or from a pod's service account. The text that comes out stands alone."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from ...contract import BadInput
from . import certificates

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def read(given: str, context: str) -> str:
    """A kubeconfig with `context` as its current one. `given`: a path; KUBECONFIG's first file that has the context, or
    ~/.kube/config, if empty. Raises BadInput: none there, no such context, an expired client certificate."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise BadInput("reading a kubeconfig needs Python's yaml: pip install 'coebench[k8s]'") from None
    paths = [given] if given else [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    contexts: list[str] = []
    for path in [Path(p).expanduser() for p in paths or ["~/.kube/config"]]:
        try:
            content: Any = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError) as e:
            raise BadInput(f"can't read the kubeconfig {path}: {getattr(e, 'strerror', None) or e}") from None
        except yaml.YAMLError as e:
            raise BadInput(f"the kubeconfig {path} is no YAML: {' '.join(str(e).split())}") from None
        if not isinstance(content, dict) or not isinstance(content.get("contexts"), list):
            raise BadInput(f"{path} is no kubeconfig: it has no contexts")
        names = [c.get("name", "") for c in content["contexts"]]
        wanted = context or content.get("current-context") or (names[0] if len(names) == 1 else "")
        if wanted in names:
            return _alone(content, wanted, path)
        contexts += names
    known = ", ".join(contexts) or "none"
    raise BadInput(
        f"the kubeconfig has no context '{context}'; it has: {known}"
        if context
        else f"the kubeconfig has no current context: name one with context=; it has: {known}"
    )


def _alone(content: Any, context: str, path: Path) -> str:
    """One context with its cluster and user, and no path that depends on where the file is."""
    chosen = next(c for c in content["contexts"] if c["name"] == context)
    about = chosen.get("context") or {}
    parts: dict[str, Any] = {}
    for kind, name in (("clusters", about.get("cluster")), ("users", about.get("user"))):
        found = next((c for c in content.get(kind) or [] if c.get("name") == name), None)
        if found is None:
            raise BadInput(f"{path}: context '{context}' names {kind[:-1]} '{name}', which is not there")
        fields = dict(found.get(kind[:-1]) or {})
        for field in FILES:
            if fields.get(field):
                fields[field] = str((path.parent / fields[field]).resolve())
        parts[kind] = [{"name": name, kind[:-1]: fields}]
    user = parts["users"][0]["user"]
    if pem := _certificate(user, path):
        certificates.check(pem, f"the client certificate of user '{about.get('user')}' in {path}")
    return json.dumps({"apiVersion": "v1", "kind": "Config", "contexts": [chosen], "current-context": context, **parts})


def _certificate(user: dict[str, Any], path: Path) -> str:
    if data := user.get("client-certificate-data"):
        try:
            return base64.b64decode(data).decode("ascii")
        except ValueError:
            raise BadInput(f"{path}: client-certificate-data is no base64 text") from None
    if file := user.get("client-certificate"):
        try:
            return Path(file).read_text()
        except (OSError, UnicodeDecodeError) as e:
            raise BadInput(f"{path}: can't read {file}: {getattr(e, 'strerror', None) or e}") from None
    return ""


def in_cluster(account: Path = ACCOUNT) -> str:
    """A kubeconfig of the service account that Kubernetes gives a pod. Raises BadInput elsewhere."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").exists():
        raise BadInput("in-cluster: this is no pod with a service account (no KUBERNETES_SERVICE_HOST, or no token)")
    address = f"[{host}]" if ":" in host else host
    cluster = {"server": f"https://{address}:{port}", "certificate-authority": str(account / "ca.crt")}
    about = {"cluster": "in-cluster", "user": "in-cluster"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "in-cluster",
            "contexts": [{"name": "in-cluster", "context": about}],
            "clusters": [{"name": "in-cluster", "cluster": cluster}],
            "users": [{"name": "in-cluster", "user": {"token": (account / "token").read_text().strip()}}],
        }
    )
