"""Builds what the lab's Magnum driver asks for: `python -m coebench.lab.magnum.keeper`, started by `plane.up`.

It looks at the spool every 50 ms, which costs two system calls a cluster; each cluster's wishes are done one after the other
in a thread of its own. A wish to delete does not wait: it takes the bay away from under whoever is making it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path

from ...contract import BadInput, BaySpec, CoebenchError
from .. import bay as bays
from .. import install
from ..bay import LabBay
from . import plane, spool, weightless

LOOK = 0.05  # seconds between two looks at the spool
LABEL = "coebench_"  # labels that begin so are for the lab: memory (MiB), cpu, timeouts, nodes=weightless, option_NAME
log = logging.getLogger("keeper")


class Cluster:
    """One cluster of Magnum's, and the bay that stands for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done = 0  # the last request that was answered
        self.busy: spool.Spec | None = None
        self.stamp = 0
        self.doomed = False
        self.lock = threading.Lock()

    def look(self) -> bool:
        """Begin what is newly asked. Whether the cluster is there still."""
        try:
            stamp = (self.folder / "spec.json").stat().st_mtime_ns
        except FileNotFoundError:
            return self.folder.exists() or self.busy is not None
        # `stamp` is what was looked at last; nothing is looked at twice unless somebody is at work
        if stamp == self.stamp and self.busy is None:
            return True
        spec = spool.read_spec(self.folder)
        if spec is None:
            return True
        with self.lock:
            if self.busy is None:
                self.stamp = stamp
                if spec.request > self.done:
                    self.busy = spec
                    threading.Thread(target=self.work, args=(spec,), name=spec.name, daemon=True).start()
            elif spec.delete and not self.busy.delete and not self.doomed:
                self.doomed = True
                log.info("%s: to be deleted while it is being made", spec.name)
                threading.Thread(target=_erase, args=(spec,), daemon=True).start()
        return True

    def work(self, spec: spool.Spec) -> None:
        begun = time.monotonic()
        try:
            state = _deleted(spec) if spec.delete else _built(spec)
        except Exception as e:  # whatever it is, Magnum must hear of it
            if not isinstance(e, CoebenchError | OSError):
                log.exception("%s: request %d", spec.name, spec.request)
            reason = f"{e}" if isinstance(e, CoebenchError) else f"{type(e).__name__}: {e}"
            evidence = getattr(e, "evidence", "")
            state = spool.State(request=spec.request, phase="failed", reason=f"{reason}\n{evidence[-500:]}".strip())
        log.info(
            "%s: request %d: %s after %.2f s %s", spec.name, spec.request, state.phase, time.monotonic() - begun, state.reason
        )
        with self.lock:
            spool.write_state(self.folder, state)
            self.done, self.busy, self.stamp = spec.request, None, 0


def _built(spec: spool.Spec) -> spool.State:
    """Bring the bay to what the spec says."""
    name = spool.bay_name(spec.uuid)
    if spec.labels.get(LABEL + "nodes") == "weightless":
        return weightless.build(name, spec)
    if spec.upgrades:
        raise BadInput("the lab has one release of each engine: there is nothing to upgrade to")
    if name in bays.names():
        bay = LabBay.open(name)
        if not bay.state.ready:
            raise BadInput(f"bay {name} was never finished: delete the cluster")
        if gone := _named(bay, spec.remove):
            bay.drop(gone)
        if spec.nodes != len(bay.state.layout.nodes):
            bay.resize(spec.nodes, _quiet)
    else:
        bay = _made(name, spec)
    access = bay.access()
    hosts = {h.spec.name: h.spec.address for h in bay.hosts}
    return spool.State(
        request=spec.request,
        phase="ready",
        api=access.url,
        version=bay.engine.version,
        nodes=[hosts[n] for n in bay.state.layout.nodes],
        masters=[hosts[n] for n in bay.state.layout.controls],
    )


def _made(name: str, spec: spool.Spec) -> LabBay:
    """A new bay, with Magnum's authority as its own. Raises BadInput, BayFailed."""
    if spec.masters != 1:
        raise BadInput(f"the lab makes bays with one master, not {spec.masters}")
    coe = spool.COES[spec.coe]
    wanted = bay_spec(coe, spec)
    layers = install.layers(coe, _quiet, wanted.options)
    images = install.image_folder(coe, _quiet)
    secrets = {"ca.crt": spec.ca_cert, "ca.key": spec.ca_key} if spec.tls and coe != "mesos" else {}
    return LabBay.create(name, wanted, layers, images, _quiet, secrets)


def bay_spec(coe: str, spec: spool.Spec) -> BaySpec:
    """The lab's words for what a cluster's labels say. Raises BadInput."""
    mine = {k.removeprefix(LABEL): v for k, v in spec.labels.items() if k.startswith(LABEL)}
    options = {k.removeprefix("option_"): v for k, v in mine.items() if k.startswith("option_")}
    try:
        return BaySpec(
            coe=coe,
            nodes=spec.nodes,
            cpu=float(mine.get("cpu", 0)),
            memory=int(mine.get("memory", 3072)) << 20,
            timeouts=mine.get("timeouts", "stock"),
            options=options,
        )
    except ValueError as e:
        raise BadInput(f"labels {LABEL}cpu and {LABEL}memory are numbers: {e}") from None


def _named(bay: LabBay, wanted: list[str]) -> set[str]:
    """The nodes that are meant, whether by name or by address. Raises BadInput."""
    found = set()
    for word in wanted:
        names = [
            h.spec.name for h in bay.hosts if word in (h.spec.name, h.spec.address) and h.spec.name in bay.state.layout.nodes
        ]
        if not names:
            raise BadInput(f"bay {bay.name} has no node '{word}'")
        found.update(names)
    return found


def _deleted(spec: spool.Spec) -> spool.State:
    _erase(spec)
    return spool.State(request=spec.request, phase="deleted")


def _erase(spec: spool.Spec) -> None:
    name = spool.bay_name(spec.uuid)
    weightless.end(name)
    bays.erase(name)


def _quiet(_: str) -> None: ...


def main() -> None:
    """Until killed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s %(message)s")
    top = plane.folder() / "spool"
    clusters: dict[str, Cluster] = {}
    while True:
        with contextlib.suppress(OSError):
            for folder in top.iterdir():
                clusters.setdefault(folder.name, Cluster(folder))
        for uuid in [u for u, c in clusters.items() if not c.look()]:
            del clusters[uuid]
        time.sleep(LOOK)


if __name__ == "__main__":
    main()
