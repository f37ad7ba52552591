"""Against a real Magnum: no mock between the command and the engines. Bays are of weightless nodes where Magnum is what is
tested, and of real engines where the engine is."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from magnum_harness import WEIGHTLESS, NoJournal, Seen, coebench, nothing_is_left
from neighbours import KEYPAIR, neighbours

from coebench import plugins
from coebench.contract import BadInput, Bay, BaySpec
from coebench.lab import bay as bays
from coebench.lab import cgroups
from coebench.lab.magnum import plane, spool
from coebench.lab.magnum.keeper import LABEL
from coebench.provision.magnum import MagnumProvisioner, access, owner
from coebench.provision.magnum.clusters import Clusters

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def provisioner(magnum: plane.Plane) -> Iterator[MagnumProvisioner]:
    yield MagnumProvisioner()


def test_it_is_small_and_all_of_it_answers(magnum: plane.Plane) -> None:
    magnum.check()
    assert magnum.reached() == set(plane.SERVICES)
    assert cgroups.memory_bytes("magnum") < 1 << 30
    p = coebench("lab", "status")
    assert "magnum: Magnum 13.1.1, ready" in p.stdout
    p = coebench("lab", "up", "magnum")
    assert p.returncode == 2 and "up already" in p.stderr


def test_doctor_says_what_it_offers(magnum: plane.Plane) -> None:
    p = coebench("doctor", "--provisioner", "magnum", "--nodes", "100", "--at-once", "9")
    assert p.returncode == 0, p.stdout + p.stderr
    words = {line.split()[1]: line for line in p.stdout.splitlines()}
    assert "1.1 to 1.10" in words["Magnum"] and "9 wanted" in words["quota"]
    assert all(words[coe].startswith("ok") for coe in ("k8s", "swarm", "mesos"))


@pytest.mark.parametrize("image, code, said", [(plane.IMAGE, 0, f"there: image {plane.IMAGE}"), ("moon", 1, "not there, .*moon")])
def test_doctor_looks_for_what_a_subject_names(magnum: plane.Plane, image: str, code: int, said: str) -> None:
    p = coebench("doctor", "--provisioner", "magnum", f"mine=k8s:image={image}")
    assert p.returncode == code, p.stdout + p.stderr
    assert re.search(f"mine +{said}", p.stdout), p.stdout


def test_a_life_of_a_bay_by_the_commands(provisioner: MagnumProvisioner) -> None:
    made = coebench("bay", "create", "k8s", "--name", "mine", "--nodes", "3", "-o", "weightless=yes")
    assert made.returncode == 0, made.stderr
    assert "accepted" in made.stderr and "bay 'mine': 3 nodes (n1, n2, n3)" in made.stdout
    again = coebench("bay", "create", "k8s", "--name", "mine", "-o", "weightless=yes")
    assert again.returncode == 2 and "there already" in again.stderr
    assert provisioner.leftovers() == () and provisioner.clean() == ()  # a bay that is kept is nobody's leftover
    for command, told in ((("resize", "mine", "5"), "5 nodes"), (("replace-node", "mine", "n2"), "n1, n3, n4, n5, n6")):
        p = coebench("bay", *command)
        assert p.returncode == 0 and told in p.stdout, p.stdout + p.stderr
    shown = json.loads(coebench("bay", "show", "mine", "--json").stdout)
    assert shown["status"] == "UPDATE_COMPLETE" and len(shown["node_addresses"]) == 5
    listed = coebench("bay", "list").stdout.splitlines()
    assert len(listed) == 2 and listed[1].split() == ["mine", "UPDATE_COMPLETE", "5", "kept"]
    assert coebench("bay", "replace-node", "mine", "n9").returncode == 2
    assert coebench("bay", "delete", "mine").returncode == 0
    p = coebench("bay", "show", "mine")
    assert p.returncode == 2 and "no bay 'mine'" in p.stderr
    nothing_is_left(provisioner)


@pytest.fixture
def following(provisioner: MagnumProvisioner) -> Iterator[str]:
    """The name of a template to upgrade weightless bays to."""
    labels = {f"{LABEL}nodes": "weightless"}
    made = provisioner.clusters.make_template("next", ("kubernetes",), {"image_id": plane.IMAGE, "tls_disabled": True}, labels)
    yield "next"
    provisioner.clusters.drop_template(made)


def test_six_bays_at_once_are_all_accounted_for(provisioner: MagnumProvisioner, runs: Path, following: str) -> None:
    subject = f"k8s:weightless=yes,upgrade-to={following}"
    words = ["compare", subject, "--scenarios", "bay", "--trials", "1", "--provisioner", "magnum", "--json"]
    p = coebench(*words, "--set", "bay.nodes=[2]", "--set", "bay.bays=6", "--runs", str(runs))
    assert p.returncode == 0, p.stderr
    result = json.loads(p.stdout)
    values = {m["name"]: next(iter(m["values"].values())) for m in result["metrics"]}
    assert values["failed"]["median"] == 0
    for step in ("create", "up", "replace", "upgrade", "down", "delete"):
        assert values[step]["n"] == 1
        if step != "delete":
            assert values[f"{step}_complete"]["median"] <= values[step]["median"]
    assert result["scenarios"][0]["published"][0].startswith("published, not measured here: CERN")
    journal = [json.loads(line) for line in (next(runs.iterdir()) / "journal.jsonl").read_text().splitlines()]
    made = {(j["kind"], j["id"]) for j in journal if j["what"] == "creating"}
    assert len(made) == 12 and made == {(j["kind"], j["id"]) for j in journal if j["what"] == "gone"}
    pictures = coebench("report", str(next(runs.iterdir())), "--format", "svg", "-o", str(runs / "pictures"))
    assert pictures.returncode == 0 and "created and deleted" in (runs / "pictures/bay-machines.svg").read_text()
    assert [t.name for t in provisioner.clusters.templates()] == [following] and provisioner.clusters.all() == []


KILLS = int(os.environ.get("COEBENCH_TEST_KILLS", "1"))  # with more than one, they are spread over a bay's whole life
LIFE = 60.0 if KILLS > 1 else 15.0  # seconds; the first have it created and scaled up


@pytest.mark.parametrize("turn", range(KILLS))
def test_a_harness_killed_anywhere_leaves_nothing_that_clean_does_not_find(
    provisioner: MagnumProvisioner, runs: Path, turn: int
) -> None:
    words = [
        "compare",
        "k8s:weightless=yes",
        "--scenarios",
        "bay",
        "--trials",
        "1",
        "--provisioner",
        "magnum",
        "--runs",
        str(runs),
    ]
    harness = subprocess.Popen([sys.executable, "-m", "coebench", *words, "--set", "bay.bays=2"], stderr=subprocess.DEVNULL)
    journal = runs / "none"
    while not journal.exists():  # from here on something may be there
        assert harness.poll() is None
        journal = next(runs.glob("*/journal.jsonl"), journal)
        time.sleep(0.05)
    after = (turn + random.random()) / KILLS * LIFE
    time.sleep(after)
    assert provisioner.leftovers() == (), "a run that is alive has left nothing"
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    p = coebench("clean", "--provisioner", "magnum")
    assert p.returncode == 0, (after, p.stderr)
    deadline = time.monotonic() + 30  # what was asked for in the harness's last moment may come to be only now
    while provisioner.leftovers() and time.monotonic() < deadline:
        assert coebench("clean", "--provisioner", "magnum").returncode == 0
    nothing_is_left(provisioner)


def test_what_another_run_uses_is_left_alone(provisioner: MagnumProvisioner) -> None:
    """Two runs in one project: the one's clean-up must not take the other's bay."""
    bay = provisioner.create("other", BaySpec(coe="k8s", nodes=1, options=WEIGHTLESS), NoJournal(), Seen())
    try:
        p = coebench("clean", "--provisioner", "magnum")
        assert p.returncode == 0 and "nothing was left" in p.stdout
        assert provisioner.describe(bay).state == "ready"
    finally:
        provisioner.delete(bay, NoJournal(), Seen())
    nothing_is_left(provisioner)


# bad input


def test_what_can_not_be_is_refused_with_what_to_do(provisioner: MagnumProvisioner, magnum: plane.Plane) -> None:
    p = coebench("compare", "k8s:template=none", "--provisioner", "magnum")
    assert p.returncode == 2 and "no cluster template 'none'" in p.stderr
    p = coebench("bay", "create", "nomad")
    assert p.returncode == 2 and "nomad" in p.stderr
    p = coebench("bay", "create", "k8s", "-o", "image=none", "-o", "weightless=yes")
    assert p.returncode == 2 and "os_distro" in p.stderr
    wrong = {**os.environ, **magnum.environment(), "OS_PASSWORD": "wrong"}
    p = subprocess.run([sys.executable, "-m", "coebench", "bay", "list"], capture_output=True, text=True, env=wrong, timeout=60)
    assert p.returncode == 2 and "wrong user, password" in p.stderr and "Traceback" not in p.stderr
    p = coebench("compare", "k8s:upgrade-to=none", "--provisioner", "magnum", "--scenarios", "bay")
    assert p.returncode == 2 and "one release of each engine" in p.stderr
    p = coebench("compare", "k8s:weightless=yes,upgrade-to=none", "--provisioner", "magnum", "--scenarios", "bay")
    assert p.returncode == 2 and "no cluster template 'none'" in p.stderr
    nothing_is_left(provisioner)


def test_an_image_without_os_distro_is_named(provisioner: MagnumProvisioner) -> None:
    body = {"name": "plain", "disk_format": "raw", "container_format": "bare"}
    made = provisioner.cloud.rest("POST", "/v2/images", "image", json=body).json()
    try:
        with pytest.raises(BadInput, match="os_distro"):
            provisioner.create("b", BaySpec(coe="k8s", options={**WEIGHTLESS, "image": "plain"}), NoJournal(), Seen())
    finally:
        provisioner.cloud.rest("DELETE", f"/v2/images/{made['id']}", "image")
    nothing_is_left(provisioner)


def test_a_quota_that_is_full_is_told_and_nothing_stays(provisioner: MagnumProvisioner, magnum: plane.Plane) -> None:
    admin = plane._Rest(magnum, "admin")
    quota = {"project_id": provisioner.cloud.project, "resource": "Cluster", "hard_limit": 1}
    admin.ask("POST", magnum.ports.magnum, "/v1/quotas", quota)
    try:
        provisioner.begin("first", BaySpec(coe="k8s", nodes=1, options=WEIGHTLESS), NoJournal(), Seen())
        p = coebench("bay", "create", "k8s", "-o", "weightless=yes")
        assert p.returncode == 2 and "quota" in p.stderr and "ask for more" in p.stderr, p.stderr
        p = coebench("doctor", "--provisioner", "magnum")
        assert p.returncode == 1 and "no    quota" in p.stdout, p.stdout
    finally:
        admin.ask("DELETE", magnum.ports.magnum, f"/v1/quotas/{quota['project_id']}/Cluster")
        provisioner.delete("first", NoJournal(), Seen())
    nothing_is_left(provisioner)


@pytest.mark.parametrize("way", ["password", "application credential", "token"])
def test_it_signs_in_by_a_clouds_yaml(
    provisioner: MagnumProvisioner, magnum: plane.Plane, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any cloud that is named, with what users have in theirs; a wrong secret is one line."""
    session = provisioner.cloud.session
    mine = magnum.environment()
    project = {"project_name": mine["OS_PROJECT_NAME"], "project_domain_name": "Default"}
    cloud: dict[str, Any] = {"region_name": "RegionOne", "interface": "public", "auth": {"auth_url": mine["OS_AUTH_URL"]}}
    credentials = f"{mine['OS_AUTH_URL'].removesuffix('/v3')}/v3/users/{session.get_user_id()}/application_credentials"
    made = ""
    if way == "password":
        secret = "password"
        cloud["auth"] |= {
            "username": mine["OS_USERNAME"],
            "password": mine["OS_PASSWORD"],
            "user_domain_name": "Default",
            **project,
        }
    elif way == "token":
        secret = "token"
        cloud["auth_type"] = "v3token"
        cloud["auth"] |= {"token": session.get_token(), **project}
    else:
        secret = "application_credential_secret"
        asked = session.post(credentials, json={"application_credential": {"name": "coebench-test"}})
        answer = asked.json()["application_credential"]
        made = answer["id"]
        cloud["auth_type"] = "v3applicationcredential"
        cloud["auth"] |= {"application_credential_id": made, secret: answer["secret"]}
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    try:
        for wrong in (False, True):
            if wrong:
                cloud["auth"][secret] = "wrong"
            (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"mine": cloud}}))
            p = coebench("bay", "list", "--os-cloud", "mine")
            assert p.returncode == (2 if wrong else 0), p.stdout + p.stderr
            assert ("no cluster at mine" in p.stdout) is not wrong
            assert len(p.stderr.strip().splitlines()) == wrong
    finally:
        if made:
            session.delete(f"{credentials}/{made}")


def test_a_token_that_expires_in_mid_run_is_renewed(provisioner: MagnumProvisioner) -> None:
    """The server refuses it, as it does an expired one: the client signs in again and asks again."""
    clusters = Clusters(provisioner.cloud)
    auth = provisioner.cloud.session.auth
    old = provisioner.cloud.session.get_token()
    auth.auth_ref._auth_token = old[:-12] + "expired-long"
    assert clusters.all() == []
    assert provisioner.cloud.session.get_token() not in (old[:-12] + "expired-long", "")


def test_a_bay_that_fails_tells_why_and_is_deleted(provisioner: MagnumProvisioner) -> None:
    p = coebench("bay", "create", "k8s", "--name", "bad", "-o", "weightless=yes", "--nodes", "9999")
    assert p.returncode == 1 and "CREATE_FAILED" in p.stderr and "0 to 5000" in p.stderr, p.stderr
    nothing_is_left(provisioner)


def test_a_bay_that_hangs_is_told_with_its_state_and_kept_if_that_is_wished(
    provisioner: MagnumProvisioner, magnum: plane.Plane
) -> None:
    """What builds the bays is stopped, so that Magnum waits for ever."""
    assert magnum.keeper
    os.kill(magnum.keeper.pid, signal.SIGSTOP)
    try:
        p = coebench("bay", "create", "k8s", "--name", "stuck", "-o", "weightless=yes", "-o", "bay-timeout=2", "--keep-failed")
        assert p.returncode == 1 and "it is CREATE_IN_PROGRESS" in p.stderr and "the bay is kept" in p.stderr, p.stderr
        assert "stuck" in coebench("bay", "list").stdout
        p = coebench("bay", "resize", "stuck", "5")
        assert p.returncode == 1 and "is CREATE_IN_PROGRESS" in p.stderr
    finally:
        os.kill(magnum.keeper.pid, signal.SIGCONT)
    assert coebench("bay", "delete", "stuck").returncode == 0
    nothing_is_left(provisioner)


def test_old_bays_and_baymodels_are_asked_for_by_rest(provisioner: MagnumProvisioner, magnum: plane.Plane) -> None:
    """Magnum 13 still answers as servers did that had nothing else; so does coebench still ask, where it must."""
    old = MagnumProvisioner()
    old.cloud.speak_bays()
    assert old.clusters.offers("mesos") and not old.clusters.offers("nomad")
    seen = Seen()
    spec = BaySpec(coe="k8s", nodes=2, options={**WEIGHTLESS, "keypair": KEYPAIR})
    with pytest.raises(BadInput, match="keypair=NAME"):
        old.begin("bare", BaySpec(coe="k8s", options=WEIGHTLESS), NoJournal(), seen)
    with neighbours(magnum):  # Nova alone knows keypairs
        later = MagnumProvisioner()  # signs in when they are in the catalogue
        later.cloud.speak_bays()
        bay = later.create("old", spec, NoJournal(), seen)
    try:
        assert [h.name for h in bay.nodes] == ["n1", "n2"]
        [cluster] = provisioner.clusters.all()
        assert cluster.name == owner.name("old") and later.about("old")["cluster_template_id"] == cluster.cluster_template_id
        signed = access.of(later.clusters, "k8s", later.clusters.get(cluster.uuid), tls=True)
        assert "client-certificate-data" in signed.kubeconfig
        assert set(later.refuses(spec)) == {"replace", "upgrade"}
        assert later.clusters.ours(lambda labels: labels.get(owner.RUN) == "old")[0]
    finally:
        later.delete("old", NoJournal(), seen)
    nothing_is_left(provisioner)


# real engines


def test_bays_of_real_engines_open_to_the_signed_certificate_and_to_no_other(provisioner: MagnumProvisioner) -> None:
    """All three at once, as a project's users would."""
    from coebench.lab import install

    coes = ("k8s", "swarm", "mesos")
    install.install(coes, print)
    seen = {coe: Seen() for coe in coes}
    try:
        asked = {
            coe: provisioner.begin(f"real-{coe}", BaySpec(coe=coe, nodes=1, memory=1 << 30), NoJournal(), seen[coe])
            for coe in coes
        }
        for coe, (_, finish) in asked.items():
            bay = finish()
            order = ["bay.template", "bay.accepted", "bay.status", "bay.complete", "bay.api", "bay.nodes"]
            assert [seen[coe].names.index(n) for n in order] == sorted(seen[coe].names.index(n) for n in order)
            assert [h.name for h in bay.nodes] == ["n1"] and bay.version and any("every 10 s" in n for n in bay.notes)
            _opens(provisioner, bay)
    finally:
        with ThreadPoolExecutor(len(coes)) as pool:
            list(pool.map(lambda coe: provisioner.delete(f"real-{coe}", NoJournal(), Seen()), coes))
    nothing_is_left(provisioner)


def _opens(provisioner: MagnumProvisioner, bay: Bay) -> None:
    access = provisioner.access(bay)
    with provisioner.network(bay):
        driver = plugins.load("drivers", bay.spec.coe, "COE").connect(access)
        assert [n.name for n in driver.nodes() if n.ready] == ["n1"]
        driver.close()
        if bay.spec.coe != "mesos":  # Magnum's Mesos has no TLS
            _refuses_strangers(access.url.replace("tcp://", "https://"))


def _refuses_strangers(url: str) -> None:
    """Without a client's certificate there is no way in: the connection is cut, or the answer is 401 or 403."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        answer = urllib.request.urlopen(f"{url}/api/v1/nodes", context=context, timeout=5)
    except urllib.error.HTTPError as e:
        assert e.code in (401, 403)
    except OSError:
        pass
    else:
        pytest.fail(f"{url} let a stranger in: {answer.status}")


def test_a_cluster_deleted_while_it_is_being_made_leaves_nothing(provisioner: MagnumProvisioner) -> None:
    spec = BaySpec(coe="swarm", nodes=2, memory=1 << 30)
    provisioner.begin("doomed", spec, NoJournal(), Seen())
    deadline = time.monotonic() + 30
    while not [n for n in bays.names() if n.startswith(spool.PREFIX)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    provisioner.delete("doomed", NoJournal(), Seen())
    nothing_is_left(provisioner)
    assert owner.name("doomed") not in [c.name for c in provisioner.clusters.all()]
