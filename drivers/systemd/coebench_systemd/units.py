"""Between the contract's service and instances and systemd's slices and services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from coebench.contract import Claim, Instance, InstanceState, ServiceSpec

PREFIX = "coebench-instance-"
FOLDER = "/run/coebench-instance"
RESTART = 100_000  # microseconds until systemd starts an instance again that has ended
FILES = 1_048_576
OURS = "made by coebench"
# Each instance has a view of its image's files of its own to write to, new whenever it starts.
OWN = "PATH=/usr/sbin:/usr/bin:/sbin:/bin; "  # the host's, whatever the image has
PREPARE = (
    OWN + 'mkdir -p "$1/upper" "$1/work" "$1/root" && cd "$1" && mkfifo log && '
    'mount -t overlay overlay -o "lowerdir=$2,upperdir=upper,workdir=work" root && '
    "mount -t proc proc root/proc && mount --bind /sys root/sys && mount --bind /dev root/dev"
)
# What images open by the name /dev/stderr has to be a pipe: the journal's socket can't be opened.
RUN = '(trap "" TERM; exec /usr/bin/cat < "$0/log") & exec /usr/sbin/chroot "$0/root" "$@" > "$0/log" 2>&1'
AWAY = OWN + 'for m in proc sys dev .; do umount -l "$1/root/$m" 2>/dev/null; done; rm -rf --one-file-system "$1"'
HEALTHY = OWN + 'until timeout "$2" chroot "$1/root" wget -q -O /dev/null "http://127.0.0.1:$3$4"; do sleep "$5"; done'


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit's description holds: that it is coebench's, and what systemd itself does not keep. A service's slice has no
    `instance`."""

    coebench: str  # OURS
    service: str
    instance: str = ""
    version: str = ""
    port: int = 0
    publish: bool = False
    spec: ServiceSpec | None = None


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One of systemd's list, with its mark."""

    node: str
    name: str
    mark: Mark
    active: str
    sub: str
    path: str
    job: str


def mark(description: str) -> Mark | None:
    """None where the unit is not coebench's."""
    try:
        found = msgspec.json.decode(description, type=Mark)
    except msgspec.DecodeError:
        return None
    return found if found.coebench == OURS else None


def read(node: str, listed: list[Any]) -> list[Unit]:
    """Those that are coebench's of an answer to ListUnitsByPatterns."""
    return [
        Unit(node=node, name=u[0], mark=found, active=u[3], sub=u[4], path=u[6], job=u[8])
        for u in listed
        if (found := mark(u[1])) is not None
    ]


def slice_of(service: str) -> str:
    """A dash in a slice's name is a step down; the service's own are escaped."""
    return f"coebench-{service.replace('-', chr(92) + 'x2d')}.slice"


def holds(slice: Unit) -> bool:
    """Whether a slice stands for a service, or is about to: it has not ended."""
    return slice.active != "inactive" or bool(slice.job)


def image_unit(image: str) -> str:
    """The unit that describes an image."""
    return image.replace("/", "-") + ".service"


def record(spec: ServiceSpec) -> list[tuple[str, tuple[str, Any]]]:
    """The properties of a service's slice, which holds the name and the spec."""
    return [("Description", ("s", msgspec.json.encode(Mark(coebench=OURS, service=spec.name, spec=spec)).decode()))]


def instance(spec: ServiceSpec, image: Mapping[str, Any], name: str, port: int) -> list[tuple[str, tuple[str, Any]]]:
    """The properties of an instance's unit. systemd starts it again whenever it ends."""
    told = Mark(coebench=OURS, service=spec.name, instance=name, version=spec.version, port=port, publish=spec.publish)
    env = {"COEBENCH_PORT": str(port), "COEBENCH_INSTANCE": name, "COEBENCH_VERSION": spec.version, **spec.env}
    folder = f"{FOLDER}/{name}"
    command = list(spec.command) or list(image["ExecStart"])
    if image["WorkingDirectory"] not in ("", "/"):
        command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', image["WorkingDirectory"], *command]
    command = ["/bin/sh", "-c", RUN, folder, *command]
    found: list[tuple[str, tuple[str, Any]]] = [
        ("Description", ("s", msgspec.json.encode(told).decode())),
        ("Slice", ("s", slice_of(spec.name))),
        ("Type", ("s", "exec")),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("Restart", ("s", "always")),
        ("RestartUSec", ("t", RESTART)),
        ("StartLimitIntervalUSec", ("t", 0)),
        ("TimeoutStartUSec", ("t", 2**64 - 1)),
        ("TimeoutStopUSec", ("t", max(1, round(spec.grace * 1e6)))),
        ("Environment", ("as", [*image["Environment"], *(f"{k}={v}" for k, v in env.items())])),
        ("LimitNOFILE", ("t", FILES)),
        ("CPUAccounting", ("b", True)),
        ("MemoryMax", ("t", spec.memory)),
        ("CPUWeight", ("t", min(10000, max(1, round(spec.cpu * 100))))),
        ("ExecStartPreEx", ("a(sasas)", [_shell(PREPARE, folder, image["RootDirectory"].replace(":", "\\:"))])),
        ("ExecStartEx", ("a(sasas)", [(command[0], command, ["no-env-expand"])])),
        ("ExecStopPostEx", ("a(sasas)", [_shell(AWAY, folder)])),
    ]
    if spec.limit_cpu:
        found.append(("CPUQuotaPerSecUSec", ("t", round(spec.cpu * 1e6))))
    if spec.health:
        h = spec.health
        words = (folder, str(max(1, round(h.timeout))), str(port), h.path, f"{min(h.interval, 0.1):g}")
        found.append(("ExecStartPostEx", ("a(sasas)", [_shell(HEALTHY, *words)])))
    return found


def _shell(script: str, *words: str) -> tuple[str, list[str], list[str]]:
    """A command with the host's own files."""
    return ("/bin/sh", ["/bin/sh", "-c", script, "sh", *words], ["no-env-expand"])


def state(unit: Unit) -> InstanceState:
    if unit.job == "stop":
        return InstanceState.STOPPING
    if unit.active in ("failed", "inactive"):
        return InstanceState.ENDED if not unit.job else InstanceState.STARTING
    if unit.active == "active":
        return InstanceState.READY
    # one that ends without having been asked to is about to be started again
    return InstanceState.RUNNING if unit.sub == "start-post" else InstanceState.STARTING


def told(unit: Unit, address: str, started: int, result: str) -> Instance:
    """`started`: microseconds since the epoch, 0 if not yet. `result`: systemd's word for how it ended last."""
    now = state(unit)
    return Instance(
        id=unit.mark.instance,
        service=unit.mark.service,
        version=unit.mark.version,
        state=now,
        engine_state=f"{unit.active} ({unit.sub})",
        node=unit.node,
        address=address,
        port=unit.mark.port,
        published=(address, unit.mark.port) if unit.mark.publish else None,
        claims=(Claim("started", started / 1e6),) if started else (),
        reason="" if now is InstanceState.READY or result == "success" else f"result: {result}",
    )


def lost(instance: Instance) -> Instance:
    """One whose host does not answer."""
    return msgspec.structs.replace(
        instance, state=InstanceState.LOST, engine_state="unknown", claims=(), reason="its host does not answer"
    )
