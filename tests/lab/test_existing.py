"""Bays that exist: each of the lab's engines treated as somebody else's, by what its owner would hand out and no more.

Kubernetes by a kubeconfig alone, Swarm by Docker's TLS port alone, Mesos by a Marathon URL and a password alone.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from foreign import Certificates, Front

from coebench import plugins
from coebench.contract import Bay
from coebench.lab import plan

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
CONTROL = plan.address("c1")
OWN = plan.GATEWAY  # where this process is reached in the bay's network
PASSWORD = "correct horse"


class Foreign:
    """A cluster by the options that its owner hands out; `admin` is a driver with the owner's own access."""

    def __init__(self, coe: str, options: dict[str, str], admin: Any, folder: Path) -> None:
        self.coe = coe
        self.options = options
        self.admin = admin
        self.folder = folder

    def coebench(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run in the bay's network, where a user of the cluster would be."""
        options = {**self.options, **changes}
        given = [w for k, v in options.items() for w in ("--option", f"{k}={v}")]
        env = {**os.environ, "COEBENCH_STATE": str(self.folder / "state"), "MARATHON_PASSWORD": PASSWORD}
        command = [sys.executable, "-m", "coebench", *words, "--provisioner", "existing", *given]
        return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=self.folder, env=env)

    def left(self) -> list[str]:
        folder = self.folder / "state/existing"
        return [p.name for p in folder.iterdir()] if folder.is_dir() else []


@pytest.fixture(scope="module")
def foreign(bay: tuple[Any, Bay], coe: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    provisioner, made = bay
    folder = tmp_path_factory.mktemp(f"foreign-{coe}")
    access = provisioner.access(made)
    admin = plugins.load("drivers", coe, "COE").connect(access)
    certificates = Certificates(folder)
    server = certificates.pair("server", OWN)
    fronts = []
    if coe == "k8s":
        file = folder / "kubeconfig"
        file.write_text(access.kubeconfig)
        options = {"kubeconfig": str(file)}
    elif coe == "swarm":
        front = Front(OWN, server, access.url.removeprefix("unix://"), clients=certificates.ca)
        fronts.append(front)
        cert, key = certificates.pair("client")
        cert.rename(folder / "cert.pem")
        key.rename(folder / "key.pem")
        options = {"url": f"tcp://{OWN}:{front.port}", "tls": str(folder)}
    else:
        front = Front(OWN, server, (CONTROL, 8080), password=f"ops:{PASSWORD}")
        fronts.append(front)
        options = {"url": f"https://{OWN}:{front.port}", "user": "ops", "ca": str(certificates.ca)}
        options["password-env"] = "MARATHON_PASSWORD"
    yield Foreign(coe, options, admin, folder)
    for front in fronts:
        front.close()
    admin.close()


def test_the_rights_are_listed(foreign: Foreign) -> None:
    p = foreign.coebench("doctor", foreign.coe)
    assert p.returncode == 0, p.stdout + p.stderr
    assert "  ok " in p.stdout
    assert "  no " not in p.stdout
    assert foreign.admin.services() == ()  # what rights were tried with is gone


def test_a_run_on_it_leaves_it_as_it_was(foreign: Foreign) -> None:
    p = foreign.coebench("compare", foreign.coe, "--profile", "smoke", "--scenarios", "deploy", "--json")
    assert p.returncode == 0, p.stdout + p.stderr
    result = json.loads(p.stdout)
    assert {t["status"] for t in result["trials"]} == {"ok"}
    told = result["bays"][foreign.coe]
    assert any("existing cluster" in note for note in told["notes"])
    assert foreign.admin.services() == ()
    assert foreign.left() == []
    assert PASSWORD not in "".join(f.read_text() for f in foreign.folder.glob("runs/*/*.json*"))


def test_what_a_killed_run_left_is_found_and_cleaned(foreign: Foreign) -> None:
    """A run that ends by kill -9 has its service on the cluster and its note in the state folder; another's stays."""
    begun = subprocess.Popen(
        [sys.executable, "-c", KILLED, foreign.coe, json.dumps(foreign.options)],
        env={**os.environ, "COEBENCH_STATE": str(foreign.folder / "state"), "MARATHON_PASSWORD": PASSWORD},
    )
    assert begun.wait(60) == -9
    assert foreign.admin.services() == ("orphan",)
    refused = foreign.coebench("compare", foreign.coe, "--profile", "smoke")
    assert refused.returncode == 2
    assert "coebench clean --provisioner existing" in refused.stderr
    env = {**os.environ, "COEBENCH_STATE": str(foreign.folder / "state"), "MARATHON_PASSWORD": PASSWORD}
    command = [sys.executable, "-m", "coebench", "clean", "--provisioner", "existing"]
    p = subprocess.run(command, capture_output=True, text=True, timeout=100, env=env)
    assert "removed service orphan" in p.stdout, p.stderr
    assert foreign.admin.services() == ()
    assert foreign.left() == []


KILLED = """
import json, os, signal, sys
from coebench.contract import BaySpec, ServiceSpec
from coebench.provision.existing import ExistingProvisioner
class Journal:
    def creating(self, r): ...
    def gone(self, r): ...
p = ExistingProvisioner()
spec = BaySpec(coe=sys.argv[1], options=json.loads(sys.argv[2]))
p.check(spec)
bay = p.create("killed", spec, Journal(), lambda *a, **k: None)
p._open["killed"].deploy(ServiceSpec(name="orphan", image="coebench-http:v1", instances=0))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("coe", ["mesos"], indirect=True, scope="module")
def test_a_wrong_password_is_told_in_a_line(foreign: Foreign) -> None:
    wrong = foreign.folder / "wrong"
    wrong.write_text("nope\n")
    given = {k: v for k, v in foreign.options.items() if k != "password-env"}
    p = Foreign("mesos", given, None, foreign.folder).coebench("compare", "mesos", **{"password-file": str(wrong)})
    assert p.returncode == 2
    assert len(p.stderr.strip().splitlines()) == 1
    assert "not allowed" in p.stderr


@pytest.mark.parametrize("coe", ["swarm"], indirect=True, scope="module")
def test_without_a_clients_certificate_docker_refuses(foreign: Foreign) -> None:
    given = {"url": foreign.options["url"], "ca": str(foreign.folder / "ca.pem")}
    p = Foreign("swarm", given, None, foreign.folder).coebench("doctor", "swarm")
    assert p.returncode == 1
    assert "  no " in p.stdout


@pytest.mark.parametrize("coe", ["k8s"], indirect=True, scope="module")
def test_missing_rights_are_named_before_anything_is_made(foreign: Foreign) -> None:
    """A user who may look at pods of one namespace, and no more."""
    limited = _user(foreign, "viewer", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}], "team")
    p = foreign.coebench("doctor", "k8s", kubeconfig=str(limited), namespace="team")
    assert p.returncode == 1
    assert "ok    list pods in team" in p.stdout
    assert "no    create deployments in team" in p.stdout
    assert "lacks list nodes" in p.stdout
    p = foreign.coebench("compare", "k8s", kubeconfig=str(limited), namespace="team")
    assert p.returncode == 2
    assert len(p.stderr.strip().splitlines()) == 1
    assert "create deployments in team" in p.stderr
    assert not (foreign.folder / "state/existing").exists() or foreign.left() == []


@pytest.mark.parametrize("coe", ["k8s"], indirect=True, scope="module")
def test_one_namespaces_rights_are_enough(foreign: Foreign) -> None:
    """No right outside of a namespace that somebody else made: nodes have no names then, and the namespace stays."""
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "pods/log", "services"], "verbs": ["*"]},
    ]
    limited = _user(foreign, "tenant", rules, "tenants")
    stranger = {
        "metadata": {"name": "theirs"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
        },
    }
    foreign.admin._apps.create_namespaced_deployment("tenants", stranger)
    words = ("compare", "k8s", "--profile", "smoke", "--scenarios", "deploy", "--set", "deploy.instances=[1]", "--json")
    p = foreign.coebench(*words, kubeconfig=str(limited), namespace="tenants")
    assert p.returncode == 0, p.stdout + p.stderr
    listed = foreign.admin._apps.list_namespaced_deployment("tenants").items
    assert [d.metadata.name for d in listed] == ["theirs"]


@pytest.mark.parametrize("coe", ["k8s"], indirect=True, scope="module")
def test_an_expired_certificate_is_told_with_its_date(foreign: Foreign) -> None:
    content = yaml.safe_load(Path(foreign.options["kubeconfig"]).read_text())
    content["users"][0]["user"]["client-certificate-data"] = base64.b64encode(_expired().encode()).decode()
    file = foreign.folder / "expired"
    file.write_text(yaml.safe_dump(content))
    p = foreign.coebench("compare", "k8s", kubeconfig=str(file))
    assert p.returncode == 2
    assert "expired on 2021-06-01" in p.stderr
    assert len(p.stderr.strip().splitlines()) == 1


def _user(foreign: Foreign, name: str, rules: list[dict[str, Any]], namespace: str) -> Path:
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


def _expired() -> str:
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
