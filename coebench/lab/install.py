"""What the lab needs on disk, built once from Debian's packages and PyPI into the user's cache."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import plugins
from ..contract import BadInput, Workload
from . import cgroups, images, paths, trees
from .cache import Artefact, Say, key, share
from .engines import engine
from .engines.kubernetes import PROGRAMS
from .process import ended_tidily

KUBERNETES = "1.20.5+really1.20.2-1.1+deb12u1"
RECIPES = Path(__file__).parent / "recipes"
DISK_NEEDED = 6 << 30  # bytes, while building; 2.5 GB stay


def kubernetes() -> Artefact:
    """usr/local/bin with the Kubernetes programs, and the pause image's program in usr/local/lib."""
    recipe = [RECIPES / "kubernetes.sh", RECIPES / "kubelet.patch"]

    def build(work: Path, out: Path, say: Say) -> None:
        tree = trees.build_tree().ensure(say)
        if not list(work.glob("kubernetes_*.dsc")):
            say("fetching Kubernetes' source package")
            trees.download_source("kubernetes", KUBERNETES, work, say)
        for file in recipe:
            shutil.copy(file, work)

        def told(step: str) -> None:
            say(f"building {step} (Kubernetes: about 4 minutes on two cores in all)")

        trees.in_tree(tree, work, ["bash", "/build/kubernetes.sh"], work / "build.log", told)
        (out / "usr/local/bin").mkdir(parents=True)
        (out / "usr/local/lib/coebench").mkdir(parents=True)
        for name in PROGRAMS:
            shutil.move(work / "bin" / name, out / "usr/local/bin" / name)
        shutil.move(work / "bin/pause", out / "usr/local/lib/coebench/pause")

    return Artefact("kubernetes", key(KUBERNETES, *(f.read_bytes() for f in recipe)), build)


def mesos() -> Artefact:
    """opt/mesos."""
    folder = Path(__file__).parent / "mesos"
    sources = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != ".pyc" and p.name != "fetch.py")

    def build(work: Path, out: Path, say: Say) -> None:
        from .mesos import fetch

        tree = trees.build_tree().ensure(say)
        say("fetching Apache Mesos")
        try:
            fetch.fetch(work)
        except fetch.FetchError as e:
            raise BadInput(str(e)) from e
        say("building Mesos' process host")
        (work / "recipe").mkdir(exist_ok=True)
        for file in sources:
            shutil.copy(file, work / "recipe")
        trees.in_tree(tree, work, ["bash", "/build/recipe/build.sh", "/build", "/build/out"], work / "build.log", say)
        shutil.copytree(work / "out", out, symlinks=True, dirs_exist_ok=True)

    return Artefact("mesos", key(*(f.read_bytes() for f in sources)), build)


def marathon() -> Artefact:
    """opt/mesos/marathon: the scheduler, compiled beforehand, since compiling it takes a bay longer than starting it."""
    sources = sorted((Path(__file__).parent / "marathon").glob("*.py"))
    tree = trees.host_tree()

    def build(work: Path, out: Path, say: Say) -> None:
        (work / "marathon").mkdir(exist_ok=True)
        for file in sources:
            shutil.copy(file, work / "marathon")
        # unchecked: this layer's key is its sources' content, and no file's time survives every copy of a cache
        flags = ["-q", "--invalidation-mode", "unchecked-hash", "-s", "/build", "-p", "/opt/mesos"]
        command = ["python3", "-m", "compileall", *flags, "/build/marathon"]
        trees.in_tree(tree.ensure(say), work, command, work / "build.log", say)
        shutil.copytree(work / "marathon", out / "opt/mesos/marathon")

    return Artefact("marathon", key(tree.key, *(part for f in sources for part in (f.name, f.read_bytes()))), build)


def registry() -> Artefact:
    """usr/bin/docker-registry and nothing else of its package, whose /lib would hide the tree's. A layer of the one host that
    runs it, not of the tree below all hosts."""

    def build(work: Path, out: Path, say: Say) -> None:
        trees.download(("docker-registry",), work, trees.SUITE, say)
        for package in work.glob("docker-registry_*.deb"):
            trees.run(["dpkg-deb", "-x", str(package), str(work / "whole")])
        (out / "usr/bin").mkdir(parents=True)
        shutil.move(work / "whole/usr/bin/docker-registry", out / "usr/bin/docker-registry")

    return Artefact("registry", key(trees.SUITE, "docker-registry", "2"), build)


LAYERS = {"kubernetes": kubernetes, "mesos": mesos, "marathon": marathon}


def pause() -> Artefact:
    """The image that holds a pod's namespaces."""
    kube = kubernetes()

    def build(work: Path, out: Path, say: Say) -> None:
        root = work / "root"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        shutil.copy(kube.ensure(say) / "usr/local/lib/coebench/pause", root / "pause")
        config = {"Entrypoint": ["/pause"], "User": "65535:65535"}
        (out / f"{images.PAUSE}.tar").write_bytes(images.archive(images.layer_of(root), images.PAUSE, config))

    return Artefact("image-pause", key(kube.key, images.PAUSE), build)


def workloads() -> dict[str, Workload]:
    """All workloads that are installed, by name."""
    return {name: plugins.load("workloads", name, "workload") for name in plugins.names("workloads")}


def image_folder(coe: str, say: Say) -> Path:
    """A folder with the archives of all workloads' images, as hosts of a COE's bay see it at /opt/images; for Kubernetes
    also data/containerd, the store that a node begins with, into which containerd itself imported them."""
    tree = trees.host_tree()
    parts = [images.artefact(w, tree, trees.build_tree()) for _, w in sorted(workloads().items())]
    recipe = b""
    if coe == "k8s":
        parts.append(pause())
        recipe = (paths.guest() / "guest/containerd-store.sh").read_bytes() + f"# in {tree.key}\n".encode()

    def build(work: Path, out: Path, say: Say) -> None:
        for part in parts:
            for archive in part.ensure(say).glob("*.tar"):
                share(archive, out / archive.name)
        if recipe:
            (work / "store.sh").write_bytes(recipe)
            trees.in_tree(tree.ensure(say), work, ["bash", "/build/store.sh"], work / "build.log", say, {"images": out})
            (out / "data").mkdir()
            shutil.move(work / "store", out / "data/containerd")

    return Artefact(f"images-{coe}", key(recipe, *(p.key for p in parts)), build).ensure(say)


def layers(coe: str, say: Say, options: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """The lower layers of a COE's hosts, uppermost first; a user's own Kubernetes programs lie over ours."""
    own: tuple[Path, ...] = ()
    if given := (options or {}).get("kubernetes-bin"):
        own = (_own_kubernetes(Path(given)),)
    parts = [*engine(coe).artefacts(), *(LAYERS[name]() for name in engine(coe).layers), trees.host_tree()]
    return (*own, *(part.ensure(say) for part in parts))


def _own_kubernetes(folder: Path) -> Path:
    """A layer of a user's programs, copied into the cache so that it can't change under a bay."""

    def build(work: Path, out: Path, say: Say) -> None:
        (out / "usr/local/bin").mkdir(parents=True)
        for name in PROGRAMS:
            shutil.copy(folder / name, out / "usr/local/bin" / name)

    return Artefact("kubernetes-own", key(*(digest(folder / n) for n in PROGRAMS)), build).ensure(lambda _: None)


def install(coes: Iterable[str], say: Say) -> float:
    """Build all that bays of these COEs need. Returns the seconds it took. Raises BadInput naming what is missing."""
    begun = time.monotonic()
    check_machine()
    coes = list(coes)
    for coe in coes:
        if why := engine(coe).missing():
            raise BadInput(f"{engine(coe).title} can't run on this machine: {why}")
    with ended_tidily():
        if not registry().ready:
            trees.sources(say=say)  # without which nothing can be built: said before something is fetched
        _at_once([trees.host_tree(), registry()], [LAYERS[n]() for n in {n: 0 for coe in coes for n in engine(coe).layers}], say)
        for coe in coes:
            layers(coe, say)
            image_folder(coe, say)
    return time.monotonic() - begun


def _at_once(fetched: list[Artefact], compiled: list[Artefact], say: Say) -> None:
    """Build what is mostly waiting for a mirror beside what is mostly compiling. Raises the first failure."""
    with ThreadPoolExecutor(1) as beside:
        try:
            waiting = [beside.submit(part.ensure, say) for part in fetched if not part.ready]
            for part in compiled:
                if part.name != "marathon":  # which is compiled in the host tree
                    part.ensure(say)
            for one in waiting:
                one.result()
        except BaseException:
            trees.end_children()
            raise


def installed(coe: str) -> bool:
    """Whether nothing would have to be built for a bay of this COE."""
    parts = [trees.host_tree(), registry(), *engine(coe).artefacts(), *(LAYERS[name]() for name in engine(coe).layers)]
    parts += [images.artefact(w, trees.host_tree(), trees.build_tree()) for w in workloads().values()]
    return all(p.ready for p in parts)


TOOLS = {  # program → what brings it: Debian's package, Fedora's
    "apt-get": ("apt", "apt"),
    "dpkg-deb": ("dpkg", "dpkg"),
    "perl": ("perl", "perl"),
    "unshare": ("util-linux", "util-linux"),
    "nsenter": ("util-linux", "util-linux"),
    "setpriv": ("util-linux", "util-linux"),
    "mount": ("mount", "util-linux-core"),
    "chroot": ("coreutils", "coreutils"),
    "bash": ("bash", "bash"),
}


def check_machine() -> None:
    """Raise BadInput, in one line with what mends it, if the lab can't be on this machine."""
    if os.geteuid() != 0:
        raise BadInput("the lab makes namespaces, mounts and cgroups, for which it must be root: run the command with sudo")
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise BadInput(
            f"the lab's engines are programs for Linux on x86-64; this is {platform.system()} on {platform.machine()}: use "
            "such a machine or virtual machine, or a cluster that runs already (--provisioner existing)"
        )
    for tool in TOOLS:
        if not shutil.which(tool):
            raise BadInput(f"the lab needs {tool}, which is not on this machine: {_brings(tool)}")
    if not _whole_perl():
        raise BadInput(f"the lab needs perl's modules, and this machine has perl-base alone: {_brings('perl')}")
    if why := cgroups.problem():
        raise BadInput(why)
    free = shutil.disk_usage(paths.existing(paths.cache())).free
    if free < DISK_NEEDED and not all(LAYERS[n]().ready for n in LAYERS):
        raise BadInput(
            f"{paths.cache()} has {free >> 20} MiB free, building takes {DISK_NEEDED >> 20}: set COEBENCH_CACHE elsewhere"
        )


def _brings(tool: str) -> str:
    """The command that brings a program."""
    debian, fedora = TOOLS[tool]
    if shutil.which("apt-get"):
        return f"apt-get install {debian}"
    return f"dnf install {fedora}" if shutil.which("dnf") else f"install the package {debian} (Debian) or {fedora} (Fedora)"


@functools.cache
def _whole_perl() -> bool:
    """Whether perl has the modules that mmdebstrap wants; a minimal Debian's has not."""
    return subprocess.run(["perl", "-MDigest::SHA", "-MFile::Find", "-e1"], capture_output=True).returncode == 0


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    h = hashlib.sha256()
    with open(file, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()
