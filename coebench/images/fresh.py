"""An image that no node has: another one's files, marked, so that none of its layers is known anywhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile

from .archive import CONFIG, LAYER, Blob, Image

PAGE = 4096  # bytes of filler that are random, then as many that are zero
QUICK = 1  # gzip's level: packing is not what is measured


def fresh(image: Image, name: str, *, filler: int, seed: int) -> tuple[Image, int]:
    """`image` under another NAME:TAG, and the bytes of its layers unpacked. Each layer has a file more, /.coebench/K, that is
    drawn from `seed`; with `filler`, there is one layer more, of a file of so many bytes that packs to half. The same seed
    makes the same bytes."""
    rng = random.Random(seed)
    tars = [_with(gzip.decompress(layer.content), f".coebench/{k}", rng.randbytes(32)) for k, layer in enumerate(image.layers)]
    if filler:
        tars.append(_with(b"", f".coebench/{len(tars)}", _filler(rng, filler)))
    config = json.loads(image.config.content)
    config["rootfs"]["diff_ids"] = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]
    config["history"] = [{"created": config.get("created", ""), "created_by": "coebench"} for _ in tars]
    repository, _, tag = name.rpartition(":")
    made = Image(
        name=repository,
        tag=tag,
        config=Blob(kind=CONFIG, content=json.dumps(config, sort_keys=True).encode()),
        layers=tuple(Blob(kind=LAYER, content=gzip.compress(tar, compresslevel=QUICK, mtime=0)) for tar in tars),
    )
    return made, sum(map(len, tars))


def _filler(rng: random.Random, size: int) -> bytes:
    pages = b"".join(rng.randbytes(PAGE) + bytes(PAGE) for _ in range(size // (2 * PAGE) + 1))
    return pages[:size]


def _with(tar: bytes, path: str, content: bytes) -> bytes:
    """A layer with a file more, owned by root, of 1970."""
    out = io.BytesIO(tar)
    with tarfile.open(fileobj=out, mode="a" if tar else "w", format=tarfile.GNU_FORMAT) as t:
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(content), 0o644
        t.addfile(info, io.BytesIO(content))
    return out.getvalue()
