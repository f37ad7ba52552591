"""Start and end the lab's Magnum. What is up is in STATE/magnum: its description, its files, its logs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from ...contract import BadInput, BayFailed
from .. import bay as bays
from .. import cgroups, host, paths
from ..cache import Say, remove
from ..process import Process
from . import config, install, spool
from .releases import DEFAULT, Release

NAME = "magnum"  # of its cgroup and its folder
IMAGE = "coebench-lab"  # Glance's image, and its os_distro, by which Magnum chooses our driver
TIMEOUT = 120.0
SERVICES = ("mariadb", "rabbitmq", "keystone", "glance", "magnum-api")


class Plane(msgspec.Struct, kw_only=True):
    """The lab's Magnum as it stands on disk, in plane.json."""

    ports: config.Ports
    passwords: dict[str, str]
    version: str = DEFAULT.version
    place: Process | None = None
    keeper: Process | None = None
    made: float = 0.0
    ready: bool = False

    @property
    def folder(self) -> Path:
        return folder()

    @property
    def auth_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.keystone}/v3"

    @property
    def alive(self) -> bool:
        """Whether the processes that hold all others still run."""
        return bool(self.place and self.place.alive and self.keeper and self.keeper.alive)

    def save(self) -> None:
        """Write it, whole or not at all, for root's eyes."""
        new = self.folder / "plane.json.new"
        new.touch(mode=0o600)
        new.write_bytes(msgspec.json.encode(self))
        os.replace(new, self.folder / "plane.json")

    def check(self) -> None:
        """Raise BayFailed, with the log's tail, if one of its processes has ended."""
        if not self.keeper or not self.keeper.alive:
            raise BayFailed("the lab's Magnum: its keeper has ended", self.log("keeper"))
        inner = self.place.child() if self.place else None
        if inner is None:
            raise BayFailed("the lab's Magnum: its services have ended", self.log("plane"))
        for file in Path(f"/proc/{inner.pid}/root/run/coebench").glob("*.exit"):
            with contextlib.suppress(OSError):
                status = file.read_text().strip()
                raise BayFailed(f"the lab's Magnum: {file.stem} ended with status {status}", self.log(file.stem))

    def reached(self) -> set[str]:
        """The services that answer."""
        inner = self.place.child() if self.place else None
        return {f.stem for f in Path(f"/proc/{inner.pid}/root/run/coebench").glob("*.ok")} if inner else set()

    def log(self, name: str, lines: int = 20) -> str:
        """The last lines of a service's log."""
        try:
            return "\n".join((self.folder / "log" / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def environment(self, user: str = "coebench") -> dict[str, str]:
        """OS_… of a user: "coebench" or "admin", each with a project of that name."""
        return {
            "OS_AUTH_URL": self.auth_url,
            "OS_USERNAME": user,
            "OS_PASSWORD": self.passwords[user],
            "OS_PROJECT_NAME": user,
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_REGION_NAME": "RegionOne",
            "OS_IDENTITY_API_VERSION": "3",
        }


def folder() -> Path:
    return paths.state() / NAME


def opened() -> Plane | None:
    """The lab's Magnum, if it is up; also one that is only half up, or half gone."""
    try:
        return msgspec.json.decode((folder() / "plane.json").read_bytes(), type=Plane)
    except FileNotFoundError:
        return None


def left() -> bool:
    """Whether anything of it is here, up or not."""
    return folder().exists() or bool(cgroups.folders(NAME))


def up(say: Say, release: Release = DEFAULT) -> Plane:
    """Start it; returns when a client can make bays. Raises BadInput if it is up, BayFailed if it does not come up."""
    if left():
        state = opened()
        up_already = bool(state and state.ready and state.alive)
        raise BadInput(
            "the lab's Magnum is up already (coebench lab status)"
            if up_already
            else "something is left of the lab's Magnum: coebench lab down magnum takes it away"
        )
    install.ensure(say, release)
    layers = install.layers(say, release)
    seed = install.seed(release).ensure(say)
    passwords = json.loads((seed / "passwords.json").read_text())
    plane = Plane(ports=_ports(), passwords=passwords, version=release.version, made=time.time())
    d = plane.folder
    for sub in ("upper", "work", "root", "log", "data/images", "spool", "etc"):
        (d / sub).mkdir(parents=True, exist_ok=True)
    d.chmod(0o700)
    plane.save()
    shutil.copytree(seed / "mysql", d / "data/mysql")
    shutil.copytree(seed / "keystone", d / "etc/keystone")
    for path, text in config.files(release, plane.ports, plane.passwords).items():
        (d / "etc" / path).parent.mkdir(parents=True, exist_ok=True)
        (d / "etc" / path).write_text(text)
    _place(plane, layers)
    _keeper(plane)
    told: set[str] = set()
    deadline = time.monotonic() + TIMEOUT
    while len(told) < len(SERVICES):
        for name in [n for n in SERVICES if n in plane.reached() and n not in told]:
            told.add(name)
            say(f"{name} answers")
        _patiently(plane, deadline, f"{', '.join(n for n in SERVICES if n not in told)} to answer")
    admin = _Rest(plane, "admin")
    image = {"name": IMAGE, "os_distro": IMAGE, "visibility": "public", "disk_format": "raw", "container_format": "bare"}
    admin.ask("POST", plane.ports.glance, "/v2/images", image)
    while not any(s["state"] == "up" for s in admin.ask("GET", plane.ports.magnum, "/v1/mservices")["mservices"]):
        _patiently(plane, deadline, "magnum-conductor to report", "magnum-conductor")
    say("magnum-conductor reports")
    for user in ("coebench", "admin"):
        rc = d / ("openrc" if user == "coebench" else "adminrc")
        rc.touch(mode=0o600)
        rc.write_text("".join(f"export {k}='{v}'\n" for k, v in plane.environment(user).items()))
    plane.ready = True
    plane.save()
    return plane


def down() -> None:
    """End it, with all bays that were made through it, and remove what it kept. No error if it is not there."""
    for name in bays.names():
        if name.startswith(spool.PREFIX):
            bays.erase(name)
    bays.end_all(NAME)
    for name in bays.names():  # one that the keeper was just making
        if name.startswith(spool.PREFIX):
            bays.erase(name)
    remove(folder())


def _ports() -> config.Ports:
    """Six that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in msgspec.structs.fields(config.Ports):
            s = stack.enter_context(socket.socket())
            s.bind(("127.0.0.1", 0))
            found.append(s.getsockname()[1])
    return config.Ports(**{f.name: port for f, port in zip(msgspec.structs.fields(config.Ports), found, strict=True)})


def _place(plane: Plane, layers: tuple[Path, ...]) -> None:
    d, p = plane.folder, plane.ports
    joins = cgroups.create(f"{NAME}/services", 0, 0)
    services = "/opt/coebench/magnum/guest/services.sh"
    ports = [str(n) for n in (p.keystone, p.glance, p.magnum, p.amqp, p.dist, p.epmd)]
    argv = [str(d), ":".join(map(str, layers)), str(paths.guest()), services, *ports]
    script = paths.guest() / "magnum/guest/plane.sh"
    plane.place = host.spawn(script, argv, joins, d / "log/making.log", {}, whole=True, net=False)
    plane.save()


def _keeper(plane: Plane) -> None:
    joins = "".join(f"echo $$ > {f}; " for f in cgroups.create(f"{NAME}/keeper", 0, 0))
    with open(plane.folder / "log/keeper.log", "ab") as log:
        p = subprocess.Popen(
            ["sh", "-c", joins + 'exec "$@"', "sh", sys.executable, "-m", "coebench.lab.magnum.keeper"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
    plane.keeper = Process.of(p.pid)
    p.returncode = 0  # it outlives us by design
    plane.save()


def _patiently(plane: Plane, deadline: float, what: str, log: str = "plane") -> None:
    plane.check()
    if time.monotonic() > deadline:
        raise BayFailed(f"the lab's Magnum: waited {TIMEOUT:g} s for {what}", plane.log(log))
    time.sleep(0.05)


class _Rest:
    """The two calls that the lab itself needs, as a user of Keystone."""

    def __init__(self, plane: Plane, user: str) -> None:
        domain = {"id": "default"}
        identity = {"user": {"name": user, "domain": domain, "password": plane.passwords[user]}}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": identity},
                "scope": {"project": {"name": user, "domain": domain}},
            }
        }
        self._headers: dict[str, str] = {}
        self.ask("POST", plane.ports.keystone, "/v3/auth/tokens", body)

    def ask(self, method: str, port: int, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            headers = {"Content-Type": "application/json", **self._headers}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as e:
            raise BayFailed(f"the lab's Magnum: {method} {path}: {e}") from e
        finally:
            connection.close()
        if answer.status >= 300:
            raise BayFailed(
                f"the lab's Magnum: {method} {path} was answered {answer.status}", data.decode(errors="replace")[:2000]
            )
        if token := answer.headers.get("X-Subject-Token"):
            self._headers = {"X-Auth-Token": token}
        return json.loads(data) if data else {}
