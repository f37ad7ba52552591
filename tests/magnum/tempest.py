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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from neighbours import FLAVOR, NETWORK, neighbours

from coebench.lab import install as engines
from coebench.lab import lock
from coebench.lab.cache import Artefact, Say, key
from coebench.lab.magnum import plane

PINS = ("magnum-tempest-plugin==1.8.0", "tempest==47.0.0")
MODULES = ("test_magnum_service", "test_cluster_template", "test_cluster_template_admin", "test_cluster")
OLD = ("test_baymodel", "test_baymodel_admin", "test_bay")  # of /v1/bays and /v1/baymodels, which Magnum 17 dropped
KNOWN: dict[str, str] = {}  # test → why it fails, where that is not the lab's fault


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
    with tempfile.TemporaryDirectory() as name, neighbours(magnum):
        folder = Path(name)
        (folder / "tempest.conf").write_text(configuration(magnum, folder))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OS_")} | {
            "TEMPEST_CONFIG_DIR": str(folder),
            "TEMPEST_CONFIG": "tempest.conf",
            "PYTHONUNBUFFERED": "1",
        }
        command = [str(python), "-m", "unittest", "-v"]
        command += [f"magnum_tempest_plugin.tests.api.v1.{module}" for module in modules]
        begun = time.monotonic()
        with subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as p:
            assert p.stdout
            pending, rest = "", []
            for line in p.stdout:
                started = re.match(r"(\w+) \(([\w.]+)\)", line)
                if started:
                    words = started[2].split(".")
                    pending = ".".join([w for w in words if w not in ("magnum_tempest_plugin", "tests", "api", "v1")])
                    pending = pending if pending.endswith(started[1]) else f"{pending}.{started[1]}"
                ended = re.search(r"\.\.\. (ok|FAIL|ERROR|skipped.*)$", line) or re.match(r"(ok|FAIL|ERROR|skipped.*)$", line)
                if ended and pending:
                    found[pending] = ended[1]
                    print(f"{time.monotonic() - begun:7.1f} s  {ended[1]:<5}  {pending}", flush=True)
                    pending = ""
                elif not started:
                    rest.append(line)
        print("".join(rest), end="")
    return found


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
