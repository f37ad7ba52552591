"""OpenStack's own tests of Magnum's API, run against the lab's Magnum: an outside check of the lab (`make tempest`).

    python tests/magnum/tempest.py [WORD…]        # WORDs choose test modules; all of the plug-in's if none is given

magnum-tempest-plugin and tempest are put into coebench's cache. The lab's Magnum is started for it and ended after it, in a state
folder of its own. Exit code 1 if a test fails that is not named in KNOWN.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from neighbours import FLAVOR, NETWORK, neighbours

from coebench.lab import install as engines
from coebench.lab import lock
from coebench.lab.cache import Artefact, Say, key
from coebench.lab.magnum import plane

WHERE = "magnum_tempest_plugin.tests.api.v1"
PINS = ("magnum-tempest-plugin==1.8.0", "tempest==47.0.0")
MODULES = ("test_magnum_service", "test_cluster_template", "test_cluster_template_admin", "test_cluster")
OLD = ("test_baymodel", "test_baymodel_admin", "test_bay")  # of /v1/bays and /v1/baymodels, which Magnum 17 dropped
# These delete their users after the first test and go on with their tokens, which works where all services share one cache of
# tokens, as they do not here: each test of theirs is run on its own.
ALONE = {
    "test_cluster": (
        "test_create_list_sign_delete_clusters",
        "test_create_cluster_for_nonexisting_cluster_template",
        "test_create_cluster_with_zero_nodes",
        "test_create_cluster_with_zero_masters",
        "test_create_cluster_with_nonexisting_flavor",
        "test_update_cluster_for_nonexisting_cluster",
        "test_delete_cluster_for_nonexisting_cluster",
    )
}
# test → why it fails, where that is not the lab's fault
KNOWN = {
    "test_cluster.ClusterTest.test_create_cluster_with_zero_nodes": "the plug-in names no microversion, and Magnum makes "
    "clusters without nodes from 1.10 on"
}


def packages() -> Artefact:
    """A virtual environment with the plug-in."""

    def build(work: Path, out: Path, say: Say) -> None:
        say(f"fetching {PINS[0]} from PyPI")
        subprocess.run([sys.executable, "-m", "venv", str(out)], check=True)
        command = [str(out / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    return Artefact("tempest", key(sys.version, *PINS, "1"), build)


def configuration(magnum: plane.Plane, folder: Path) -> str:
    """tempest.conf."""
    return f"""\
[DEFAULT]
log_dir = {folder}
log_file = tempest.log
[oslo_concurrency]
lock_path = {folder}
[auth]
use_dynamic_credentials = true
admin_username = admin
admin_password = {magnum.passwords["admin"]}
admin_project_name = admin
admin_domain_name = Default
[identity]
auth_version = v3
uri_v3 = {magnum.auth_url}
region = RegionOne
[service_available]
neutron = false
cinder = false
swift = false
horizon = false
magnum = true
[magnum]
image_id = {plane.IMAGE}
nic_id = {NETWORK}
flavor_id = {FLAVOR}
master_flavor_id = {FLAVOR}
copy_logs = false
cluster_creation_timeout = 5
"""


def run(magnum: plane.Plane, python: Path, modules: list[str]) -> dict[str, str]:
    """Test → "ok", "skipped …", "FAIL" or "ERROR", as they end."""
    found: dict[str, str] = {}
    together = [m for m in modules if m not in ALONE]
    parts = [together] if together else []
    parts += [[f"{m}.ClusterTest.{test}"] for m in modules for test in ALONE.get(m, ())]
    with tempfile.TemporaryDirectory() as name, neighbours(magnum):
        folder = Path(name)
        (folder / "tempest.conf").write_text(configuration(magnum, folder))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OS_")} | {
            "TEMPEST_CONFIG_DIR": str(folder),
            "TEMPEST_CONFIG": "tempest.conf",
            "PYTHONUNBUFFERED": "1",
        }
        begun = time.monotonic()
        for part in parts:
            command = [str(python), "-m", "unittest", "-v", *(f"{WHERE}.{one}" for one in part)]
            with subprocess.Popen(
                command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as p:
                assert p.stdout
                for test, outcome in _ended(p.stdout):
                    found[test] = outcome
                    print(f"{time.monotonic() - begun:7.1f} s  {outcome:<5}  {test}", flush=True)
    return found


def _ended(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(test, outcome) from what unittest prints; all that is neither is passed on."""
    pending = ""
    for line in lines:
        if started := re.match(r"(\w+) \(([\w.]+)\)", line):
            pending = started[2].removeprefix(f"{WHERE}.")
            pending = pending if pending.endswith(started[1]) else f"{pending}.{started[1]}"
        ended = re.search(r"\.\.\. (ok|FAIL|ERROR|skipped.*)$", line) or re.match(r"(ok|FAIL|ERROR|skipped.*)$", line)
        if ended and pending:
            yield pending, ended[1]
            pending = ""
        elif not started:
            print(line, end="")


def main(words: list[str]) -> int:
    """Start the lab's Magnum, run the tests, end it."""
    modules = [m for m in (*MODULES, *OLD) if not words or m in words]
    with tempfile.TemporaryDirectory() as state:
        os.environ["COEBENCH_STATE"] = state
        with lock.take("tempest"):
            try:
                engines.install(["k8s"], print)
                magnum = plane.up(print)
                found = run(magnum, packages().ensure(print) / "bin/python", modules)
            finally:
                plane.down()
    bad = [t for t, outcome in found.items() if outcome in ("FAIL", "ERROR")]
    skipped = sum(outcome.startswith("skipped") for outcome in found.values())
    print(f"{len(found)} tests: {len(found) - len(bad) - skipped} passed, {skipped} skipped, {len(bad)} failed")
    for test in bad:
        print(f"  {test}: {KNOWN.get(test, 'NOT EXPECTED')}")
    return 1 if set(bad) - set(KNOWN) or not found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
