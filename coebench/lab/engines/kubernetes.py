"""Kubernetes 1.20.2 in the lab: etcd, apiserver, controller-manager and scheduler on the control host; kubelet, kube-proxy
and containerd with CNI on every node."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import os
import re
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...contract import Access, BadInput, BaySpec, Role
from .. import pki, plan
from ..host import GUEST_HOME, Host
from .base import Engine

API_PORT = 6443
KNOWN = ((1, 20), (1, 34))  # versions of whose flags the guest scripts know
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
CLIENTS = {  # common name → organisation, of all that talk to the API server
    "admin": ("coebench-admin", "system:masters"),
    "kcm": ("system:kube-controller-manager", "system:masters"),  # one identity for all controllers, as is the default
    "sched": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
}

# Failure detection. Stock: the defaults of 1.20. Harmonised: a dead node is known after about 10 s on every engine.
TIMEOUTS = {
    "stock": {
        "kubelet nodeLeaseDurationSeconds": "40",
        "controller-manager --node-monitor-period": "5s",
        "controller-manager --node-monitor-grace-period": "40s",
        "apiserver --default-unreachable-toleration-seconds": "300",
        "apiserver --default-not-ready-toleration-seconds": "300",
    },
    "harmonised": {
        "kubelet nodeLeaseDurationSeconds": "8",
        "controller-manager --node-monitor-period": "1s",
        "controller-manager --node-monitor-grace-period": "10s",
        "apiserver --default-unreachable-toleration-seconds": "0",
        "apiserver --default-not-ready-toleration-seconds": "0",
    },
}


def program_version(program: Path) -> tuple[int, int, int]:
    """What one of Kubernetes' programs says to --version; asked once, for a bay is opened often. Raises BadInput."""
    try:
        state = program.stat()
    except OSError as e:
        raise BadInput(f"{program} --version doesn't tell a version: {e}") from None
    return _asked_version(program, state.st_mtime_ns, state.st_size)


@functools.cache
def _asked_version(program: Path, *state: int) -> tuple[int, int, int]:
    try:
        p = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", timeout=20)
        said = (p.stdout + p.stderr).strip()
    except (OSError, subprocess.TimeoutExpired) as e:
        said = str(e)
    if not (found := re.search(r"\bv(\d+)\.(\d+)\.(\d+)", said)):
        raise BadInput(f"{program} --version doesn't tell a version: {' '.join(said.split())[:200] or 'nothing'}")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


class Kubernetes(Engine):
    title = "Kubernetes"
    version = "1.20.2"
    layers = ("kubernetes",)
    agent = "kubelet"
    control = ("etcd", "apiserver", "controller-manager", "scheduler")
    modules: ClassVar[Mapping[str, str]] = {
        "br_netfilter": "a pod that asks a service of which an instance is on its own node may get no answer",
    }
    options: ClassVar[Mapping[str, str]] = {"kubernetes-bin": "a folder with the five programs of another version"}

    @classmethod
    def check(cls, spec: BaySpec) -> None:
        super().check(spec)
        if not (folder := spec.options.get("kubernetes-bin")):
            return
        if missing := [n for n in PROGRAMS if not os.access(Path(folder) / n, os.X_OK)]:
            raise BadInput(f"kubernetes-bin={folder}: lacks {', '.join(missing)}")
        for name in ("kube-apiserver", "kubelet"):  # whose flags have changed most
            version = program_version(Path(folder) / name)
            if not KNOWN[0] <= version[:2] <= KNOWN[1]:
                least, most = (f"{major}.{minor}" for major, minor in KNOWN)
                has = ".".join(map(str, version))
                raise BadInput(
                    f"kubernetes-bin={folder}: {name} is {has}; the lab knows the flags of {least} to {most} "
                    f"(and has run {cls.version} only)"
                )

    def __init__(self, spec: BaySpec, layout: plan.Layout) -> None:
        super().__init__(spec, layout)
        self.own = "kubernetes-bin" in spec.options
        if self.own:
            try:
                version = program_version(Path(spec.options["kubernetes-bin"]) / "kube-apiserver")
                self.version = ".".join(map(str, version))  # type: ignore[misc]
            except BadInput:  # the folder has gone since; what was in it is in the cache
                self.version = "of your own"  # type: ignore[misc]

    def prepare(self, secrets: dict[str, str]) -> None:
        if "ca.crt" not in secrets:
            ca = pki.Authority.new("coebench-lab-k8s")
            secrets["ca.crt"], secrets["ca.key"] = ca.cert, ca.key
        ca = pki.Authority(secrets["ca.crt"], secrets["ca.key"])
        if "apiserver.crt" not in secrets:
            names = ("127.0.0.1", plan.address("c1"), "10.78.0.1", "localhost", "kubernetes", "kubernetes.default")
            secrets["apiserver.crt"], secrets["apiserver.key"] = ca.sign("kube-apiserver", names=names)
            secrets["kubelet-client.crt"], secrets["kubelet-client.key"] = ca.sign("apiserver-kubelet-client", "system:masters")
            secrets["sa.pub"], secrets["sa.key"] = pki.key_pair()
            for name, (common, organisation) in CLIENTS.items():
                secrets[f"{name}.crt"], secrets[f"{name}.key"] = ca.sign(common, organisation)
        for node in self.layout.nodes:
            if f"{node}.crt" not in secrets:
                secrets[f"{node}.crt"], secrets[f"{node}.key"] = ca.sign(f"system:node:{node}", "system:nodes")
        self.secrets = secrets

    def routes(self, host: str) -> tuple[str, ...]:
        return plan.pod_routes(but=host)

    def _kubeconfig(self, name: str) -> str:
        def b64(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        cluster = {
            "server": f"https://{plan.address('c1')}:{API_PORT}",
            "certificate-authority-data": b64(self.secrets["ca.crt"]),
        }
        cert, key = self.secrets[f"{name}.crt"], self.secrets[f"{name}.key"]
        user = {"client-certificate-data": b64(cert), "client-key-data": b64(key)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "lab", "cluster": cluster}],
                "users": [{"name": name, "user": user}],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
                "current-context": "lab",
            },
            indent=1,
        )

    def files(self, host: str, role: Role) -> Mapping[str, str]:
        etc = "/etc/kubernetes/"
        t = TIMEOUTS[self.spec.timeouts]
        if role is Role.CONTROL:
            names = (
                "ca.crt",
                "ca.key",
                "apiserver.crt",
                "apiserver.key",
                "kubelet-client.crt",
                "kubelet-client.key",
                "sa.pub",
                "sa.key",
            )
            files = {etc + n: self.secrets[n] for n in names}
            files |= {f"{etc}{n}.kubeconfig": self._kubeconfig(n) for n in ("kcm", "sched", "admin")}
            files[f"{GUEST_HOME}/.kube/config"] = self._kubeconfig("admin")
            return files
        kubelet: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs",
            "failSwapOn": False,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": etc + "ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            # the disk is the machine's, shared and perhaps nearly full: the kubelet must not evict for that
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": False,
            # Heartbeats are leases, renewed every quarter of this. The node's status is looked at every second (stock: 10)
            # so that a node is Ready when it is, but posted, as in stock, only when it changed or every five minutes.
            "nodeLeaseDurationSeconds": int(t["kubelet nodeLeaseDurationSeconds"]),
            "nodeStatusUpdateFrequency": "1s",
            "nodeStatusReportFrequency": "5m",
        }
        proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "hostnameOverride": host,
            "clusterCIDR": "10.79.0.0/16",
            "clientConnection": {"kubeconfig": etc + "proxy.kubeconfig"},
            "conntrack": {"maxPerCore": 0},
        }
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/ipam",
                "ranges": [[{"subnet": plan.pods(host)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {
            etc + "ca.crt": self.secrets["ca.crt"],
            etc + "kubelet.kubeconfig": self._kubeconfig(host),
            etc + "proxy.kubeconfig": self._kubeconfig("proxy"),
            etc + "kubelet.yaml": json.dumps(kubelet, indent=1),
            etc + "proxy.yaml": json.dumps(proxy, indent=1),
            "/etc/cni/net.d/10-lab.conflist": json.dumps(
                {"cniVersion": "0.4.0", "name": "lab", "plugins": [bridge, portmap]}, indent=1
            ),
            "/etc/containerd/config.toml": _CONTAINERD,
            f"/etc/containerd/certs.d/{plan.registry()}/hosts.toml": f'[host."http://{plan.registry()}"]\n',
        }

    def payload(self, host: str, role: Role) -> tuple[str, ...]:
        t = TIMEOUTS[self.spec.timeouts]
        flags = "own" if self.own else "20"
        if role is Role.CONTROL:
            return (
                "/opt/coebench/guest/kubernetes-control.sh",
                plan.address(host),
                plan.SERVICES,
                t["controller-manager --node-monitor-period"],
                t["controller-manager --node-monitor-grace-period"],
                t["apiserver --default-unreachable-toleration-seconds"],
                t["apiserver --default-not-ready-toleration-seconds"],
                flags,
            )
        return ("/opt/coebench/guest/kubernetes-node.sh", host, plan.address(host), plan.address("c1"), flags)

    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        nodes = {h.spec.name for h in new if h.spec.role is Role.NODE}
        api = _Api(self.secrets, self.patience(5))
        self.wait(lambda: api.get("/readyz") == b"ok", hosts, "the API server becomes ready")
        step("api")

        def ready() -> bool:
            body = api.get("/api/v1/nodes")
            if not body:
                return False
            items = json.loads(body)["items"]
            for n in items:
                # Tell the API which network a node's pods have, as a cloud's route controller does: a kubelet that finds
                # it reports Ready at once, one that doesn't only with its next periodic status.
                if n["metadata"]["name"] in nodes and not n["spec"].get("podCIDR"):
                    api.set_pod_network(n["metadata"]["name"])
            posted = [n for n in items if _posts_ready(n)]
            for n in posted:
                # A node that was looked at before it was Ready keeps its NoExecute taint until the controller manager's
                # next look, whole seconds later, which would be a matter of luck: take it off as that look will.
                if n["metadata"]["name"] in nodes and _STALE_TAINT in _taints(n):
                    api.set_taints(n, [t for t in n["spec"]["taints"] if (t["key"], t["effect"]) != _STALE_TAINT])
            up = {n["metadata"]["name"] for n in posted if not any(k.startswith("node.kubernetes.io/") for k, _ in _taints(n))}
            return nodes <= up

        self.wait(ready, hosts, "all nodes become Ready")
        step("nodes")
        self.wait(
            lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None,
            hosts,
            "the default service account exists",
        )
        workers = [h for h in new if h.spec.role is Role.NODE]
        self.wait(
            lambda: all((h.run / "images.ok").exists() for h in workers),
            hosts,
            "images are loaded on all nodes",
        )
        self.wait(
            lambda: all((h.run / "proxy.ok").exists() for h in workers),
            hosts,
            "kube-proxy runs on all nodes",
        )
        step("images")
        api.close()

    def revive(self, hosts: list[Host], host: Host, names: list[str]) -> None:
        for name in names:
            host.start_engine(name)
            if name == "apiserver":  # without it the scheduler would end again
                api = _Api(self.secrets, self.patience(5))
                self.wait(lambda api=api: api.get("/readyz") == b"ok", hosts, "the API server is ready again")  # type: ignore[misc]
                api.close()

    def leave(self, hosts: list[Host], gone: list[Host]) -> None:
        api = _Api(self.secrets, self.patience(5))
        for h in gone:
            api.delete(f"/api/v1/nodes/{h.spec.name}")
        api.close()

    def pull(self, hosts: list[Host], registry: bool) -> str:
        return f"containerd's certs.d/{plan.registry()}/hosts.toml: http://…"  # read at each pull: it is there always

    def access(self, hosts: list[Host]) -> Access:
        return Access(
            coe="k8s",
            url=f"https://{plan.address('c1')}:{API_PORT}",
            kubeconfig=self._kubeconfig("admin"),
            options={"network": "bridge CNI with routes between nodes, no encapsulation"},
        )

    def timeouts(self) -> Mapping[str, str]:
        return TIMEOUTS[self.spec.timeouts]

    def components(self) -> Mapping[str, str]:
        return {"etcd": "3.4 (Debian)", "containerd": "1.6 (Debian)", "runc": "1.1 (Debian)"}

    def notes(self) -> tuple[str, ...]:
        return (
            "programs from a folder of the user's own"
            if self.own
            else "built from Debian's source package with upstream's tags dockerless and providerless; "
            "one check taken out of the kubelet (a regression of 1.20.0-1.20.2 that 1.20.3 reverted)",
            "etcd keeps its data in memory, not on a disk",
            "no cluster DNS; kubelets look at their node's status every second, not every ten",
        )


_STALE_TAINT = ("node.kubernetes.io/not-ready", "NoExecute")


def _posts_ready(node: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))


def _taints(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(t["key"], t["effect"]) for t in node["spec"].get("taints") or []]


class _Api:
    """The few calls that the lab itself needs, over one kept connection."""

    def __init__(self, secrets: Mapping[str, str], timeout: float) -> None:
        self.timeout = timeout
        self.context = ssl.create_default_context(cadata=secrets["ca.crt"])
        self.context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # set from Python 3.13 on; Magnum's authority is not that strict
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:  # load_cert_chain takes files only
            pem.write(secrets["admin.crt"] + secrets["admin.key"])
            pem.flush()
            self.context.load_cert_chain(pem.name)
        self.connection: http.client.HTTPSConnection | None = None

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes | None:
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    plan.address("c1"), API_PORT, timeout=self.timeout, context=self.context
                )
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            self.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": kind})
            answer = self.connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        return data if answer.status in (200, 201) else None

    def get(self, path: str) -> bytes | None:
        """The body, or None if it can't be had now."""
        return self._ask("GET", path)

    def set_pod_network(self, node: str) -> None:
        cidr = plan.pods(node)
        self._ask("PATCH", f"/api/v1/nodes/{node}", {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})

    def set_taints(self, node: Mapping[str, Any], taints: list[Mapping[str, str]]) -> None:
        """Set a node's taints, unless the node has changed since it was read."""
        change = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}, "spec": {"taints": taints}}
        self._ask("PATCH", f"/api/v1/nodes/{node['metadata']['name']}", change)

    def delete(self, path: str) -> None:
        self._ask("DELETE", path)

    def close(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None


_CONTAINERD = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/coebench-pause:3.2"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""
