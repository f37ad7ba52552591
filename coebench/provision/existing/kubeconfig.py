"""Kubeconfigs: from a file with a context chosen, or from a pod's service account. The text that comes out stands alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from ...contract import BadInput
from . import certificates

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def read(given: str, context: str) -> str:
    """A kubeconfig with `context` as its current one. `given`: a path; if empty, KUBECONFIG's files as kubectl merges them (what
    is missing is passed over, of two things of one name the first is taken), or ~/.kube/config. Raises BadInput: none there, no
    such context, an expired client certificate."""
    paths = [given] if given else [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p] or ["~/.kube/config"]
    found: dict[str, dict[str, Named]] = {"contexts": {}, "clusters": {}, "users": {}}
    current = ""
    for path in [Path(p).expanduser() for p in paths]:
        if len(paths) > 1 and not path.exists():
            continue
        content = _content(path)
        if len(paths) > 1 and content is None:  # empty, as kubectl leaves a new one
            continue
        if not isinstance(content, dict) or not any(isinstance(content.get(kind), list) for kind in found):
            raise BadInput(f"{path} is no kubeconfig: it has no contexts")
        current = current or str(content.get("current-context") or "")
        for kind, things in found.items():
            for one in content.get(kind) or []:
                things.setdefault(one.get("name", ""), Named(path, one.get(kind[:-1]) or {}))
    names = [*found["contexts"]]
    if not names:
        raise BadInput(f"{' and '.join(paths)}: no kubeconfig there has a context")
    wanted = context or current or (names[0] if len(names) == 1 else "")
    if wanted in names:
        return _alone(found, wanted)
    known = ", ".join(names)
    if wanted:
        raise BadInput(f"the kubeconfig has no context '{wanted}'; it has: {known}")
    raise BadInput(f"the kubeconfig has no current context: name one with context=; it has: {known}")


class Named(NamedTuple):
    """A context, cluster or user, and the file that it is from."""

    path: Path
    fields: dict[str, Any]


def _content(path: Path) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise BadInput("reading a kubeconfig needs Python's yaml: pip install 'coebench[k8s]'") from None
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"can't read the kubeconfig {path}: {getattr(e, 'strerror', None) or e}") from None
    except yaml.YAMLError as e:
        raise BadInput(f"the kubeconfig {path} is no YAML: {' '.join(str(e).split())}") from None


def _alone(found: dict[str, dict[str, Named]], context: str) -> str:
    """One context with its cluster and user, and no path that depends on where a file is."""
    chosen = found["contexts"][context]
    parts: dict[str, Any] = {"contexts": [{"name": context, "context": chosen.fields}]}
    for kind in ("clusters", "users"):
        name = chosen.fields.get(kind[:-1]) or ""
        if kind == "users" and not name:  # anonymous, as kubectl is then
            parts[kind] = []
            continue
        if name not in found[kind]:
            raise BadInput(f"{chosen.path}: context '{context}' names {kind[:-1]} '{name}', which is not there")
        path, fields = found[kind][name]
        fields = fields | {f: str((path.parent / fields[f]).resolve()) for f in FILES if fields.get(f)}
        if isinstance(fields.get("exec"), dict):
            fields["exec"] = _plugin(fields["exec"], path)
        parts[kind] = [{"name": name, kind[:-1]: fields}]
        if kind == "users" and (pem := _certificate(fields, path)):
            certificates.check(pem, f"the client certificate of user '{name}' in {path}")
    return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": context, **parts})


def _plugin(given: dict[str, Any], path: Path) -> dict[str, Any]:
    """An exec plug-in whose command does not depend on where coebench runs. Raises BadInput if it is not there."""
    command = str(given.get("command") or "")
    if not command:
        raise BadInput(f"{path}: an exec plug-in has no command")
    if "/" in command:  # beside the kubeconfig, as kubectl finds it
        command = os.path.abspath(path.parent / command)
    if not shutil.which(command):
        hint = " ".join(str(given.get("installHint") or "").split())
        raise BadInput(f"{path}: the exec plug-in {command} is not there or can't be run{f': {hint}' if hint else ''}")
    return given | {"command": command}


def insecure(text: str) -> bool:
    """Whether a kubeconfig, as `read` gives it, says that the server's certificate is not to be checked."""
    return any(c["cluster"].get("insecure-skip-tls-verify") for c in json.loads(text)["clusters"])


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
