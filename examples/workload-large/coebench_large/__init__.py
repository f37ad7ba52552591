"""http's server with an answer of 64 KiB: what a workload has to say, and what builds its image."""

from __future__ import annotations

from pathlib import Path

import msgspec
from coebench_workload_http import HttpWorkload

from coebench.contract import ServiceSpec

BODY_BYTES = 64 << 10


class LargeWorkload(HttpWorkload):
    """All that is not said here is http's: packages, start script, health path, the headers that name an instance."""

    name = "large"
    image = "coebench-large"
    versions = ("v1", "v2")

    def recipe(self) -> bytes:
        """What the image's bytes depend on: with another recipe another image is built."""
        return super().recipe() + Path(__file__).read_bytes()

    def build(self, tree: Path, build: Path, out: Path) -> None:
        super().build(tree, build, out)
        (out / "srv/index.html").write_text(("coebench " * BODY_BYTES)[: BODY_BYTES - 1] + "\n")

    def service(self, name: str, instances: int, version: str = "v1") -> ServiceSpec:
        return msgspec.structs.replace(super().service(name, instances, version), memory=48 << 20)


WORKLOAD = LargeWorkload()
