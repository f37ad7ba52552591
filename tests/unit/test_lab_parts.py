"""Parts of the lab that need neither root nor engines."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import ssl
import subprocess
import tarfile
from pathlib import Path

import pytest
from cryptography import x509

from coebench.contract import BadInput, BaySpec, Role, Unsupported
from coebench.lab import images, paths, pki, plan
from coebench.lab.cache import Artefact, key, prune
from coebench.lab.engines import engine
from coebench.lab.engines.kubernetes import PROGRAMS
from coebench.lab.host import meminfo
from coebench.lab.marathon.apps import DEFAULTS
from coebench.lab.process import Process, kill_all


def tree(root: Path) -> Path:
    (root / "b").mkdir(parents=True)
    (root / "b/two").write_text("2")
    (root / "a").write_text("1")
    (root / "a").chmod(0o755)
    (root / "c").symlink_to("a")
    return root


def test_an_archive_is_the_same_to_the_byte_whenever_it_is_built(tmp_path: Path) -> None:
    first = tree(tmp_path / "x")
    second = tree(tmp_path / "y")
    os.utime(second / "a", (1, 1))
    config = {"Cmd": ["/a"]}
    one = images.archive(images.layer_of(first), "thing:v1", config)
    assert one == images.archive(images.layer_of(second), "thing:v1", config)
    (second / "a").write_text("other")
    assert one != images.archive(images.layer_of(second), "thing:v1", config)


def test_an_archive_has_what_each_of_its_readers_wants(tmp_path: Path) -> None:
    data = images.archive(images.layer_of(tree(tmp_path / "x")), "thing:v1", {"Cmd": ["/a"], "Env": ["X=1"]})
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        names = t.getnames()
        read = {n: t.extractfile(n).read() for n in names if t.getmember(n).isfile()}  # type: ignore[union-attr]
    manifest = json.loads(read["manifest.json"])[0]
    assert manifest["RepoTags"] == ["thing:v1"]
    layer = json.loads(read["repositories"])["thing"]["v1"]
    assert f"{layer}/json" in read  # the Mesos containerizer reads nothing else
    assert json.loads(read[f"{layer}/json"])["config"]["Env"] == ["X=1"]
    config = json.loads(read[manifest["Config"]])
    data_of_layer = read[manifest["Layers"][0]]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(data_of_layer).hexdigest()]
    assert manifest["Layers"] == [f"{layer}/layer.tar"]
    with tarfile.open(fileobj=io.BytesIO(read[manifest["Layers"][0]])) as inner:
        members = {m.name: m for m in inner.getmembers()}
    assert list(members) == ["a", "b", "b/two", "c"]
    assert all((m.uid, m.gid, m.mtime) == (0, 0, 0) for m in members.values())
    assert members["c"].linkname == "a"
    assert members["a"].mode & 0o111


def test_two_tags_of_one_layer_are_two_layers_by_name(tmp_path: Path) -> None:
    """Mesos keeps a layer with its configuration by this name: the second tag would be run with the first one's."""
    layer = images.layer_of(tree(tmp_path / "x"))
    names = []
    for tag in ("v1", "v2"):
        with tarfile.open(fileobj=io.BytesIO(images.archive(layer, f"thing:{tag}", {"Env": [f"V={tag}"]}))) as t:
            names.append(json.loads(t.extractfile("manifest.json").read())[0]["Layers"])  # type: ignore[union-attr]
    assert names[0] != names[1]


def test_links_in_a_tree_are_followed_inside_it(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/real").write_text("here")
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/name").symlink_to("../../usr/lib/real")
    assert images._resolve(tmp_path, "/lib/name").read_text() == "here"


def _build(folder: str, count: str) -> None:
    os.environ["COEBENCH_CACHE"] = folder

    def build(work: Path, out: Path, say: object) -> None:
        with open(count, "a") as f:
            f.write("x")
        (out / "done").write_text("yes")

    Artefact("thing", key("recipe"), build).ensure(lambda _: None)


def test_two_at_once_build_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    jobs = [multiprocessing.get_context("fork").Process(target=_build, args=(str(tmp_path), str(count))) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(20)
        assert job.exitcode == 0
    assert count.read_text() == "x"


def test_a_build_that_failed_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path))
    tries = []

    def build(work: Path, out: Path, say: object) -> None:
        tries.append((work / "half").exists())
        (work / "half").touch()
        if len(tries) == 1:
            (out / "rubbish").touch()
            raise RuntimeError("power cut")

    artefact = Artefact("thing", "k", build)
    with pytest.raises(RuntimeError):
        artefact.ensure(lambda _: None)
    assert not artefact.ready
    path = artefact.ensure(lambda _: None)
    assert tries == [False, True]  # the work folder was kept
    assert list(path.iterdir()) == []  # what the failed try put out was not
    assert artefact.ensure(lambda _: None) == path
    assert len(tries) == 2


def test_what_is_no_longer_used_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path))

    def build(work: Path, out: Path, say: object) -> None:
        (out / "file").write_text("x" * 10000)

    old, new = Artefact("thing", key("old"), build), Artefact("thing", key("new"), build)
    for artefact in (old, new):
        artefact.ensure(print)
    now = old.path.stat().st_mtime + 40 * 86400
    os.utime(old.path, (0, 0))  # the folder's own age says nothing: it was used a moment ago
    assert prune(41, now) == {}
    mark = tmp_path / "lab" / f"{new.path.name}.used"
    os.utime(mark, (now, now))
    assert list(prune(30, now)) == [old.path.name]
    assert not old.ready and new.ready
    assert sorted(p.name for p in (tmp_path / "lab").glob("thing-*")) == [new.path.name, mark.name]


def test_keys_tell_parts_apart() -> None:
    assert key("ab", "c") != key("a", "bc")
    assert key("a", b"b") == key("a", "b")


def test_certificates_are_for_whom_they_say() -> None:
    ca = pki.Authority.new("lab")
    cert, _ = pki.Authority(ca.cert, ca.key).sign("system:node:n1", "system:nodes", ("10.77.0.1", "localhost"))
    leaf, root = (x509.load_pem_x509_certificate(c.encode()) for c in (cert, ca.cert))
    leaf.verify_directly_issued_by(root)
    assert leaf.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in names] == ["10.77.0.1", "localhost"]


def test_a_client_that_is_strict_accepts_the_labs_certificates(tmp_path: Path) -> None:
    """As Python is from 3.13 on by itself: Kubernetes' bays never became ready there."""
    ca = pki.Authority.new("lab")
    texts = {"server": ca.sign("server", names=("127.0.0.1",)), "client": ca.sign("client")}
    for name, (cert, key_text) in texts.items():
        (tmp_path / name).write_text(cert + key_text)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=ca.cert)
    server.load_verify_locations(cadata=ca.cert)
    server.verify_mode = ssl.CERT_REQUIRED
    for context, name in ((server, "server"), (client, "client")):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(tmp_path / name)
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    ends = [server.wrap_bio(*pipes, server_side=True), client.wrap_bio(*pipes[::-1], server_hostname="127.0.0.1")]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert all(end.getpeercert()["subject"] for end in ends)


def test_every_host_has_an_address_of_its_own() -> None:
    layout = plan.Layout.of(3, plan.MOST_NODES)
    addresses = [plan.address(h) for h in (plan.REGISTRY, *(name for name, _ in layout.hosts))]
    assert len(set(addresses)) == len(addresses)
    assert plan.GATEWAY not in addresses
    assert len({plan.pods(n) for n in layout.nodes}) == plan.MOST_NODES


def test_nodes_that_come_later_get_new_names() -> None:
    layout = plan.Layout.of(1, 3).without({"n2"})
    assert layout.more(1).nodes == ("n1", "n3", "n4")
    assert [r for _, r in layout.hosts] == [Role.CONTROL, Role.NODE, Role.NODE]


def test_meminfo_says_what_the_host_has() -> None:
    text = meminfo(2 << 30)
    fields = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}
    assert fields["MemTotal"] == 2 << 20
    assert fields["MemAvailable"] < fields["MemTotal"]
    assert len(text.splitlines()) == len(Path("/proc/meminfo").read_text().splitlines())


def test_a_process_is_known_by_more_than_its_pid() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = Process.of(child.pid)
    assert process.alive
    stranger = Process(process.pid, process.started - 1)
    stranger.kill()  # a reused pid is never hit
    assert process.alive
    assert kill_all([process]) == []
    assert not process.alive
    child.wait()


@pytest.mark.parametrize("given", ["", "500ms", "0secs", "16mins", "2", "1000secs"])
def test_a_ping_timeout_that_mesos_would_refuse_is_refused_first(given: str) -> None:
    with pytest.raises(BadInput, match="ping-timeout is 1secs to 15mins"):
        engine("mesos").check(BaySpec(coe="mesos", options={"ping-timeout": given}))


def test_a_ping_timeout_is_set_and_told() -> None:
    spec = BaySpec(coe="mesos", options={"ping-timeout": "3secs"})
    engine("mesos").check(spec)
    mesos = engine("mesos")(spec, plan.Layout.of(1, 1))
    assert mesos.timeouts()["MESOS_AGENT_PING_TIMEOUT"] == "3secs"
    env = mesos.files("c1", Role.CONTROL)["/etc/mesos/env"]
    assert "MESOS_AGENT_PING_TIMEOUT='3secs'" in env
    assert mesos.timeouts()["Marathon backoffSeconds"] == "1"
    assert "Marathon" not in env  # told to people, not to Mesos


def test_the_timeouts_that_the_scheduler_is_said_to_have_are_its_defaults() -> None:
    told = engine("mesos")(BaySpec(coe="mesos"), plan.Layout.of(1, 1)).timeouts()
    assert told["Marathon unreachableStrategy"].startswith(f"replaced {DEFAULTS['unreachableStrategy']['inactiveAfterSeconds']}s")
    assert told["Marathon backoffSeconds"] == f"{DEFAULTS['backoffSeconds']}"
    assert told["Marathon backoffFactor"] == f"{DEFAULTS['backoffFactor']}"


def test_every_engine_is_told_of_the_same_registry_or_says_why_not() -> None:
    """The guest script, which can't import anything, names the address that `plan` does."""
    assert f"--insecure-registry={plan.registry()}" in (paths.guest() / "guest/swarm.sh").read_text()
    k8s = engine("k8s")(BaySpec(coe="k8s"), plan.Layout.of(1, 1))
    k8s.prepare({})
    file = f"/etc/containerd/certs.d/{plan.registry()}/hosts.toml"
    assert k8s.files("n1", Role.NODE)[file] == f'[host."http://{plan.registry()}"]\n'
    with pytest.raises(Unsupported, match="unpacked beforehand"):
        engine("bare")(BaySpec(coe="bare"), plan.Layout.of(1, 1)).pull([], True)


def own_kubernetes(folder: Path, version: str) -> Path:
    """Programs that know their version and what they are told."""
    folder.mkdir(exist_ok=True)
    for name in PROGRAMS:
        script = f'#!/bin/sh\n[ "$1" = --version ] && echo Kubernetes {version} || echo {name} "$@"\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("version", ["v1.19.9", "v1.35.0", "v2.20.1", "devel"])
def test_kubernetes_of_a_version_that_the_lab_does_not_know_is_refused(version: str, tmp_path: Path) -> None:
    spec = BaySpec(coe="k8s", options={"kubernetes-bin": str(own_kubernetes(tmp_path, version))})
    with pytest.raises(BadInput, match=r"1\.20 to 1\.34 \(and has run 1\.20\.2 only\)|doesn't tell a version"):
        engine("k8s").check(spec)


@pytest.mark.parametrize(
    ("version", "there", "gone"),
    [
        ("v1.20.2", {"--insecure-port=0", "--port=0", "--container-runtime", "--pod-infra-container-image"}, set()),
        ("v1.26.1-gke.5", {"--pod-infra-container-image"}, {"--insecure-port=0", "--port=0", "--container-runtime"}),
        ("v1.31.0", set(), {"--insecure-port=0", "--port=0", "--container-runtime", "--pod-infra-container-image"}),
    ],
)
def test_kubernetes_gets_the_flags_that_its_version_knows(version: str, there: set[str], gone: set[str], tmp_path: Path) -> None:
    """The guest scripts themselves, with programs that only say what they were told."""
    programs = own_kubernetes(tmp_path / "bin", version)
    spec = BaySpec(coe="k8s", options={"kubernetes-bin": str(programs)})
    engine("k8s").check(spec)
    bay = engine("k8s")(spec, plan.Layout.of(1, 1))
    assert bay.version == version[1:].split("-")[0]
    told = ""
    for host, role in (("c1", Role.CONTROL), ("n1", Role.NODE)):
        script, *arguments = bay.payload(host, role)
        library = (paths.guest() / "guest/lib.sh").read_text().split("# start NAME")[0].replace("/run/coebench", str(tmp_path))
        rest = (paths.guest() / "guest/lib.sh").read_text()
        text = "cd() { :; }; mkdir() { :; }; images() { :; }; until_true() { :; }; fact() { :; }; wait() { :; }\n"
        text += library + rest[rest.index("# of Kubernetes") :] + 'start() { shift; "$@"; }\n'
        payload = (paths.guest() / "guest" / Path(script).name).read_text()
        if role is Role.NODE:  # what fills the store is no matter here
            payload = payload[: payload.index("images() {")] + payload[payload.index("answers() {") :]
        for other in ("etcd", "containerd", "curl", "ctr"):
            text += f"{other}() {{ :; }}\n"
        p = subprocess.run(
            ["bash", "-uc", text + payload, "payload", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        )
        assert p.returncode == 0 and not p.stderr, p.stderr
        told += p.stdout
    words = set(told.split())
    assert {"kube-apiserver", "kube-scheduler", "kubelet", "--leader-elect=false", "--secure-port=6443", "--node-ip"} <= words
    assert there <= words and not gone & words
