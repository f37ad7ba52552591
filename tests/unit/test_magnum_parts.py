"""The provisioner `magnum` without a cloud: what it makes of words, names, options and a server's ways."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from keystoneauth1 import exceptions as ka
from keystoneauth1 import token_endpoint
from keystoneauth1.session import Session
from magnumclient import exceptions as mc
from magnumclient.v1 import client

from coebench.contract import BadInput, BayFailed, BaySpec, Observation, PhaseTimeout
from coebench.lab import pki
from coebench.lab.magnum import spool
from coebench.lab.magnum.keeper import bay_spec
from coebench.provision.magnum import MagnumProvisioner, access, doctor, failures, owner, template
from coebench.provision.magnum.bays import Bays
from coebench.provision.magnum.cloud import Cloud, connect
from coebench.provision.magnum.clusters import RETRIES, Clusters
from coebench.provision.magnum.provisioner import Mine
from coebench.scenarios.bay import BayLife

SAID = {
    "database pool exhausted": "QueuePool limit of size 5 overflow 10 reached, connection timed out",
    "Heat's limit of resources": "StackResourceLimitExceeded: Maximum resources per stack exceeded.",
    "message timed out": "MessagingTimeout: Timed out waiting for a reply to message ID 1f",
    "too many open files": "OSError: [Errno 24] Too many open files",
    "signal not received in time": "WaitConditionTimeout: resources.worker_wait: 0 of 1 received",
    "quota": "Resource limit exceeded: You have reached the maximum clusters per project, 1 (HTTP 403)",
    "no host has room": "ResourceInError: Went to status ERROR due to: No valid host was found.",
    "keypair missing": "Unable to find keypair mine. (HTTP 404)",
    "image unfit": "Image 7d doesn't contain os_distro field. (HTTP 404)",
    "certificates": "Failed to generate certificates for Cluster: CertificatesToClusterFailed",
    "COE not offered": "Invalid input for field/attribute coe (HTTP 400)",
    "no driver for that COE and image": "Cluster type (vm, None, kubernetes) not supported (HTTP 400)",
    "busy": 'Updating a cluster when status is "CREATE_IN_PROGRESS" is not supported',
}


@pytest.mark.parametrize("kind", SAID)
def test_a_failure_is_sorted_by_its_words_and_comes_with_advice(kind: str) -> None:
    found = failures.kind(SAID[kind])
    assert found is not None and found.name == kind
    text = failures.explained(SAID[kind])
    assert found.advice in text and found.source in text and "\n" not in text


def test_unknown_words_are_passed_on_as_they_are() -> None:
    assert failures.explained("the moon\nis full") == "the moon is full"


@pytest.mark.parametrize("bay", ["20261122-1-b1-k8s", "k8s:weightless=yes", "x" * 200, "1", "a b/c"])
def test_magnum_takes_every_name_that_a_bay_can_have(bay: str) -> None:
    import re

    named = owner.name(bay)
    assert (
        re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]*", named) and len(named) <= 64
    )  # Magnum's own rule, and X.509's for a common name
    assert owner.name(bay) == named and (len(bay) < 50 or owner.name(bay + "y") != named)


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))


def test_only_what_an_ended_process_of_this_state_folder_made_is_left_over() -> None:
    me, boot, pids, pid, started = owner.mine().split(".")
    ended = f"{me}.{boot}.{pids}.{pid}.{int(started) + 1}"
    assert not owner.left({owner.OWNER: owner.mine()}) and not owner.foreign({owner.OWNER: owner.mine()})
    assert owner.left({owner.OWNER: ended}) and not owner.foreign({owner.OWNER: ended})
    assert owner.left({owner.OWNER: f"{me}.00000000.{pids}.{pid}.{started}"})
    for elsewhere in (
        f"{'0' * 16}.{boot}.{pids}.999999.1",  # another machine, or a clone
        f"{me}.{boot}.1.999999.1",  # another container, whose processes can't be seen
        f"{me[:8]}.{boot}.999999.1",  # of an older release
        f"{me[:8]}.00000000.999999.1",
    ):
        assert not owner.left({owner.OWNER: elsewhere}) and owner.foreign({owner.OWNER: elsewhere})
    for strange in ("kept", "", "a.b.c", f"{me}.{boot}.{pids}.x.y"):
        assert not owner.left({owner.OWNER: strange})
    assert not owner.left({}) and not owner.foreign({}) and not owner.foreign({owner.OWNER: owner.KEPT})


def test_an_identity_is_private_random_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    made = owner.mine()
    (file,) = (tmp_path / "state").glob("identity-*")
    assert file.stat().st_mode & 0o777 == 0o600 and file.read_text() == made.split(".")[0] and owner.mine() == made
    ended = ".".join([*made.split(".")[:4], "1"])
    assert owner.left({owner.OWNER: ended})
    monkeypatch.setattr(owner, "_hardware", lambda: "clone")  # with a copy of the folder
    assert not owner.left({owner.OWNER: ended}) and owner.mine().split(".")[0] != made.split(".")[0]
    monkeypatch.undo()
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "other"))  # another container on this machine
    assert not owner.left({owner.OWNER: ended}) and not (tmp_path / "other").exists()  # looking makes none
    assert owner.mine().split(".")[0] != made.split(".")[0]
    monkeypatch.setenv("COEBENCH_STATE", "/proc/none")  # nowhere to keep it
    assert owner.mine() == owner.mine() and not owner.left({owner.OWNER: owner.mine()[:-1]})


CLOUD: Any = SimpleNamespace(lab=None, name="cloud")
LAB: Any = SimpleNamespace(lab=True, name="lab")


def test_options_come_from_a_file_then_its_table_then_the_subject(tmp_path: Any) -> None:
    file = tmp_path / "magnum.toml"
    file.write_text(
        'flavor = "m1.small"\nkeypair = "mine"\n[labels]\na = "1"\n[swarm]\nimage = "fedora"\nvolume = 5\n[k8s]\nimage = "core"\n'
    )
    spec = BaySpec(coe="swarm", options={"config": str(file), "flavor": "m1.large", "label.b": "2"})
    found = template.options(CLOUD, spec)
    assert found == {"flavor": "m1.large", "keypair": "mine", "image": "fedora", "volume": 5, "labels": {"a": "1", "b": "2"}}
    assert template.attributes(CLOUD, spec, found, "swarm") == {
        "flavor_id": "m1.large",
        "keypair_id": "mine",
        "image_id": "fedora",
        "docker_volume_size": 5,
        "tls_disabled": False,
    }


def test_wrong_options_are_refused_with_what_there_is(tmp_path: Any) -> None:
    with pytest.raises(BadInput, match=r"no option 'flavour'.*flavor"):
        template.options(CLOUD, BaySpec(coe="k8s", options={"flavour": "m1.small"}))
    with pytest.raises(BadInput, match="can't read"):
        template.options(CLOUD, BaySpec(coe="k8s", options={"config": str(tmp_path / "none.toml")}))
    (tmp_path / "bad.toml").write_text("[")
    with pytest.raises(BadInput, match="is no TOML"):
        template.options(CLOUD, BaySpec(coe="k8s", options={"config": str(tmp_path / "bad.toml")}))
    with pytest.raises(BadInput, match=r"template=NAME.*image=NAME"):
        template.attributes(CLOUD, BaySpec(coe="k8s"), {"labels": {}}, "kubernetes")


@pytest.mark.parametrize("option", ["bay-timeout", "volume"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e999", "x", "0"])
def test_what_is_no_number_is_refused_before_anything_is_made(option: str, value: str) -> None:
    with pytest.raises(BadInput, match=f"{option}={value}: give a"):
        template.options(CLOUD, BaySpec(coe="k8s", options={option: value}))


def test_a_clouds_network_tls_and_masters_are_options_of_a_bay(tmp_path: Any) -> None:
    (tmp_path / "m.toml").write_text('image = "core"\nfloating-ip = false\n')
    given = {"config": str(tmp_path / "m.toml"), "fixed-network": "net", "fixed-subnet": "sub", "dns-nameserver": "10.0.0.2"}
    spec = BaySpec(coe="k8s", options={**given, "master-lb": "yes", "tls": "no", "masters": "3"})
    found = template.options(CLOUD, spec)
    assert template.masters(spec, found) == 3 and template.masters(BaySpec(coe="k8s", controls=2), {}) == 2
    assert template.attributes(CLOUD, spec, found, "kubernetes") == {
        "image_id": "core",
        "fixed_network": "net",
        "fixed_subnet": "sub",
        "dns_nameserver": "10.0.0.2",
        "floating_ip_enabled": False,
        "master_lb_enabled": True,
        "tls_disabled": True,
    }
    for options, said in (
        ({"image": "core", "tls": "maybe"}, "tls is yes or no"),
        ({"template": "t", "flavor": "f", "keypair": "k"}, "is as it is: leave out flavor, or"),
    ):
        with pytest.raises(BadInput, match=said):
            template.options(CLOUD, BaySpec(coe="k8s", options=options))
    with pytest.raises(BadInput, match="masters is a number above 0, not '0'"):
        template.masters(spec, {"masters": 0})
    with pytest.raises(BadInput, match="the lab's Magnum has no option tls"):
        template.options(LAB, BaySpec(coe="k8s", options={"tls": "no"}))


def test_in_the_lab_a_specs_words_travel_as_labels_and_come_back() -> None:
    spec = BaySpec(coe="mesos", nodes=4, memory=1 << 30, cpu=1.5, timeouts="harmonised", options={"ping-timeout": "3secs"})
    labels = template.options(LAB, spec)["labels"]
    asked = spool.Spec(request=1, uuid="u", name="n", coe="mesos", nodes=4, masters=1, labels=labels)
    assert bay_spec("mesos", asked) == spec
    with pytest.raises(BadInput, match="ping-timeout"):
        template.options(LAB, BaySpec(coe="mesos", options={"ping-timeout": "never"}))


@pytest.mark.parametrize(
    "coe, api, url",
    [
        ("swarm", "tcp://10.0.0.5:2376", "tcp://10.0.0.5:2376"),
        ("swarm", "https://10.0.0.5:2376", "tcp://10.0.0.5:2376"),
        ("mesos", "10.0.0.5", "http://10.0.0.5:8080"),
        ("mesos", "http://10.0.0.5:9000", "http://10.0.0.5:9000"),
    ],
)
def test_every_form_of_an_api_address_is_understood(coe: str, api: str, url: str) -> None:
    cluster = SimpleNamespace(name="c", uuid="u", api_address=api)
    clusters: Any = None
    assert access.of(clusters, coe, cluster, tls=False).url.replace("2375", "2376") == url


def test_the_signed_certificate_is_the_administrators_and_in_the_kubeconfig() -> None:
    class Certificates:
        def create(self, cluster_uuid: str, csr: str) -> Any:
            self.csr = x509.load_pem_x509_csr(csr.encode())
            return SimpleNamespace(pem="CERT")

        def get(self, cluster_uuid: str) -> Any:
            return SimpleNamespace(pem="CA")

    certificates = Certificates()
    clusters = _clusters(certificates=certificates)
    got = access.of(clusters, "k8s", SimpleNamespace(name="c", uuid="u", api_address="https://10.0.0.5:6443"), tls=True)
    assert {a.value for a in certificates.csr.subject} == {"admin", "system:masters"}
    config = json.loads(got.kubeconfig)
    assert config["clusters"][0]["cluster"]["server"] == "https://10.0.0.5:6443"
    assert {"client-certificate-data", "client-key-data"} == set(config["users"][0]["user"])
    first = certificates.csr.public_key()
    access.of(clusters, "swarm", SimpleNamespace(name="d", uuid="v", api_address="10.0.0.6:2376"), tls=True)
    assert certificates.csr.public_key() == first  # none is made within a bay's time


def test_an_authority_with_an_rsa_key_signs_too() -> None:
    """Magnum's own authorities have RSA keys."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "magnum")])
    import datetime

    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    cert = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    form = serialization.PrivateFormat.TraditionalOpenSSL
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    signed, _ = pki.Authority(cert, text).sign("server", names=("10.0.0.1",))
    x509.load_pem_x509_certificate(signed.encode()).verify_directly_issued_by(x509.load_pem_x509_certificate(cert.encode()))


def test_without_a_cloud_it_says_how_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("OS_CLOUD", "OS_AUTH_URL", "OS_CLIENT_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("COEBENCH_STATE", "HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"--os-cloud NAME.*coebench lab up magnum"):
        connect()
    monkeypatch.setenv("OS_CLOUD", "nowhere")
    with pytest.raises(BadInput, match="nowhere"):
        connect()
    monkeypatch.delenv("OS_CLOUD")
    for name, value in {"AUTH_URL": "http://127.0.0.1:9/v3", "USERNAME": "u", "PASSWORD": "p", "PROJECT_NAME": "p"}.items():
        monkeypatch.setenv(f"OS_{name}", value)
    with pytest.raises(BadInput, match="can't be reached"):
        connect()
    assert not caplog.records  # a line of the libraries' own would stand beside ours


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of what accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_cloud_that_never_answers_is_given_up(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coebench.provision.magnum.cloud.ANSWER", 0.2)
    monkeypatch.delenv("OS_CLOUD", raising=False)
    for name, value in {"AUTH_URL": f"{silent}/v3", "USERNAME": "u", "PASSWORD": "p", "PROJECT_NAME": "p"}.items():
        monkeypatch.setenv(f"OS_{name}", value)
    with pytest.raises(BadInput, match=r"signing in at .*no answer"):
        connect()


def test_a_magnum_that_stops_answering_ends_what_waits_for_it(silent: str) -> None:
    session = Session(auth=token_endpoint.Token(silent, "t"), timeout=0.2)
    magnum = client.Client(session=session, service_type="container-infra", api_version="1.10")
    clusters = _clusters(clusters=magnum.clusters)
    with pytest.raises(BayFailed, match="creating cluster x: no answer"):  # once: it may be under way
        clusters.create(name="x", cluster_template_id="t")
    assert clusters.retries == 0
    seen, observe = _told()
    with pytest.raises(BayFailed, match="no answer"):
        list(clusters.follow("u", 60, observe))
    assert [n for n, _ in seen] == ["magnum.retry"] * RETRIES


# a server's ways, played


class Server:
    """Clusters whose states follow a script: each GET takes the next, the last one stays."""

    def __init__(self, *states: Any) -> None:
        self.states = list(states)
        self.asked: list[tuple[Any, ...]] = []

    def get(self, uuid: str) -> Any:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        status, updated = state
        return SimpleNamespace(
            name="bay",
            uuid=uuid,
            status=status,
            status_reason="because",
            updated_at=updated,
            stack_id="s",
            node_addresses=["10.0.0.1"],
            faults={},
        )

    def resize(self, uuid: str, nodes: int, nodes_to_remove: list[str]) -> None:
        self.asked.append(("resize", nodes, nodes_to_remove))

    def update(self, uuid: str, patch: Any) -> None:
        self.asked.append(("update", patch))

    def delete(self, uuid: str) -> None:
        self.asked.append(("delete",))


def _clusters(resize: bool = True, **managers: Any) -> Clusters:
    cloud: Any = SimpleNamespace(
        magnum=SimpleNamespace(**managers), has=lambda service: False, resize=lambda: resize, name="cloud", lab=None
    )
    return Clusters(cloud)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coebench.provision.magnum.clusters.time.sleep", lambda s: None)


def _told() -> tuple[list[tuple[str, dict[str, Any]]], Any]:
    seen: list[tuple[str, dict[str, Any]]] = []
    return seen, lambda name, at=None, **data: seen.append((name, data))


def test_a_stale_complete_right_after_a_change_is_not_taken_for_its_end() -> None:
    old, new = ("CREATE_COMPLETE", "t1"), ("UPDATE_COMPLETE", "t3")
    server = Server(old, old, old, ("UPDATE_IN_PROGRESS", "t2"), new)
    clusters = _clusters(clusters=server)
    _, observe = _told()
    clusters.resize("u", 3, (), observe)
    seen = [c.status for c in clusters.follow("u", 60, observe)]
    assert seen == ["CREATE_COMPLETE", "CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]


def test_a_server_before_microversion_1_7_is_asked_by_update_and_cannot_name_nodes() -> None:
    server = Server(("CREATE_COMPLETE", "t1"))
    clusters = _clusters(resize=False, clusters=server)
    _, observe = _told()
    clusters.resize("u", 3, (), observe)
    assert server.asked == [("update", [{"op": "replace", "path": "/node_count", "value": 3}])]
    with pytest.raises(BadInput, match=r"1\.7"):
        clusters.resize("u", 2, ("10.0.0.1",), observe)


def test_a_failed_cluster_tells_its_reason_and_one_that_hangs_its_state() -> None:
    _, observe = _told()
    with pytest.raises(BayFailed, match="CREATE_FAILED: because"):
        list(_clusters(clusters=Server(("CREATE_FAILED", "t"))).follow("u", 60, observe))
    with pytest.raises(PhaseTimeout, match="it is CREATE_IN_PROGRESS"):
        list(_clusters(clusters=Server(("CREATE_IN_PROGRESS", "t"))).follow("u", 0, observe))


@pytest.mark.parametrize(
    "leaving",
    [
        mc.BadRequest("Invalid input for field/attribute master_count. Value: '0'."),
        ka.BadRequest("Bad Request", details="Invalid input for field/attribute node_count. Value: '0'."),  # of /v1/bays
    ],
)
def test_the_last_second_of_a_cluster_is_waited_through_and_a_failed_deletion_tried_once_more(leaving: Exception) -> None:
    going, gone = ("DELETE_IN_PROGRESS", "t"), mc.NotFound("gone")
    server = Server(("CREATE_COMPLETE", "t"), going, leaving, gone)
    seen, observe = _told()
    _clusters(clusters=server).delete("u", 60, observe)
    assert server.asked == [("delete",)] and not [n for n, _ in seen if n == "magnum.retry"]
    server = Server(("CREATE_COMPLETE", "t"), ("DELETE_FAILED", "t"), going, gone)
    _clusters(clusters=server).delete("u", 60, observe)
    assert server.asked == [("delete",), ("delete",)] and [d["said"] for n, d in seen if n == "magnum.retry"] == ["because"]


def test_a_servers_trouble_is_tried_again_where_that_is_safe_and_counted() -> None:
    server = Server(
        mc.InternalServerError("QueuePool limit of size 5"),
        mc.HTTPClientError("slow down", http_status=429),
        ("CREATE_COMPLETE", "t"),
    )
    clusters = _clusters(clusters=server)
    seen, observe = _told()
    assert clusters.get("u", observe).status == "CREATE_COMPLETE"
    assert clusters.retries == 2 and [n for n, _ in seen] == ["magnum.retry"] * 2

    def create(**attributes: Any) -> None:
        raise mc.InternalServerError("QueuePool limit of size 5")

    with pytest.raises(BayFailed, match="database pool exhausted"):  # never twice: it could be two bays
        _clusters(clusters=SimpleNamespace(create=create)).create(name="x")


def test_a_coe_that_the_server_lacks_is_refused_before_anything_is_made() -> None:
    class Templates:
        def __init__(self, *known: str) -> None:
            self.known = known

        def create(self, coe: str, **more: Any) -> Any:
            if coe not in self.known:
                raise mc.BadRequest("Invalid input for field/attribute coe. Value: 'x'. Value should be one of: kubernetes")
            if more.get("image_id") == "coebench-no-such-image":
                raise mc.BadRequest("Cluster type (vm, Unset, kubernetes) not supported")
            return SimpleNamespace(uuid=coe)

    new = _clusters(cluster_templates=Templates("kubernetes"))
    assert new.offers("kubernetes") and not new.offers("mesos") and not new.offers("swarm")
    old = _clusters(cluster_templates=Templates("kubernetes", "swarm"))
    assert old.make_template("t", ("swarm-mode", "swarm"), {}, {}) == "swarm"
    with pytest.raises(BadInput, match=r"offers no mesos.*Xena"):
        old.make_template("t", ("mesos",), {}, {})


def test_the_life_of_bays_is_told_by_the_slowest_and_a_failed_one_is_counted() -> None:
    def o(at: float, name: str, step: str, label: str) -> Observation:
        return Observation(at=at, name=name, data={"step": step, "label": label, "nodes": 2, "bays": 2})

    facts = [
        *(o(0, "life.begin", "create", label) for label in ("a", "b")),
        *(o(1 + i, "bay.accepted", "create", label) for i, label in enumerate(("a", "b"))),
        o(10, "life.end", "create", "a"),
        o(14, "life.end", "create", "b"),
        *(o(20, "life.begin", "up", label) for label in ("a", "b")),
        o(25, "life.end", "up", "a"),
        o(26, "life.failed", "up", "b"),
    ]
    samples = {s.metric: s for s in BayLife().derive(facts)}
    assert samples["create"].value == 14 and samples["create"].factors == {"nodes": 2, "bays": 2}
    assert samples["create_accepted"].value == 2
    assert samples["failed"].value == 1 and "up" not in samples  # not all were scaled up


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": []},
        {"nodes": [0]},
        {"nodes": 3},
        {"bays": 0},
        {"bays": [1, 2, 3]},
        {"bays": [1, 0]},
        {"bays": []},
        {"more": True},
        {"timeout": "1"},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    scenario = BayLife()
    scenario.check(scenario.settings("default"), 3)
    with pytest.raises(BadInput, match="bay: "):
        scenario.check({**scenario.settings("default"), **change}, 3)


# a server of before clusters: /v1/bays and /v1/baymodels


class OldServer:
    """Answers as Magnum of 2016 did; remembers what was asked."""

    def __init__(self, labels: bool = True) -> None:
        self.labels = labels
        self.asked: list[tuple[str, str, Any]] = []
        self.baymodels: dict[str, dict[str, Any]] = {}
        self.bays: dict[str, dict[str, Any]] = {}

    def __call__(self, method: str, path: str, json: Any = None) -> Any:
        self.asked.append((method, path, json))
        _, what, *ident = path.partition("?")[0].split("/")
        kept: dict[str, dict[str, Any]] = getattr(self, what, {})
        if what == "certificates":
            return SimpleNamespace(json=lambda: {"pem": "PEM", **(json or {})})
        if method == "POST":
            if what == "bays" and not self.labels and "labels" in json:
                raise ka.BadRequest("Bad Request", details="Unknown attribute for argument bay: labels")
            made = {"uuid": f"{what}-{len(kept)}", "status": "CREATE_COMPLETE", **json}
            kept[made["uuid"]] = made
            return SimpleNamespace(json=lambda: made)
        if not ident:  # two pages
            first, rest = list(kept.values())[:1], list(kept.values())[1:]
            page = {what: rest} if "?" in path else {what: first, "next": "http://far/v1/bays?marker=1" if rest else None}
            return SimpleNamespace(json=lambda: page)
        if ident[0] not in kept:
            raise ka.NotFound(f"{what} {ident[0]} could not be found")
        if method == "DELETE":
            del kept[ident[0]]
        return SimpleNamespace(json=lambda: kept[ident[0]])


def _old(server: OldServer) -> Clusters:
    cloud: Any = SimpleNamespace(
        magnum=Bays(server), has=lambda service: False, resize=lambda: False, name="old", lab=None, bays=True
    )
    return Clusters(cloud)


@pytest.mark.parametrize("labels", [True, False], ids=["labelled", "without labels"])
def test_bays_and_baymodels_are_asked_for_as_clusters_are(labels: bool) -> None:
    server = OldServer(labels)
    clusters = _old(server)
    _, observe = _told()
    made = clusters.make_template("t", ("swarm-mode", "swarm"), {"image_id": "i", "keypair_id": "k"}, {owner.RUN: "mine"})
    uuids = [
        clusters.create(
            name=name, cluster_template_id=made, node_count=2, labels={owner.RUN: "mine"}, create_timeout=9, keypair="k"
        )
        for name in ("coebench-a", "coebench-b")
    ]
    assert server.bays[uuids[0]]["baymodel_id"] == made and server.bays[uuids[0]]["bay_create_timeout"] == 9
    assert "keypair" not in server.bays[uuids[0]] and server.baymodels[made]["keypair_id"] == "k"
    assert [c.name for c in clusters.all()] == ["coebench-a", "coebench-b"]
    bay = clusters.get(uuids[0])
    assert bay.cluster_template_id == made and bay.labels == {owner.RUN: "mine"} and bay.api_address is None
    clusters.resize(uuids[0], 3, (), observe)
    assert server.asked[-1] == ("PATCH", f"/bays/{uuids[0]}", [{"op": "replace", "path": "/node_count", "value": 3}])
    assert clusters.cloud.magnum.certificates.create(cluster_uuid=uuids[0], csr="CSR").pem == "PEM"
    assert server.asked[-1][2] == {"bay_uuid": uuids[0], "csr": "CSR"}
    assert len(clusters.ours(lambda found: found.get(owner.RUN) == "mine")[0]) == 2
    for uuid in uuids:
        clusters.delete(uuid, 60, observe)
    assert clusters.all() == [] and clusters.get(uuids[0]) is None


def test_an_old_servers_template_needs_a_keypair_and_its_errors_tell_their_details() -> None:
    clusters = _old(OldServer())
    with pytest.raises(BadInput, match="keypair=NAME"):
        clusters.make_template("t", ("kubernetes",), {"image_id": "i"}, {})
    error = ka.BadRequest("Invalid input for field/attribute coe", details="Value should be one of: kubernetes")
    assert "Value should be one of" in failures.text(error)
    assert "What to do" in str(failures.told("making a template", error))


@pytest.mark.parametrize(
    "least, bays, lab, options, refused",
    [
        ((1, 10), False, None, {"template": "a", "upgrade-to": "b"}, {}),
        ((1, 10), False, None, {"template": "a"}, {"upgrade": "upgrade-to=NAME"}),
        ((1, 7), False, None, {"template": "a"}, {"upgrade": "microversion 1.7, and upgrading needs 1.8"}),
        ((1, 6), False, None, {"template": "a"}, {"replace": "needs microversion 1.7", "upgrade": "microversion 1.6"}),
        ((1, 1), True, None, {"template": "a"}, {"replace": "needs microversion 1.7", "upgrade": "/v1/bays alone"}),
        ((1, 10), False, True, {}, {"upgrade": "one release of each engine"}),
        ((1, 10), False, True, {"weightless": "yes", "upgrade-to": "b"}, {}),
    ],
)
def test_what_a_server_can_not_do_is_known_beforehand(
    least: tuple[int, int], bays: bool, lab: Any, options: dict[str, str], refused: dict[str, str]
) -> None:
    cloud: Any = SimpleNamespace(most=least, bays=bays, lab=lab, name="cloud")
    cloud.resize, cloud.upgrade = (lambda: Cloud.resize(cloud)), (lambda: Cloud.upgrade(cloud))
    provisioner = MagnumProvisioner()
    provisioner._clusters = Clusters(cloud)
    found = provisioner.refuses(BaySpec(coe="k8s", options=options))
    assert found.keys() == refused.keys() and all(refused[step] in found[step] for step in refused)


class PlayedBays:
    """A trial's bays that are there at once; remembers what was asked."""

    def __init__(self, refused: dict[str, str]) -> None:
        self.refused = refused
        self.asked: list[str] = []

    def refuses(self) -> dict[str, str]:
        return self.refused

    def create(self, label: str, nodes: int, observe: Any) -> Any:
        return self._bay("create", nodes)

    def resize(self, bay: Any, nodes: int, observe: Any) -> Any:
        return self._bay("resize", nodes)

    def replace_node(self, bay: Any, node: str, observe: Any) -> Any:
        return self._bay(f"replace {node}", len(bay.nodes))

    def upgrade(self, bay: Any, observe: Any) -> Any:
        return self._bay("upgrade", len(bay.nodes))

    def delete(self, bay: Any, observe: Any) -> None:
        self.asked.append("delete")

    def _bay(self, what: str, nodes: int) -> Any:
        self.asked.append(what)
        return SimpleNamespace(nodes=[SimpleNamespace(name=f"n{i}") for i in range(1, nodes + 1)])


@pytest.mark.parametrize(
    "refused, asked, warned",
    [
        ({"upgrade": "not named"}, ["create", "resize", "replace n1", "resize", "delete"], []),
        ({"replace": "needs 1.7", "upgrade": "not named"}, ["create", "resize", "resize", "delete"], ["needs 1.7"]),
        ({}, ["create", "resize", "replace n1", "upgrade", "resize", "delete"], []),
    ],
)
def test_a_step_that_the_provisioner_refuses_is_left_out_and_said_so(
    refused: dict[str, str], asked: list[str], warned: list[str]
) -> None:
    seen, observe = _told()
    bays = PlayedBays(refused)
    deadline = SimpleNamespace(waiting_for=lambda what: None, left=lambda: 60.0)
    trial: Any = SimpleNamespace(
        bays=bays, observe=observe, settings=BayLife().settings("smoke"), phase=lambda *_: contextlib.nullcontext(deadline)
    )
    BayLife().run(trial)
    assert bays.asked == asked
    assert {d["step"]: d["reason"] for name, d in seen if name == "life.left_out"} == refused
    warnings = [d["text"] for name, d in seen if name == "warning"]
    assert len(warnings) == len(warned) and all(w in text for w, text in zip(warned, warnings, strict=True))


@pytest.mark.parametrize(
    "followers, answer, elapsed, pause",
    [(1, 0.03, 0, 0.25), (1, 0.03, 100, 2.0), (1, 0.03, 9999, 5.0), (4, 0.1, 0, 0.6), (20, 0.05, 0, 1.5), (50, 0.3, 0, 3.0)],
)
def test_many_bays_are_looked_at_seldomer_but_more_often_than_magnum_looks(
    followers: int, answer: float, elapsed: float, pause: float
) -> None:
    clusters = _clusters(clusters=Server(("CREATE_COMPLETE", "t")))
    clusters._followers, clusters._answer = followers, answer
    assert clusters.pause(elapsed) == pytest.approx(pause)
    clusters._answer = 8.0
    clusters.get("u")
    assert clusters._answer < 8.0  # what is seen of the server's answers counts


def test_a_cluster_is_found_by_its_name_without_listing_all() -> None:
    class Named:
        def get(self, name: str) -> Any:
            if name == "two":
                raise mc.Conflict("Multiple clusters exist with same name. Please use the cluster uuid instead.")
            if name != "one":
                raise mc.NotFound("none")
            return SimpleNamespace(name=name, uuid="u1")

        def list(self) -> Any:
            return [SimpleNamespace(name="two", uuid="u2"), SimpleNamespace(name="two", uuid="u3")]

    clusters = _clusters(clusters=Named())
    assert clusters.find("one").uuid == "u1" and clusters.find("none") is None  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="2 clusters are named two"):
        clusters.find("two")


def _answer(**body: Any) -> Any:
    return SimpleNamespace(status_code=200, json=lambda: body)


def test_a_stacks_stale_complete_is_not_taken_for_its_end() -> None:
    """The stack still looks as it did before the change, for longer than the cluster does."""
    server = Server(
        ("CREATE_COMPLETE", "t1"), ("UPDATE_IN_PROGRESS", "t2"), ("UPDATE_IN_PROGRESS", "t2"), ("UPDATE_COMPLETE", "t3")
    )
    clusters = _clusters(clusters=server)
    heat = [("UPDATE_COMPLETE", "s1"), ("UPDATE_COMPLETE", "s1"), ("UPDATE_IN_PROGRESS", "s2"), ("UPDATE_COMPLETE", "s2")]
    asked: list[str] = []

    def rest(method: str, path: str, service: str, **more: Any) -> Any:
        status, updated = heat[min(len(asked), len(heat) - 1)]
        asked.append(status)
        return _answer(stack={"stack_status": status, "updated_time": updated})

    clusters.cloud.has = lambda service: True  # type: ignore[method-assign]
    clusters.cloud.rest = rest  # type: ignore[method-assign]
    provisioner = MagnumProvisioner()
    provisioner._clusters = clusters
    seen, observe = _told()
    clusters.resize("u", 3, (), observe)
    provisioner._follow(Mine("u", "", True, 60.0), observe)
    assert len(asked) == 4  # once before the change, and at each look
    assert [n for n, _ in seen if n in ("bay.stack", "bay.complete")] == ["bay.stack", "bay.complete"]
    assert [(n, d.get("status")) for n, d in seen].index(("bay.stack", "UPDATE_COMPLETE")) > [n for n, _ in seen].index(
        "bay.status"
    )


def test_nodes_that_are_going_are_not_taken_for_the_bays(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [["a", "b", "c"], ["a", "b", "c"], ["a"]]
    get = lambda uuid: SimpleNamespace(api_address="here", node_addresses=listed.pop(0))  # noqa: E731
    provisioner = MagnumProvisioner()
    provisioner._clusters = _clusters(clusters=SimpleNamespace(get=get))
    provisioner._mine["bay"] = Mine("u", "", True, 60.0)
    monkeypatch.setattr(provisioner, "_seen", lambda *_: {})
    monkeypatch.setattr(provisioner, "_bay", lambda name, mine, spec, cluster, seen: cluster.node_addresses)
    _, observe = _told()
    assert provisioner._ready("bay", BaySpec(coe="k8s", nodes=1), 60.0, observe) == ["a"]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("lab", [None, True])
def test_classic_swarm_is_taken_for_swarm_mode_in_the_lab_alone(lab: Any) -> None:
    class Templates:
        def create(self, coe: str, **more: Any) -> Any:
            if coe != "swarm":
                raise mc.BadRequest("Invalid input for field/attribute coe. Value: 'x'. Value should be one of: swarm")
            raise mc.BadRequest("Cluster type (vm, Unset, swarm) not supported")

        def list(self) -> Any:
            return [SimpleNamespace(name="old", uuid="o", coe="swarm")]

    clusters = _clusters(cluster_templates=Templates())
    clusters.cloud.lab, clusters.cloud.most = lab, (1, 4)
    provisioner = MagnumProvisioner()
    provisioner._clusters = clusters
    spec = BaySpec(coe="swarm", options={"template": "old"})
    if lab:
        assert clusters.offers("swarm") and provisioner.template("old", spec).uuid == "o"
        return
    with pytest.raises(BadInput, match=r"offers no swarm-mode: its `swarm` is classic"):
        provisioner.check(spec)
    with pytest.raises(BadInput, match=r"makes swarm bays, not swarm: its `swarm` is classic"):
        provisioner.template("old", spec)


class Listed:
    """Clusters or templates of a project, which can be deleted."""

    def __init__(self, **labels: dict[str, str]) -> None:
        self.there = labels

    def list(self) -> list[Any]:
        return [self._item(name, labels) for name, labels in self.there.items()]

    def get(self, uuid: str) -> Any:
        if uuid not in self.there:
            raise mc.NotFound(uuid)
        return self._item(uuid, self.there[uuid])

    def delete(self, uuid: str) -> None:
        if self.there.pop(uuid, None) is None:
            raise mc.NotFound(uuid)

    def _item(self, name: str, labels: dict[str, str]) -> Any:
        return SimpleNamespace(
            name=f"coebench-{name}", uuid=name, status="CREATE_COMPLETE", labels=labels, to_dict=lambda: {"labels": labels}
        )


@pytest.mark.parametrize(
    "asked, gone",
    [
        ({}, {"left"}),
        ({"run": "r1"}, {"left", "elsewhere"}),
        ({"run": "r2-b1-k8s"}, {"other"}),
        ({"run": "r"}, set()),
        ({"foreign": True}, {"left", "elsewhere", "other"}),
        ({"foreign": True, "run": "r2"}, {"other"}),
    ],
)
def test_what_other_machines_made_is_cleaned_where_that_is_asked_for(asked: Any, gone: set[str]) -> None:
    me, boot, pids, pid, started = owner.mine().split(".")
    ended, foreign = f"{me}.{boot}.{pids}.{pid}.{int(started) + 1}", f"{'0' * 16}.{boot}.{pids}.9.1"
    labels = {
        "left": {owner.OWNER: ended, owner.RUN: "r1-b1-k8s"},
        "elsewhere": {owner.OWNER: foreign, owner.RUN: "r1-b2-k8s"},
        "other": {owner.OWNER: foreign, owner.RUN: "r2-b1-k8s"},
        "alive": {owner.OWNER: owner.mine(), owner.RUN: "r1-b3-k8s"},
        "kept": {owner.OWNER: owner.KEPT, owner.RUN: "r1"},
        "nobodys": {},
    }
    listed, templates = Listed(**labels), Listed(**labels)
    provisioner = MagnumProvisioner()
    provisioner._clusters = _clusters(clusters=listed, cluster_templates=templates)
    provisioner.clean(**asked)
    assert labels.keys() - listed.there.keys() == labels.keys() - templates.there.keys() == gone


def test_a_probe_that_stays_carries_its_owner() -> None:
    made: list[Any] = []

    class Templates:
        def create(self, **attributes: Any) -> Any:
            made.append(attributes)
            return SimpleNamespace(uuid="u")

        def delete(self, uuid: str) -> None:
            raise mc.Forbidden("not yours")

    with pytest.raises(BadInput, match="not yours"):
        _clusters(cluster_templates=Templates()).offers("kubernetes")
    assert made[0]["labels"] == {owner.OWNER: owner.mine()} and made[0]["name"].startswith(owner.PREFIX)


def test_a_deleted_bays_credentials_go_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from coebench.cli import bay as command

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "coebench/bays/mine"
    for place in (folder, folder.parent / "other"):
        place.mkdir(parents=True)
        (place / "key.pem").write_text("secret")
    about = {"labels": {owner.RUN: "mine"}}
    played = SimpleNamespace(about=lambda name: about, delete=lambda *_: None)
    monkeypatch.setattr(command, "_provisioner", lambda _: played)
    command.delete(["coebench-mine"])
    assert not folder.exists() and (folder.parent / "other/key.pem").exists()


def test_each_number_of_nodes_can_have_its_own_number_of_bays() -> None:
    """CERN's rows do."""
    made: list[tuple[str, int]] = []

    class Bays(PlayedBays):
        def create(self, label: str, nodes: int, observe: Any) -> Any:
            made.append((label, nodes))
            return super().create(label, nodes, observe)

    seen, observe = _told()
    deadline = SimpleNamespace(waiting_for=lambda what: None, left=lambda: 60.0)
    settings = {**BayLife().settings("default"), "nodes": [2, 5], "bays": [3, 1]}
    BayLife().check(settings, 3)
    trial: Any = SimpleNamespace(
        bays=Bays({"upgrade": "no"}), observe=observe, settings=settings, phase=lambda *_: contextlib.nullcontext(deadline)
    )
    BayLife().run(trial)
    assert sorted(made) == [("n2x3-1", 2), ("n2x3-2", 2), ("n2x3-3", 2), ("n5x1-1", 5)]
    assert {(d["nodes"], d["bays"]) for n, d in seen if n == "life.end"} == {(2, 3), (5, 1)}


def test_what_broke_is_counted_by_its_kind_and_so_is_what_was_tried_again() -> None:
    class Bays(PlayedBays):
        def create(self, label: str, nodes: int, observe: Any) -> Any:
            observe("bay.status", status="CREATE_IN_PROGRESS")
            observe("magnum.retry", what="asking", status=503, said="")
            if label.endswith("-1"):
                raise failures.failed(
                    "cluster is CREATE_FAILED", "Resource CREATE failed", "node0 (Server): No valid host was found"
                )
            if label.endswith("-2"):
                raise failures.stuck("cluster", 60, "CREATE_IN_PROGRESS", "no reason is given", "node0 (Server): state changed")
            if label.endswith("-3"):
                raise failures.told("creating", mc.Forbidden("You have reached the maximum clusters per project, 1"))
            return super().create(label, nodes, observe)

    facts: list[Observation] = []
    deadline = SimpleNamespace(waiting_for=lambda what: None, left=lambda: 60.0)
    trial: Any = SimpleNamespace(
        bays=Bays({"upgrade": "no"}),
        observe=lambda name, at=None, **data: facts.append(Observation(at=at or 0.0, name=name, data=data)),
        settings={**BayLife().settings("smoke"), "bays": 4},
        phase=lambda *_: contextlib.nullcontext(deadline),
    )
    BayLife().run(trial)
    samples = list(BayLife().derive(facts))
    assert {s.factors["kind"]: s.value for s in samples if s.metric == "failures"} == {
        "no host has room": 1,
        "not in time": 1,
        "quota": 1,
    }
    assert [s.value for s in samples if s.metric in ("failed", "retries")] == [3, 4]


def test_a_failure_is_sorted_by_its_evidence_where_the_reason_names_a_resource_alone() -> None:
    server = Server(("CREATE_FAILED", "t"))
    clusters = _clusters(clusters=server)
    clusters.cloud.has = lambda service: True  # type: ignore[method-assign]
    asked: list[str] = []

    def rest(method: str, path: str, service: str, **more: Any) -> Any:
        asked.append(path)
        resource = {"resource_name": "node0", "resource_type": "OS::Nova::Server"}
        waiting = {**resource, "resource_status": "CREATE_IN_PROGRESS", "resource_status_reason": ""}
        failed = {**resource, "resource_status": "CREATE_FAILED", "resource_status_reason": "No valid host was found"}
        return _answer(resources=[waiting, failed])

    clusters.cloud.rest = rest  # type: ignore[method-assign]
    _, observe = _told()
    with pytest.raises(BayFailed, match=r"no host has room: because. What to do") as failed:
        list(clusters.follow("u", 60, observe))
    assert failed.value.kind == "no host has room" and asked[-1].endswith("status=FAILED")
    server.states = [("CREATE_IN_PROGRESS", "t")]
    with pytest.raises(PhaseTimeout, match=r"it is CREATE_IN_PROGRESS: no host has room: because") as stuck:
        list(clusters.follow("u", 0, observe))
    clusters.cloud.rest = lambda *_, **__: (_ for _ in ()).throw(BadInput("asking: can't be reached"))  # type: ignore[method-assign]
    server.states = [("CREATE_FAILED", "t")]
    with pytest.raises(BayFailed, match="is CREATE_FAILED: because"):  # a Heat that is away hides no failure
        list(clusters.follow("u", 60, observe))
    lines = stuck.value.evidence.splitlines()
    assert lines[0].endswith("No valid host was found") and lines[1].endswith("CREATE_IN_PROGRESS")
    assert asked[-1].endswith("&status=FAILED&status=IN_PROGRESS")


def test_doctor_looks_for_what_subjects_name_and_at_the_quotas(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finds:
        """A service of the SDK's, which has some names."""

        def __init__(self, **there: Any) -> None:
            self.there = there

        def __getattr__(self, name: str) -> Any:
            assert name.startswith("find_")
            return lambda named, ignore_missing: self.there.get(named)

    small, large = SimpleNamespace(vcpus=2, ram=1000), SimpleNamespace(vcpus=4, ram=8000)
    sdk = SimpleNamespace(image=Finds(core=1), compute=Finds(small=small, large=large, mine=1), network=Finds(public=1))
    limits = {"maxTotalInstances": 100, "totalInstancesUsed": 0, "maxTotalCores": 20, "totalCoresUsed": 1}
    limits |= {"maxTotalRAMSize": -1, "totalRAMUsed": 0}
    templates = [SimpleNamespace(name="t", uuid="t", coe="kubernetes", image_id="core", flavor_id="small", tls_disabled=False)]
    clusters = _clusters(cluster_templates=SimpleNamespace(list=lambda: templates), clusters=SimpleNamespace(list=list))
    cloud = clusters.cloud
    cloud.least, cloud.most, cloud.bays, cloud.region, cloud.project = (1, 1), (1, 10), False, "r", "p"  # type: ignore[misc]
    cloud.has = lambda service: True  # type: ignore[method-assign]
    cloud.rest = lambda *_, **__: _answer(limits={"absolute": limits})  # type: ignore[method-assign]
    monkeypatch.setattr(clusters, "offers", lambda coe: True)
    monkeypatch.setattr(clusters, "ours", lambda wanted: ([], []))
    monkeypatch.setattr(doctor, "connect", lambda: cloud)
    monkeypatch.setattr(doctor, "Clusters", lambda cloud: clusters)
    monkeypatch.setattr(doctor, "_sdk", lambda cloud: sdk)

    def told(**options: str) -> dict[str, Any]:
        spec = BaySpec(coe="k8s", nodes=3, options={k.replace("_", "-"): v for k, v in options.items()})
        return {f.what: f for f in doctor.findings(3, 2, {"mine": spec})}

    found = told(image="core", flavor="small", master_flavor="large", keypair="mine", network="public")
    assert (found["mine"].verdict, found["cores"].verdict, found["memory, MiB"].verdict) == ("ok", "no", "ok")
    assert found["cores"].told == "1 there, 20 wanted, 20 allowed" and "22000 wanted" in found["memory, MiB"].told
    found = told(template="t", masters="2")
    assert found["mine"].told == "there: image core, flavor small" and "20 wanted" in found["cores"].told
    found = told(image="core", flavor="huge", keypair="theirs")
    assert found["mine"].verdict == "no" and found["mine"].told.endswith("flavor huge, keypair theirs")
    assert "cores" not in found
    assert "no cluster template 'u'" in told(template="u")["mine"].told
    assert "no option 'flavour'" in told(flavour="x")["mine"].told


def test_a_clean_up_of_bay_create_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from coebench.cli import bay as command

    def fail(what: str) -> Any:
        def call(*_: Any) -> None:
            raise BayFailed(what)

        return call

    played = SimpleNamespace(check=lambda spec: None, cloud=CLOUD, create=fail("it broke"), delete=fail("it stays"))
    monkeypatch.setattr(command, "_provisioner", lambda _: played)
    with pytest.raises(BayFailed, match="it broke"):
        command.create("k8s", name="mine")
    assert "it is not gone (it stays): coebench bay delete mine" in capsys.readouterr().err


def _handler(answer: Any) -> Any:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body, head = answer(self.command, self.path)
            data = json.dumps(body).encode()
            self.send_response(status)
            for key, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **head}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

    return Handler


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Any]:
    """A Keystone whose catalogue names a Magnum that is not there, and a Magnum that gives three items at a time."""
    fake = SimpleNamespace(asked=[], loop=False, where="", of={"clusters": 8, "clustertemplates": 7})

    def answer(method: str, path: str) -> Any:
        fake.asked.append(path)
        where, _, query = path.partition("?")
        if where == "/v3":
            links = [{"rel": "self", "href": f"{fake.where}/v3/"}]
            return 200, {"version": {"id": "v3.14", "status": "stable", "links": links}}, {}
        if where == "/v3/auth/tokens":
            dead = {"interface": "public", "region": "R", "region_id": "R", "url": f"{fake.where}/dead/v1", "id": "e"}
            catalog = [{"type": "container-infra", "name": "magnum", "endpoints": [dead]}]
            domain = {"id": "default", "name": "Default"}
            token = {"methods": ["password"], "expires_at": "2999-01-01T00:00:00.000000Z", "catalog": catalog}
            token |= {"project": {"id": "p", "name": "p", "domain": domain}, "user": {"id": "u", "name": "u", "domain": domain}}
            return 201, {"token": token}, {"X-Subject-Token": "t"}
        versions = {
            "OpenStack-API-Minimum-Version": "container-infra 1.1",
            "OpenStack-API-Maximum-Version": "container-infra 1.10",
        }
        if where.rstrip("/") == "/mag/v1":
            return 200, {"id": "v1", "clusters": []}, versions
        what = where.removeprefix("/mag/v1/")
        if where.startswith("/mag/v1/") and what in fake.of:
            at = int(query.rpartition("marker=")[2] or 0)
            items = [{"uuid": str(i), "name": f"coebench-{i}"} for i in range(at, min(at + 3, fake.of[what]))]
            body: dict[str, Any] = {what: items}
            if at + 3 < fake.of[what] or fake.loop:
                following = 3 if fake.loop else at + 3
                body["next"] = f"http://inside.example:9511/v1/{what}?limit=3&marker={following}"
            return 200, body, versions
        return 404, {"errors": [{"status": 404, "detail": "no"}]}, {}

    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.where = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    monkeypatch.setenv("OS_CLOUD", "c")
    auth = {"auth_url": f"{fake.where}/v3", "username": "u", "password": "p", "project_name": "p"}
    auth |= {"user_domain_name": "Default", "project_domain_name": "Default"}
    fake.settings = lambda **more: (tmp_path / "clouds.yaml").write_text(
        json.dumps({"clouds": {"c": {"auth": auth, "region_name": "R", **more}}})
    )
    yield fake
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("key", ["container_infra_endpoint_override", "container_infrastructure_management_endpoint_override"])
@pytest.mark.parametrize("path", ["/mag/v1", "/mag/v1/", "/mag"])
def test_all_parts_of_lists_come_from_the_url_that_the_settings_have(paged: Any, key: str, path: str) -> None:
    paged.settings(**{key: paged.where + path})
    clusters = Clusters(connect())
    assert [c.name for c in clusters.all()] == [f"coebench-{i}" for i in range(8)]
    assert len(clusters.templates()) == 7
    assert not [p for p in paged.asked if p.startswith("/dead")]


def test_a_list_without_an_end_is_told_of(paged: Any) -> None:
    paged.settings(container_infra_endpoint_override=paged.where + "/mag/v1")
    clusters = Clusters(connect())
    paged.loop = True
    with pytest.raises(BayFailed, match="has no end"):
        clusters.all()
