"""The prober and the generators: `coeload` and, for cross-checks, its peers from Debian. It runs inside the bay."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from coebench.contract import ServiceSpec
from coebench.lab import images, trees

_INSTALLED = Path(__file__).parent / "src"
SOURCES = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "src"


class LoadgenWorkload:
    """coeload in agent mode on COEBENCH_PORT; wrk, hey and h2load beside it, haproxy, iperf3 and sockperf too."""

    name = "loadgen"
    image = "coebench-loadgen"
    versions = ("v1",)
    packages = ("wrk", "hey", "nghttp2-client", "haproxy", "iperf3", "sockperf", "busybox")

    def recipe(self) -> bytes:
        return b"".join(p.read_bytes() for p in self.sources()) + Path(__file__).read_bytes()

    def sources(self) -> list[Path]:
        """The C sources and their Makefile."""
        return sorted(p for p in SOURCES.iterdir() if p.suffix in (".c", ".h") or p.name == "Makefile")

    def build(self, tree: Path, build: Path, out: Path) -> None:
        images.skeleton(out)
        images.copy_programs(
            tree, out, [f"/usr/bin/{p}" for p in ("wrk", "hey", "h2load", "iperf3", "sockperf")] + ["/usr/sbin/haproxy"]
        )
        images.busybox(tree, out, ("cat", "hostname", "kill", "ls", "sh", "sleep", "wget"))
        with tempfile.TemporaryDirectory(prefix="coebench-") as tmp:
            work = Path(tmp)
            (work / "loadgen").mkdir()
            for source in self.sources():
                shutil.copy(source, work / "loadgen")
            command = ["make", "-C", "/build/loadgen", "CC=musl-gcc", "STATIC=1", "OPT=-O2"]
            trees.in_tree(build, work, command, work / "log", lambda _: None)
            shutil.copy(work / "loadgen/build/coeload", out / "bin/coeload")

    def config(self, version: str) -> Mapping[str, object]:
        return {
            "Env": ["PATH=/usr/sbin:/usr/bin:/bin"],
            "Cmd": ["/bin/coeload", "agent"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
        }

    def service(self, name: str, instances: int, version: str = "v1") -> ServiceSpec:
        return ServiceSpec(
            name=name,
            image=f"{self.image}:{version}",
            instances=instances,
            version=version,
            cpu=0.1,
            memory=256 << 20,
            port=7770,
            health=None,  # on a busy machine a slow answer to it would have the engine end what all is measured with
            publish=True,
            neighbour_retry=0.02,
        )


WORKLOAD = LoadgenWorkload()
