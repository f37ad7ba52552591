"""What the lab builds: the same twice, and replaceable by what a user built."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from coebench.contract import BaySpec, Role
from coebench.lab import bay as bays
from coebench.lab import images, install, trees
from coebench.lab.engines.kubernetes import PROGRAMS

pytestmark = pytest.mark.lab


def quiet(*_: object, **__: object) -> None: ...


@pytest.mark.parametrize("name", sorted(install.workloads()))
def test_an_image_built_again_is_the_same_to_the_byte(name: str, lab_installed: object, tmp_path: Path) -> None:
    artefact = images.artefact(install.workloads()[name], trees.host_tree(), trees.build_tree())
    (out := tmp_path / "out").mkdir()
    (work := tmp_path / "work").mkdir()
    artefact.build(work, out, quiet)
    assert _digests(out) == _digests(artefact.ensure(quiet)) != {}


def test_a_users_own_kubernetes_runs_in_place_of_ours(lab_installed: object, tmp_path: Path, gone: Callable[[str], None]) -> None:
    """The programs of the cache, as if built elsewhere; one leaves a trace, so that it is known to be the one that ran."""
    own = tmp_path / "own"
    own.mkdir()
    for program in PROGRAMS:
        shutil.copy(install.kubernetes().ensure(quiet) / "usr/local/bin" / program, own / program)
    (own / "kube-scheduler").rename(own / "real")
    shutil.copy(own / "real", own / "kube-scheduler")
    with open(own / "kube-scheduler", "ab") as f:
        f.write(b"\nmade by a user\n")  # after the end of an ELF file: of no effect, but seen
    (own / "real").unlink()

    gone("own-k8s")
    spec = BaySpec(coe="k8s", nodes=1, options={"kubernetes-bin": str(own)})
    layers, folder = install.layers("k8s", quiet, spec.options), install.image_folder("k8s", quiet)
    bay = bays.LabBay.create("own-k8s", spec, layers, folder, quiet)
    control = next(h for h in bay.hosts if h.spec.role is Role.CONTROL)
    assert control.exec(["tail", "-c", "15", "/usr/local/bin/kube-scheduler"]) == "made by a user\n"
    assert "Ready" in control.exec(["kubectl", "get", "nodes"])
    assert any("of the user's own" in note for note in bay.engine.notes())


def test_a_node_begins_with_its_images_and_cannot_change_another_ones(lab_installed: object, gone: Callable[[str], None]) -> None:
    gone("store-k8s")
    folder = install.image_folder("k8s", quiet)
    before = {p: p.stat().st_mtime_ns for p in sorted((folder / "data").rglob("*")) if p.is_file()}
    assert before
    bay = bays.LabBay.create("store-k8s", BaySpec(coe="k8s", nodes=2), install.layers("k8s", quiet), folder, quiet)
    one, two = (bay.host(name) for name in ("n1", "n2"))
    assert not (one.folder / "upper/var/log/images.log").exists(), "an image was imported again"
    have = one.exec(["ctr", "-n", "k8s.io", "images", "ls", "-q"]).split()
    assert {Path(i).name for i in have if ":" in Path(i).name} >= {p.stem for p in folder.glob("*.tar")}
    name = "docker.io/library/coebench-http:v1"
    one.exec(["ctr", "-n", "k8s.io", "images", "rm", "--sync", name])
    assert name not in one.exec(["ctr", "-n", "k8s.io", "images", "ls", "-q"])
    two.exec(["ctr", "-n", "k8s.io", "run", "--rm", "--net-host", name, "whole", "/bin/sh", "-c", "test -s /etc/passwd"])
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.fixture
def gone() -> object:
    """Called with a bay's name: it is gone after the test."""
    names: list[str] = []
    yield names.append
    for name in names:
        bays.erase(name)


def _digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
