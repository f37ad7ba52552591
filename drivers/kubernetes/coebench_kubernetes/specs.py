"""From the contract's service to Kubernetes objects."""

from __future__ import annotations

from typing import Any

from coebench.contract import ServiceSpec, Strategy

OURS = {"app.kubernetes.io/managed-by": "coebench"}
SELECT = "app.kubernetes.io/managed-by=coebench"
SERVICE = "coebench/service"
VERSION = "coebench/version"
CONTAINER = "main"  # the service's own in its pods
DEFAULT = Strategy()


def deployment(spec: ServiceSpec, strategy: Strategy = DEFAULT, pull_secret: str = "") -> dict[str, Any]:
    """A Deployment. Requests are what the spec reserves; memory is limited too, CPU only if the spec says so. `pull_secret`
    names the Secret that its image is pulled with."""
    labels = {**OURS, SERVICE: spec.name}
    memory = str(spec.memory)
    resources: dict[str, Any] = {"requests": {"cpu": f"{spec.cpu:.3f}", "memory": memory}, "limits": {"memory": memory}}
    if spec.limit_cpu:
        resources["limits"]["cpu"] = f"{spec.cpu:.3f}"
    env: list[dict[str, Any]] = [
        {"name": "COEBENCH_PORT", "value": str(spec.port)},
        {"name": "COEBENCH_VERSION", "value": spec.version},
        {"name": "COEBENCH_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    env += [{"name": k, "value": _literal(v)} for k, v in spec.env.items()]
    port: dict[str, Any] = {"containerPort": spec.port}
    if spec.publish:
        port["hostPort"] = spec.port
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "env": env,
        "ports": [port],
        "resources": resources,
    }
    if spec.command:
        container["command"] = [_literal(word) for word in spec.command]
    if spec.health:
        probe = {
            "httpGet": {"path": spec.health.path, "port": spec.port},
            "periodSeconds": max(1, round(spec.health.interval)),
            "timeoutSeconds": max(1, round(spec.health.timeout)),
            "failureThreshold": spec.health.failures,
        }
        container["readinessProbe"] = probe
        container["livenessProbe"] = probe
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.name, "labels": labels},
        "spec": {
            "replicas": spec.instances,
            "selector": {"matchLabels": {SERVICE: spec.name}},
            "revisionHistoryLimit": 2,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": strategy.surge, "maxUnavailable": strategy.unavailable},
            },
            "template": {
                "metadata": {"labels": labels, "annotations": {VERSION: spec.version}},
                "spec": {
                    "containers": [container],
                    "terminationGracePeriodSeconds": max(0, round(spec.grace)),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    **({"imagePullSecrets": [{"name": pull_secret}]} if pull_secret else {}),
                },
            },
        },
    }


def _literal(text: str) -> str:
    """Kubernetes expands $(NAME) in variables and commands, and takes $$ for $."""
    return text.replace("$", "$$")


def cluster_service(deployment: dict[str, Any]) -> dict[str, Any]:
    """A ClusterIP in front of a Deployment, port 80 to its container's port."""
    name = deployment["metadata"]["name"]
    containers = deployment["spec"]["template"]["spec"]["containers"]
    own = next((c for c in containers if c.get("name") == CONTAINER), containers[0])
    port = own["ports"][0]["containerPort"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {**OURS, SERVICE: name}},
        "spec": {"selector": {SERVICE: name}, "ports": [{"port": 80, "targetPort": port}]},
    }
