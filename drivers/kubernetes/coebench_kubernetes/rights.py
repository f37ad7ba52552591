"""What a user may do, asked of the API server one by one (SelfSubjectAccessReview): nothing is changed by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from coebench.contract import Right

# verb, API group, resource, subresource: in the namespace
NEEDED = (
    ("create", "apps", "deployments", ""),
    ("get", "apps", "deployments", ""),
    ("list", "apps", "deployments", ""),
    ("patch", "apps", "deployments", ""),
    ("delete", "apps", "deployments", ""),
    ("patch", "apps", "deployments", "scale"),
    ("list", "", "pods", ""),
    ("watch", "", "pods", ""),
    ("get", "", "services", ""),
    ("delete", "", "services", ""),
)
# and what only some scenarios use
USEFUL = (
    ("create", "", "services", "", "routing native"),
    ("get", "", "pods", "log", "logs"),
    ("delete", "", "pods", "", "killing instances"),
    ("create", "", "pods", "eviction", "draining nodes"),
)
# in the whole cluster
CLUSTER = (
    ("list", "", "nodes", "", "nodes' names and the kubelets' versions"),
    ("patch", "", "nodes", "", "draining nodes"),
)


def ask(authorization: Any, call: Callable[..., Any], namespace: str, exists: bool) -> tuple[Right, ...]:
    """All of them. `authorization`: the client's AuthorizationV1Api; `call`: the driver's, which maps errors."""

    def allowed(verb: str, group: str, resource: str, sub: str, where: str) -> tuple[bool, str]:
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": where}
        if sub:
            attributes["subresource"] = sub
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = call(
            "asking for rights",
            lambda: json.loads(authorization.create_self_subject_access_review(body, _preload_content=False).data),
        )
        status = answer.get("status", {})
        return bool(status.get("allowed")), str(status.get("reason") or status.get("evaluationError") or "")

    found = []
    if not exists:
        ok, said = allowed("create", "", "namespaces", "", "")
        hint = f"it does not exist: have it made, or name another with namespace=; {said}".rstrip("; ")
        found.append(Right(what=f"create namespace {namespace}", ok=ok, said="" if ok else hint))
    for verb, group, resource, sub in NEEDED:
        ok, said = allowed(verb, group, resource, sub, namespace)
        found.append(Right(what=f"{verb} {_word(resource, sub)} in {namespace}", ok=ok, said="" if ok else said))
    for verb, group, resource, sub, use in USEFUL:
        ok, said = allowed(verb, group, resource, sub, namespace)
        what = f"{verb} {_word(resource, sub)} in {namespace}"
        found.append(Right(what=what, ok=ok, said="" if ok else said, needed=False, use=use))
    for verb, group, resource, sub, use in CLUSTER:
        ok, said = allowed(verb, group, resource, sub, "")
        found.append(Right(what=f"{verb} {_word(resource, sub)}", ok=ok, said="" if ok else said, needed=False, use=use))
    return tuple(found)


def _word(resource: str, sub: str) -> str:
    return f"{resource}/{sub}" if sub else resource
