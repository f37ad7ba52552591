"""An image in an archive of `docker save`, as what a registry takes: blobs and a manifest."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from pathlib import Path

import msgspec

from ..contract import BadInput

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """Content by its digest."""

    kind: str
    content: bytes

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image of one tag. `manifest` is the same to the byte for the same archive, and so is its digest."""

    name: str  # without tag
    tag: str
    config: Blob
    layers: tuple[Blob, ...]

    @property
    def manifest(self) -> bytes:
        def told(blob: Blob) -> dict[str, object]:
            return {"mediaType": blob.kind, "size": len(blob.content), "digest": blob.digest}

        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": told(self.config),
            "layers": [told(layer) for layer in self.layers],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """What a registry will call it by, beside its tag."""
        return "sha256:" + hashlib.sha256(self.manifest).hexdigest()

    @property
    def size(self) -> int:
        """Bytes that a node fetches."""
        return len(self.config.content) + sum(len(layer.content) for layer in self.layers)


def read(file: Path) -> tuple[Image, ...]:
    """The images of an archive. Raises BadInput if it is none."""
    try:
        with tarfile.open(file) as tar:

            def content(path: str) -> bytes:
                member = tar.extractfile(path)
                if member is None:
                    raise KeyError(path)
                return member.read()

            found = []
            for entry in json.loads(content("manifest.json")):
                config = Blob(kind=CONFIG, content=content(entry["Config"]))
                # no time and no name in the gzip's head: the same layer has the same digest on every machine
                layers = tuple(
                    Blob(kind=LAYER, content=gzip.compress(content(p), compresslevel=6, mtime=0)) for p in entry["Layers"]
                )
                for full in entry["RepoTags"] or ():
                    name, _, tag = full.rpartition(":")
                    found.append(Image(name=name, tag=tag, config=config, layers=layers))
            return tuple(found)
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{file} is no archive of docker save: {type(e).__name__}: {e}") from None
