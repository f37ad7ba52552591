"""What the lab's Magnum needs on disk, built once into the cache: a Debian tree, Python packages, databases with tables."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from ...contract import BadInput
from .. import install, trees
from ..cache import Artefact, Say, key
from . import config
from .releases import DEFAULT, Release

HERE = Path(__file__).parent
SITE = "opt/magnum/site"
PACKAGES = ("mariadb-server", "rabbitmq-server", "python3", "python3-distutils", "python3-netifaces", "tini", "procps")
# Pure Python, but to be had as source only: made into wheels first, so that all the rest can be taken as wheels for
# Debian's Python whatever Python coebench itself runs on.
SOURCES = ("logutils", "pyinotify", "pyperclip", "simplegeneric")


def tree() -> Artefact:
    """The Debian tree with MariaDB, RabbitMQ and Python."""
    return trees.debian("magnum-tree", "minbase", PACKAGES)


def site(release: Release) -> Artefact:
    """opt/magnum/site: Keystone, Glance, Magnum and all that they import, from PyPI."""
    requirements = HERE / release.requirements
    pins = requirements.read_text()

    def build(work: Path, out: Path, say: Say) -> None:
        say(f"fetching Keystone, Glance and Magnum {release.version} from PyPI")
        wheels = work / "wheels"
        wheels.mkdir(exist_ok=True)
        sources = [line for line in pins.splitlines() if line.split("==")[0] in SOURCES]
        _pip(["wheel", "--no-deps", "--wheel-dir", str(wheels), *sources], work)
        target = ["--python-version", "3.11", "--implementation", "cp", "--only-binary", ":all:"]
        target += [word for abi in ("cp311", "abi3", "none") for word in ("--abi", abi)]
        target += [word for tag in PLATFORMS for word in ("--platform", tag)]
        command = ["install", "--no-deps", "--no-warn-script-location", "--find-links", str(wheels), *target]
        _pip([*command, "--target", str(out / SITE), "--requirement", str(requirements)], work)

    return Artefact(f"magnum-site{release.suffix}", key(pins, "1"), build)


PLATFORMS = tuple(
    f"manylinux{tag}_x86_64" for tag in ("_2_36", "_2_34", "_2_28", "_2_27", "_2_24", "_2_17", "2014", "_2_12", "2010", "1")
)


def _pip(words: list[str], work: Path) -> None:
    """Run this Python's pip, with the user's own configuration of it. Raises BadInput."""
    log = work / "pip.log"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    with open(log, "ab") as f, trees.child(command, stdout=f, stderr=f, cwd=work) as p:
        failed = p.wait()
    if failed:
        lines = log.read_text(errors="replace").splitlines()
        told = [line for line in lines if "ERROR" in line or "No module named pip" in line] or lines
        raise BadInput(f"the lab's Magnum can't be fetched from PyPI: {' / '.join(told[-3:])} (log: {log})")


def plugin() -> Artefact:
    """opt/magnum/site with our Magnum driver, as a package whose entry point Magnum finds."""
    source = HERE / "plugin" / "coebench_lab_magnum.py"

    def build(work: Path, out: Path, say: Say) -> None:
        folder = out / SITE
        info = folder / "coebench_lab_magnum-1.dist-info"
        info.mkdir(parents=True)
        shutil.copy(source, folder)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coebench-lab-magnum\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[magnum.drivers]\ncoebench_lab = coebench_lab_magnum:LabDriver\n")

    return Artefact("magnum-plugin", key(source.read_bytes(), "1"), build)


def seed(release: Release) -> Artefact:
    """mysql (the databases with all tables and Keystone's users), keystone (its keys) and passwords.json.

    The passwords are drawn when it is made: only root can read them, and the services listen on loopback alone.
    """
    base, packages = tree(), site(release)
    scripts = [HERE / "guest" / name for name in ("seed.sh", "identity.py", "wsgi.py")]
    passwords = {name: secrets.token_hex(12) for name in ("admin", "glance", "magnum", "trust", "coebench")}

    def build(work: Path, out: Path, say: Say) -> None:
        say(f"making the databases of the lab's Magnum {release.version}")
        shutil.rmtree(work / "guest", ignore_errors=True)
        (work / "guest").mkdir()
        for script in scripts:
            shutil.copy(script, work / "guest")
        for path, text in config.files(release, config.UNKNOWN, passwords, "/build/my.sock", "/build/etc").items():
            (work / "etc" / path).parent.mkdir(parents=True, exist_ok=True)
            (work / "etc" / path).write_text(text.replace(config.SITE, "/build/site"))
        for name in ("fernet", "credential"):
            (work / "etc/keystone" / name).mkdir(mode=0o700, exist_ok=True)
        (work / "passwords.json").write_bytes(msgspec.json.encode(passwords))
        command = ["bash", "/build/guest/seed.sh"]
        ro = {"site": packages.ensure(say) / SITE}
        trees.in_tree(base.ensure(say), work, command, work / "seed.log", say, ro)
        shutil.copytree(work / "mysql", out / "mysql")
        shutil.copytree(work / "etc/keystone", out / "keystone")
        shutil.copy(work / "passwords.json", out)
        for private in (out / "mysql", out / "keystone"):
            private.chmod(0o700)
        (out / "passwords.json").chmod(0o600)

    texts = config.files(release, config.UNKNOWN, dict.fromkeys(passwords, ""))
    return Artefact(
        f"magnum-seed{release.suffix}", key(base.key, packages.key, *(s.read_bytes() for s in scripts), *texts.values()), build
    )


def ensure(say: Say, release: Release = DEFAULT) -> float:
    """Build all that is not there. Returns the seconds it took. Raises BadInput."""
    begun = time.monotonic()
    install.check_machine()
    with ThreadPoolExecutor(2) as pool:  # one waits for Debian's mirror, the other for PyPI
        list(pool.map(lambda artefact: artefact.ensure(say), (tree(), site(release))))
    for artefact in (plugin(), seed(release)):
        artefact.ensure(say)
    return time.monotonic() - begun


def installed(release: Release = DEFAULT) -> bool:
    """Whether nothing would have to be built."""
    return all(artefact.ready for artefact in (tree(), site(release), plugin(), seed(release)))


def layers(say: Say, release: Release = DEFAULT) -> tuple[Path, ...]:
    """The lower layers of the place where the services run, uppermost first."""
    return tuple(artefact.ensure(say) for artefact in (plugin(), site(release), tree()))
