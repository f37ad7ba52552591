"""Images without a Docker daemon: a root file system made reproducible, in one archive that every engine loads.

The archive is a `docker save` of version 1.2 with the fields that the oldest of its readers, the Mesos containerizer,
wants (`repositories`, ID/json). Built twice from the same packages it is the same to the byte: names sorted, owner 0,
time 0.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..contract import BadInput, Workload
from .cache import Artefact, Say, key, remove

EPOCH = "1970-01-01T00:00:00Z"
PAUSE = "coebench-pause:3.2"


def artefact(workload: Workload, host_tree: Artefact, build_tree: Artefact) -> Artefact:
    """The archives of a workload's image, NAME:TAG.tar, one for each version."""

    def build(work: Path, out: Path, say: Say) -> None:
        root = work / "root"
        remove(root)
        root.mkdir(parents=True)
        say(f"image {workload.image}")
        workload.build(host_tree.ensure(say), build_tree.ensure(say), root)
        layer = layer_of(root)
        for version in workload.versions:
            name = f"{workload.image}:{version}"
            (out / f"{name}.tar").write_bytes(archive(layer, name, workload.config(version)))

    return Artefact(f"image-{workload.image}", key(workload.recipe(), *workload.versions, host_tree.key, "2"), build)


def layer_of(root: Path) -> bytes:
    """A folder as a layer: sorted, owned by root, dated 1970."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as t:
        for path in sorted(root.rglob("*")):
            info = t.gettarinfo(str(path), str(path.relative_to(root)))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            if info.isfile():
                info.type = tarfile.REGTYPE
                info.linkname = ""
                with open(path, "rb") as f:
                    info.size = path.stat().st_size
                    t.addfile(info, f)
            else:
                t.addfile(info)
    return out.getvalue()


def archive(layer: bytes, name: str, config: Mapping[str, object]) -> bytes:
    """A docker-archive with one image of one layer."""
    repository, tag = name.rsplit(":", 1)
    diff_id = hashlib.sha256(layer).hexdigest()
    # Mesos keeps layers, and with them the configuration in ID/json, by this name: two tags of one layer need two
    layer_id = hashlib.sha256(layer + json.dumps(config, sort_keys=True).encode()).hexdigest()
    image = {
        "architecture": "amd64",
        "os": "linux",
        "created": EPOCH,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff_id]},
        "history": [{"created": EPOCH, "created_by": "coebench"}],
    }
    image_json = json.dumps(image, sort_keys=True).encode()
    image_id = hashlib.sha256(image_json).hexdigest()
    v1 = {"id": layer_id, "created": EPOCH, "config": config, "architecture": "amd64", "os": "linux"}
    manifest = [{"Config": image_id + ".json", "RepoTags": [name], "Layers": [layer_id + "/layer.tar"]}]
    files: list[tuple[str, bytes | None]] = [
        ("repositories", json.dumps({repository: {tag: layer_id}}).encode()),
        (image_id + ".json", image_json),
        (layer_id, None),
        (layer_id + "/VERSION", b"1.0"),
        (layer_id + "/json", json.dumps(v1, sort_keys=True).encode()),
        (layer_id + "/layer.tar", layer),
        ("manifest.json", json.dumps(manifest).encode()),
    ]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for path, data in files:
            info = tarfile.TarInfo(path)
            if data is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = len(data)
            t.addfile(info, None if data is None else io.BytesIO(data))
    return out.getvalue()


# what workloads build their root file systems with


def copy_programs(tree: Path, root: Path, programs: Iterable[str]) -> None:
    """Copy programs out of a Debian tree with every shared library that they load."""
    for program in programs:
        _copy(tree, root, program)
        for library in libraries(tree, program):
            _copy(tree, root, library)


def libraries(tree: Path, program: str) -> list[str]:
    """The shared libraries of a program in a tree, loader included, as paths inside it; none if it is static."""
    p = subprocess.run(["chroot", str(tree), "/usr/bin/ldd", program], capture_output=True, text=True)
    if p.returncode:
        if "not a dynamic executable" in p.stderr + p.stdout:
            return []
        raise BadInput(f"ldd {program}: {p.stderr.strip()}")
    if missing := re.findall(r"(\S+) => not found", p.stdout):
        raise BadInput(f"{program} in {tree} lacks {', '.join(missing)}")
    return re.findall(r"(/\S+) \(0x", p.stdout)


def busybox(tree: Path, root: Path, applets: Iterable[str]) -> None:
    """busybox with links for the applets named."""
    copy_programs(tree, root, ["/bin/busybox"])
    for applet in applets:
        (root / "bin" / applet).symlink_to("busybox")


def skeleton(root: Path) -> None:
    """Folders and accounts that programs expect."""
    for folder in ("bin", "dev", "etc", "lib64", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "var/log"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/services").write_text("http 80/tcp\nhttps 443/tcp\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\nhosts: files dns\n")


def _copy(tree: Path, root: Path, path: str) -> None:
    """One file at its own path, links resolved inside the tree."""
    source = _resolve(tree, path)
    target = root / path.lstrip("/")
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _resolve(tree: Path, path: str) -> Path:
    """Follow links as if `tree` were the root."""
    parts, at = [p for p in path.split("/") if p], tree
    hops = 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            at = at.parent if at != tree else tree
            continue
        here = at / part
        if here.is_symlink():
            hops += 1
            if hops > 40:
                raise BadInput(f"{path}: too many links in {tree}")
            link = os.readlink(here)
            parts = [p for p in link.split("/") if p] + parts
            at = tree if link.startswith("/") else at
        else:
            at = here
    return at
