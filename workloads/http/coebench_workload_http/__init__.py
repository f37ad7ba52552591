"""The service of every comparison: nginx with a small static body that says which instance and version answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coebench.contract import Health, ServiceSpec
from coebench.lab import images

_HERE = Path(__file__).parent
BODY_BYTES = 612  # the size of nginx's own welcome page


class HttpWorkload:
    """nginx, one worker, keep-alive, no log of what goes well. `/` the body, `/id` one line, `/healthz` the health path,
    `/failed` what went wrong. COEBENCH_UNHEALTHY=1 makes a bad version of it: it answers, but its health path never does."""

    name = "http"
    image = "coebench-http"
    versions = ("v1", "v2")
    packages = ("nginx-light", "busybox", "coreutils")

    def recipe(self) -> bytes:
        return b"".join((_HERE / f).read_bytes() for f in ("__init__.py", "start.sh", "nginx.conf"))

    def build(self, tree: Path, build: Path, out: Path) -> None:
        images.skeleton(out)
        images.copy_programs(tree, out, ["/usr/sbin/nginx", "/usr/bin/date"])
        images.busybox(tree, out, ("cat", "hostname", "kill", "ls", "mkdir", "sed", "sh", "sleep", "wget"))
        (out / "srv").mkdir()
        (out / "srv/index.html").write_text(("coebench " * BODY_BYTES)[: BODY_BYTES - 1] + "\n")
        (out / "srv/nginx.conf").write_bytes((_HERE / "nginx.conf").read_bytes())
        (out / "srv/start.sh").write_bytes((_HERE / "start.sh").read_bytes())
        (out / "srv/start.sh").chmod(0o755)

    def config(self, version: str) -> Mapping[str, object]:
        return {
            "Env": ["PATH=/usr/sbin:/usr/bin:/bin", f"COEBENCH_IMAGE_VERSION={version}"],
            "Cmd": ["/srv/start.sh"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",  # nginx's fast shutdown: the one signal that all engines send by default
        }

    def service(self, name: str, instances: int, version: str = "v1") -> ServiceSpec:
        return ServiceSpec(
            name=name,
            image=f"{self.image}:{version}",
            instances=instances,
            version=version,
            cpu=0.05,
            memory=32 << 20,
            port=8080,
            health=Health(path="/healthz"),
        )


WORKLOAD = HttpWorkload()
