"""The embedded provisioner: bays of real engines on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import psutil

from ..contract import (
    Access,
    BadInput,
    Bay,
    BayFailed,
    BaySpec,
    Host,
    ImageRegistry,
    Instance,
    Journal,
    NodeFault,
    Observe,
    Resource,
    Room,
    Usage,
)
from ..lab import bay as lab
from ..lab import cgroups, faults, install, lock, paths, plan, registry, usage
from ..lab.cache import Say
from ..lab.engines import engine
from ..lab.magnum import plane as magnum
from ..lab.paths import existing

SPARE_MEMORY = 1 << 30  # bytes left to the machine itself
MAGNUM = "the lab's Magnum"
LEAST_HOST = 512 << 20
KUBELET_PODS = 110  # the kubelet's own limit
LEAST_DISK = 128 << 20  # bytes a host, for what its engine keeps


class LabProvisioner:
    """Real engines in namespaces. Holds the lab's lock from `prepare` until `release`, or until the process ends."""

    name: ClassVar[str] = "lab"

    def __init__(self) -> None:
        self._held: lock.Lock | None = None
        self._parts: dict[str, tuple[tuple[Path, ...], Path]] = {}

    def check(self, spec: BaySpec) -> None:
        self.check_several(spec, 1)

    def check_several(self, spec: BaySpec, bays: int) -> None:
        install.check_machine()
        kind = engine(spec.coe)
        kind.check(spec)
        if spec.controls != 1:
            raise BadInput(f"the lab makes bays with one control host, not {spec.controls}")
        if not 1 <= spec.nodes <= plan.MOST_NODES:
            raise BadInput(f"the lab makes bays of 1 to {plan.MOST_NODES} nodes, not {spec.nodes}")
        if spec.timeouts not in ("stock", "harmonised"):
            raise BadInput(f"timeouts are 'stock' or 'harmonised', not '{spec.timeouts}'")
        if spec.memory and spec.memory < LEAST_HOST:
            raise BadInput(f"a host needs at least {LEAST_HOST >> 20} MiB of memory, not {spec.memory >> 20}")
        what = f"a {spec.coe} bay" if bays == 1 else f"{bays} {spec.coe} bays"
        one = "s" if bays == 1 else ""
        disk = shutil.disk_usage(existing(paths.state())).free
        if disk < LEAST_DISK * bays * (spec.nodes + 1):
            raise BadInput(
                f"{paths.state()} has {disk >> 20} MiB free, {what} of 1+{spec.nodes} hosts want{one} "
                f"{LEAST_DISK * bays * (spec.nodes + 1) >> 20}: set COEBENCH_STATE elsewhere"
            )
        need = bays * NEED.get(spec.coe, NEED["swarm"])(spec.nodes) + SPARE_MEMORY
        free = psutil.virtual_memory().available
        if need > free:
            raise BadInput(
                f"{what} of 1+{spec.nodes} hosts take{one} about {need >> 20} MiB of memory, {free >> 20} are free: "
                "fewer --nodes, or a larger machine"
            )

    def node_room(self, spec: BaySpec) -> Room:
        """What its engine is told: the host's limit of processor time, or the machine's, and the host's memory."""
        most = KUBELET_PODS if spec.coe == "k8s" else 0
        return Room(instances=most, cpu=spec.cpu or len(os.sched_getaffinity(0)), memory=spec.memory)

    def timeouts(self, spec: BaySpec) -> Mapping[str, str]:
        return engine(spec.coe)(spec, plan.Layout.of(spec.controls, spec.nodes)).timeouts()

    def prepare(self, coes: tuple[str, ...], say: Say) -> None:
        """Build what is not in the cache yet, and take the lock. Raises BadInput, naming the holder if there is one."""
        install.install(coes, say)
        if self._held is None:
            self._held = lock.take("compare")

    def free(self) -> None:
        """`HoldingPort`."""
        if self._held is None:
            lock.free()

    def release(self) -> None:
        """`HoldingPort`."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def create(self, name: str, spec: BaySpec, journal: Journal, observe: Observe) -> Bay:
        self.check(spec)
        key = f"{spec.coe} {sorted(spec.options.items())}"
        if key not in self._parts:  # looked up once a run: what bays are made of must not change between its trials
            layers = install.layers(spec.coe, _quiet, spec.options)
            self._parts[key] = (layers, install.image_folder(spec.coe, _quiet))
        layers, images = self._parts[key]
        journal.creating(Resource(kind="bay", id=name, provisioner=self.name))
        bay = lab.LabBay.create(name, spec, layers, images, lambda step: observe(f"bay.{step}"))
        return self._describe(bay)

    def describe(self, bay: Bay) -> Bay:
        mine = lab.LabBay.open(bay.name)
        mine.check()
        return self._describe(mine)

    def access(self, bay: Bay) -> Access:
        return lab.LabBay.open(bay.name).access()

    def network(self, bay: Bay) -> AbstractContextManager[None]:
        return lab.LabBay.open(bay.name).network()

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        mine = lab.LabBay.open(bay.name)
        mine.resize(nodes, lambda step: observe(f"bay.{step}"))
        return self._describe(mine)

    def replace_node(self, bay: Bay, node: str, observe: Observe) -> Bay:
        mine = lab.LabBay.open(bay.name)
        mine.host(node)
        nodes = len(mine.state.layout.nodes)
        mine.drop({node})
        observe("bay.nodes.gone", node=node)
        mine.resize(nodes, lambda step: observe(f"bay.{step}"))
        return self._describe(mine)

    def fail_node(self, bay: Bay, node: str, fault: NodeFault, observe: Observe) -> None:
        mine = lab.LabBay.open(bay.name)
        at = faults.fail(mine, node, fault)
        observe("node.failed", at=at, node=node, fault=fault.value)

    def heal_node(self, bay: Bay, node: str, observe: Observe) -> None:
        mine = lab.LabBay.open(bay.name)
        faults.heal(mine, node, lambda step: observe(f"bay.{step}"))
        observe("node.healed", node=node)

    def end_instance(self, bay: Bay, instance: Instance) -> float:
        """`EndingPort`."""
        return faults.end_instance(lab.LabBay.open(bay.name), instance)

    @contextlib.contextmanager
    def registry(self, bay: Bay, journal: Journal) -> Iterator[ImageRegistry]:
        """`RegistryPort`."""
        mine = lab.LabBay.open(bay.name)
        resource = Resource(kind="registry", id=f"{bay.name}/{plan.REGISTRY}", provisioner=self.name, where={"bay": bay.name})
        with contextlib.ExitStack() as left:
            left.callback(journal.gone, resource)
            journal.creating(resource)
            yield left.enter_context(registry.running(mine, install.registry().ensure(_quiet)))

    def save_logs(self, bay: Bay | str, folder: Path) -> None:
        lab.LabBay.open(bay if isinstance(bay, str) else bay.name).save_logs(folder)

    def delete(self, bay: Bay | str, journal: Journal, observe: Observe) -> None:
        name = bay if isinstance(bay, str) else bay.name
        lab.erase(name)
        journal.gone(Resource(kind="bay", id=name, provisioner=self.name))

    def cpu_seconds(self, bay: Bay) -> dict[str, float]:
        """CPU time that each host of the bay has used."""
        return {h.name: cgroups.cpu_seconds(f"{bay.name}/{h.name}") for h in bay.hosts}

    def usage(self, bay: Bay) -> tuple[Usage, ...]:
        """All hosts', controls first; `UsagePort`."""
        mine = lab.LabBay.open(bay.name)
        return tuple(u for host in mine.hosts for u in usage.of(host, mine.engine.instances))

    def leftovers(self) -> tuple[str, ...]:
        own = (MAGNUM,) if magnum.left() else ()
        return own + tuple(f"lab bay {name}" for name in lab.names())

    def clean(self) -> tuple[str, ...]:
        """Raises BadInput if a run that is alive holds the lab, BayFailed if something does not go: after all that does."""
        with lock.take("clean"):
            removed, stuck = [], []
            if magnum.left():
                try:
                    magnum.down()
                    removed.append(MAGNUM)
                except (BayFailed, OSError) as e:
                    stuck.append(f"{MAGNUM}: {e}")
            for name in lab.names():
                try:
                    lab.erase(name)
                    removed.append(f"lab bay {name}")
                except (BayFailed, OSError) as e:
                    stuck.append(f"lab bay {name}: {e}")
            cgroups.unmount_freezer()
            cgroups.switch_off()
            if stuck:
                gone = f" ({', '.join(removed)}: gone)" if removed else ""
                raise BayFailed(f"not all could be removed: {'; '.join(stuck)}{gone}")
            return tuple(removed)

    def _describe(self, bay: lab.LabBay) -> Bay:
        failed = [h.spec.name for h in bay.hosts if not h.alive]
        if len(failed) == len(bay.hosts):
            raise BayFailed(f"bay {bay.name}: all hosts are down")
        return Bay(
            name=bay.name,
            spec=bay.state.spec,
            provisioner=self.name,
            hosts=tuple(Host(name=h.spec.name, role=h.spec.role, address=h.spec.address) for h in bay.hosts),
            engine=bay.engine.title,
            version=bay.engine.version,
            components=bay.engine.components(),
            timeouts=bay.engine.timeouts(),
            notes=bay.engine.notes(),
            state="ready" if not failed else f"down: {', '.join(failed)}",
        )


def _quiet(_: str) -> None: ...


# Estimates, on the high side, of what a bay's engines take without instances: they only keep a bay from being begun that
# can't fit. What a host really uses is in `coebench lab status`.
NEED = {
    "k8s": lambda nodes: (700 << 20) + nodes * (220 << 20),
    "swarm": lambda nodes: (150 << 20) + nodes * (150 << 20),
    "mesos": lambda nodes: (200 << 20) + nodes * (120 << 20),
    "bare": lambda nodes: (50 << 20) + nodes * (50 << 20),
}
