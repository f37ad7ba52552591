"""Bays that exist: each of the lab's engines treated as somebody else's, by what its owner would hand out and no more.

Kubernetes by a kubeconfig alone, Swarm by Docker's TLS port alone, Mesos by a Marathon URL and a password alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from foreign import PASSWORD, TOKEN, Certificates, Foreign, Front, expired, user_of

from coebench import plugins
from coebench.contract import BadInput, Bay, BaySpec, NodeFault, Unsupported
from coebench.lab import plan
from coebench.lab.bay import LabBay
from coebench.provision.existing import ExistingProvisioner

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
CONTROL = plan.address("c1")
OWN = plan.GATEWAY  # where this process is reached in the bay's network
TENANT = [  # all that is needed in one namespace
    {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["pods", "pods/log", "services"], "verbs": ["*"]},
]


class NoJournal:
    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


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
    yield Foreign(coe, options, admin, folder, server)
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
    assert foreign.left() == [], p.stderr + "".join(f.read_text() for f in foreign.folder.glob("runs/*/observations*"))[-3000:]
    assert PASSWORD not in "".join(f.read_text() for f in foreign.folder.glob("runs/*/*.json*"))


def test_what_a_killed_run_left_is_found_and_cleaned(foreign: Foreign) -> None:
    """A run that ends by kill -9 has its service on the cluster and its note in the state folder; another's stays."""
    begun = subprocess.Popen(
        [sys.executable, "-c", KILLED, foreign.coe, json.dumps(foreign.options)],
        env=foreign.around()["env"],
    )
    assert begun.wait(60) == -9
    assert foreign.admin.services() == ("orphan",)
    refused = foreign.coebench("compare", foreign.coe, "--profile", "smoke")
    assert refused.returncode == 2
    assert "coebench clean --provisioner existing" in refused.stderr
    command = [sys.executable, "-m", "coebench", "clean", "--provisioner", "existing"]
    p = subprocess.run(command, timeout=100, **foreign.around())
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
    p = foreign.found_by(**given, **{"password-file": str(wrong)}).coebench("compare", "mesos")
    assert p.returncode == 2
    assert len(p.stderr.strip().splitlines()) == 1
    assert "not allowed" in p.stderr


@pytest.mark.parametrize("coe", ["swarm"], indirect=True, scope="module")
def test_without_a_clients_certificate_docker_refuses(foreign: Foreign) -> None:
    given = {"url": foreign.options["url"], "ca": str(foreign.folder / "ca.pem")}
    p = foreign.found_by(**given).coebench("doctor", "swarm")
    assert p.returncode == 1
    assert "  no " in p.stdout


@pytest.mark.parametrize("coe", ["k8s"], indirect=True, scope="module")
def test_missing_rights_are_named_before_anything_is_made(foreign: Foreign) -> None:
    """A user who may look at pods of one namespace, and no more."""
    limited = user_of(foreign, "viewer", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}], "team")
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
    limited = user_of(foreign, "tenant", TENANT, "tenants")
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
    content["users"][0]["user"]["client-certificate-data"] = base64.b64encode(expired().encode()).decode()
    file = foreign.folder / "expired"
    file.write_text(yaml.safe_dump(content))
    p = foreign.coebench("compare", "k8s", kubeconfig=str(file))
    assert p.returncode == 2
    assert "expired on 2021-06-01" in p.stderr
    assert len(p.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("coe", ["k8s"], indirect=True, scope="module")
def test_from_a_pod_of_the_cluster(foreign: Foreign, bay: tuple[Any, Bay]) -> None:
    """What Kubernetes puts into a pod is all that is given: an account's token, the authority, two variables."""
    limited = user_of(foreign, "inside", TENANT, "pods")
    user = yaml.safe_load(limited.read_text())["users"][0]["user"]
    provisioner, made = bay
    cluster = yaml.safe_load(provisioner.access(made).kubeconfig)["clusters"][0]["cluster"]
    account = foreign.folder / "account"
    account.mkdir()
    (account / "token").write_text(user["token"])
    (account / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    place = "/var/run/secrets/kubernetes.io/serviceaccount"  # in a mount namespace of the command's own
    script = f'mount -t tmpfs tmpfs /run && mkdir -p {place} && cp "$0"/* {place} && exec "$@"'
    inside = foreign.found_by(**{"in-cluster": "yes", "namespace": "pods"})
    words = ("compare", "k8s", "--profile", "smoke", "--scenarios", "deploy", "--set", "deploy.instances=[1]", "--json")
    command = ["unshare", "--mount", "sh", "-c", script, str(account), *inside.command(*words)]
    variables = {"KUBERNETES_SERVICE_HOST": CONTROL, "KUBERNETES_SERVICE_PORT": "6443", "KUBECONFIG": "/nonexistent"}
    p = subprocess.run(command, timeout=200, **inside.around(**variables))
    assert p.returncode == 0, p.stdout + p.stderr
    assert {t["status"] for t in json.loads(p.stdout)["trials"]} == {"ok"}
    assert user["token"] not in "".join(f.read_text() for f in foreign.folder.glob("runs/*/*.json*"))
    p = subprocess.run(inside.command("compare", "k8s"), timeout=60, **inside.around(KUBERNETES_SERVICE_HOST=""))
    assert p.returncode == 2
    assert "this is no pod" in p.stderr


@pytest.mark.parametrize("coe", ["swarm"], indirect=True, scope="module")
def test_a_context_of_dockers_own(foreign: Foreign) -> None:
    """As `docker context create` leaves it: a folder named by the name's hash, the certificates in another."""
    home = foreign.folder / "docker"
    ident = hashlib.sha256(b"team").hexdigest()
    meta, tls = home / "contexts/meta" / ident, home / "contexts/tls" / ident / "docker"
    meta.mkdir(parents=True)
    tls.mkdir(parents=True)
    endpoint = {"Host": foreign.options["url"], "SkipTLSVerify": False}
    (meta / "meta.json").write_text(json.dumps({"Name": "team", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tls / name).write_text((foreign.folder / name).read_text())
    named = foreign.found_by(context="team")
    p = subprocess.run(named.command("doctor", "swarm"), timeout=60, **named.around(DOCKER_CONFIG=str(home)))
    assert p.returncode == 0, p.stdout + p.stderr
    assert "  no " not in p.stdout
    (home / "config.json").write_text('{"currentContext": "team"}')
    current = foreign.found_by()
    words = ("compare", "swarm", "--profile", "smoke", "--scenarios", "deploy", "--set", "deploy.instances=[1]")
    around = current.around(DOCKER_CONFIG=str(home), DOCKER_HOST="", DOCKER_CONTEXT="")
    p = subprocess.run(current.command(*words), timeout=200, **around)
    assert p.returncode == 0, p.stdout + p.stderr
    other = foreign.found_by(context="nobodys")
    p = subprocess.run(other.command("compare", "swarm"), timeout=60, **other.around(DOCKER_CONFIG=str(home)))
    assert p.returncode == 2
    assert "no context 'nobodys'" in p.stderr
    assert len(p.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("coe", ["swarm"], indirect=True, scope="module")
def test_a_nodes_failure_is_the_users_own_command(foreign: Foreign, bay: tuple[Any, Bay], tmp_path: Path) -> None:
    """Without it the node is left alone; with it, it gets the node's name, address and fault, and its end is its own."""
    _, made = bay
    script = tmp_path / "node.py"
    script.write_text(NODE_COMMAND)
    own = f"{sys.executable} {script} {made.name}"
    options = {**foreign.options, "fail-node-cmd": f"{own} fail {{node}} {{address}} {{fault}}"}
    options["heal-node-cmd"] = f"{own} heal {{node}} {{address}}"
    observed: list[tuple[str, Any]] = []

    def observe(name: str, **data: Any) -> None:
        observed.append((name, data))

    for given, fails in ((options, True), (foreign.options, False)):
        provisioner = ExistingProvisioner()
        spec = BaySpec(coe="swarm", options=given)
        provisioner.check(spec)
        theirs = provisioner.create("hooked", spec, NoJournal(), observe)
        try:
            if not fails:
                with pytest.raises(Unsupported, match="left alone unless --fail-node-cmd"):
                    provisioner.fail_node(theirs, "n2", NodeFault.CRASH, observe)
                continue
            provisioner.fail_node(theirs, "n2", NodeFault.CRASH, observe)
            assert not LabBay.open(made.name).host("n2").alive
            assert observed[-1] == ("node.failed", {"node": "n2", "fault": "crash"})
            provisioner.heal_node(theirs, "n2", observe)
            assert LabBay.open(made.name).host("n2").alive
            with pytest.raises(BadInput, match="no node 'n9'"):
                provisioner.fail_node(theirs, "n9", NodeFault.CRASH, observe)
            with pytest.raises(Unsupported, match="crash and cut"):
                provisioner.fail_node(theirs, "n3", NodeFault.AGENT, observe)
        finally:
            provisioner.delete(theirs, NoJournal(), observe)
    deadline = time.monotonic() + 60
    while not all(n.ready for n in foreign.admin.nodes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(n.ready for n in foreign.admin.nodes())


STATE = {k: v for k, v in os.environ.items() if k == "COEBENCH_STATE"}  # where the lab's own bays are
NODE_COMMAND = f"""
import os, sys
os.environ.pop("COEBENCH_STATE", None)
os.environ.update({STATE!r})
from coebench.contract import NodeFault
from coebench.lab import faults
from coebench.lab.bay import LabBay
bay, do, node, address, *fault = sys.argv[1:]
opened = LabBay.open(bay)
assert opened.host(node).spec.address == address
if do == "heal":
    faults.heal(opened, node, lambda step: None)
elif fault in (["crash"], ["cut"]):
    faults.fail(opened, node, NodeFault(fault[0]))
else:
    print("no such fault", file=sys.stderr)
    sys.exit(3)
"""


@pytest.mark.parametrize("coe", ["mesos"], indirect=True, scope="module")
def test_marathon_by_a_token(foreign: Foreign) -> None:
    """Where DC/OS or a proxy wants a token in place of a password."""
    secret = foreign.folder / "token"
    secret.write_text(TOKEN + "\n")
    with Front(OWN, foreign.server, (CONTROL, 8080), token=TOKEN) as front:
        there = {"url": f"https://{OWN}:{front.port}", "ca": foreign.options["ca"]}
        words = ("compare", "mesos", "--profile", "smoke", "--scenarios", "deploy", "--set", "deploy.instances=[1]")
        p = foreign.found_by(**there, **{"token-file": str(secret)}).coebench(*words)
        assert p.returncode == 0, p.stdout + p.stderr
        assert foreign.found_by(**there, **{"token-env": "MARATHON_TOKEN"}).coebench("doctor", "mesos").returncode == 0
        p = foreign.found_by(**there, **{"token-env": "HOME"}).coebench(*words)
        assert p.returncode == 2
        assert "not allowed" in p.stderr
        assert len(p.stderr.strip().splitlines()) == 1
    assert TOKEN not in "".join(f.read_text() for f in foreign.folder.glob("runs/*/*.json*"))
