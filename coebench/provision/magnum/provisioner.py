"""The provisioner `magnum`: bays created, resized and deleted through Magnum's API, each step timed by what was seen."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ... import plugins
from ...contract import (
    Access,
    BadInput,
    Bay,
    BayFailed,
    BaySpec,
    CoebenchError,
    Host,
    Journal,
    NodeFault,
    Observe,
    PhaseTimeout,
    Resource,
    Role,
    Unsupported,
    Usage,
)
from ...lab import install, lock, relay
from ...lab.bay import LabBay
from ...lab.magnum import spool
from ..lab import LabProvisioner
from . import access, failures, owner, template
from .cloud import Cloud, connect
from .clusters import SYNC, Clusters

TIMEOUT = 1800.0  # seconds that a bay's making, changing or going may take; the lab's are ready or dead long before
LAB_TIMEOUT = 300.0
CLASSIC_ALONE = "its `swarm` is classic Swarm, of before Docker 1.12, and coebench speaks Swarm mode alone (`swarm-mode`)"
ALIVE_EVERY = 10.0  # seconds between two questions to a cloud whether a bay in use is still there


class Mine(msgspec.Struct):
    """What this process knows of a bay besides Magnum's own account."""

    uuid: str
    template: str  # "" if it is the user's
    tls: bool
    timeout: float
    weightless: bool = False
    access: Access | None = None
    looked: float = 0.0


class MagnumProvisioner:
    """Connects when it is first asked; holds the lab's lock from `prepare` until `release` if the lab's own Magnum is used.

    `keep`: bays belong to nobody's run: only `delete` takes them away. `clusters`: a connection that is there already.
    """

    name: ClassVar[str] = "magnum"

    def __init__(self, keep: bool = False, clusters: Clusters | None = None) -> None:
        self._keep = keep
        self._clusters = clusters
        self._held: lock.Lock | None = None
        self._mine: dict[str, Mine] = {}
        self._lock = threading.Lock()
        self._lab = LabProvisioner()
        self._offered: set[str] = set()

    @property
    def clusters(self) -> Clusters:
        """The connection. Raises BadInput: no cloud, wrong password, no Magnum."""
        with self._lock:
            if self._clusters is None:
                self._clusters = Clusters(connect())
            return self._clusters

    @property
    def cloud(self) -> Cloud:
        return self.clusters.cloud

    # the port

    def check(self, spec: BaySpec) -> None:
        options = template.options(self.cloud, spec)
        if spec.coe not in template.COES:
            raise BadInput(f"Magnum has no bays of '{spec.coe}'; it has {', '.join(template.COES)}")
        spec = msgspec.structs.replace(spec, controls=template.masters(spec, options))
        if spec.nodes < 1:
            raise BadInput(f"a bay has one node at least, not {spec.nodes}")
        if spec.coe not in self._offered:
            words = template.words(self.cloud, spec.coe)
            if not any(self.clusters.offers(coe) for coe in words):
                classic = spec.coe == "swarm" and self.clusters.offers(template.CLASSIC)
                why = CLASSIC_ALONE if classic else failures.RELEASES
                raise BadInput(f"{self.cloud.name} (microversion {_text(self.cloud.most)}) offers no {' or '.join(words)}: {why}")
            self._offered.add(spec.coe)
        if named := options.get("template"):
            self.template(named, spec)
        else:
            template.attributes(self.cloud, spec, options, "")
        if named := options.get(template.UPGRADE):
            if why := self._no_upgrade(template.weightless(options)):
                raise BadInput(f"{template.UPGRADE}={named}: {why}")
            self.template(named, spec)
        if self.cloud.lab and not template.weightless(options):
            self._lab.check(msgspec.structs.replace(spec, options={}))

    def prepare(self, coes: tuple[str, ...], say: Callable[[str], None]) -> None:
        cloud = self.cloud
        access.key()
        say(
            f"Magnum at {cloud.name}, microversions {_text(cloud.least)} to {_text(cloud.most)}; it looks at its stacks every "
            f"{SYNC:g} s, so no time that it tells is finer"
        )
        if cloud.lab:
            install.install(coes, say)
            if self._held is None:
                self._held = lock.take("compare, with the lab's Magnum")

    def free(self) -> None:
        """`HoldingPort`."""
        if self.cloud.lab and self._held is None:
            lock.free()

    def release(self) -> None:
        """`HoldingPort`."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def create(self, name: str, spec: BaySpec, journal: Journal, observe: Observe) -> Bay:
        bay, finish = self.begin(name, spec, journal, observe)
        del bay
        return finish()

    def begin(self, name: str, spec: BaySpec, journal: Journal, observe: Observe) -> tuple[str, Callable[[], Bay]]:
        """Ask for a bay; its id, and what waits until it is ready. Raises BadInput, BayFailed."""
        self.check(spec)
        options = template.options(self.cloud, spec)
        controls = template.masters(spec, options)
        named = owner.name(name)
        if self.clusters.find(named):
            raise BadInput(f"a cluster named {named} is there already")
        labels = options["labels"] | {owner.RUN: name, owner.OWNER: owner.KEPT if self._keep else owner.mine()}
        made = ""
        if wanted := options.get("template"):
            found = self.template(wanted, spec)
            uuid_of_template, tls = found.uuid, not found.tls_disabled
            labels = {**(found.labels or {}), **labels}
        else:
            coes = template.words(self.cloud, spec.coe)
            attributes = template.attributes(self.cloud, spec, options, coes[0])
            journal.creating(self._resource("template", named))
            made = uuid_of_template = self.clusters.make_template(named, coes, attributes, labels)
            tls = not attributes["tls_disabled"]
            observe("bay.template", template=made)
        timeout = float(options.get("bay-timeout", LAB_TIMEOUT if self.cloud.lab else TIMEOUT))
        mine = Mine("", made, tls, timeout, template.weightless(options))
        self._mine[name] = mine
        journal.creating(self._resource("cluster", named))
        asked: dict[str, Any] = {"name": named, "cluster_template_id": uuid_of_template, "labels": labels}
        asked |= {"node_count": spec.nodes, "master_count": controls, "create_timeout": max(1, int(timeout / 60))}
        if "keypair" in options:
            asked["keypair"] = options["keypair"]
        mine.uuid = self.clusters.create(**asked)
        observe("bay.accepted", cluster=mine.uuid, cloud=self.cloud.name)
        return mine.uuid, lambda: self._finish(name, spec, observe)

    def _finish(self, name: str, spec: BaySpec, observe: Observe) -> Bay:
        mine = self._of(name)
        begun = time.monotonic()
        self._follow(mine, observe)
        left = max(30.0, mine.timeout - (time.monotonic() - begun))
        return self._ready(name, spec, left, observe)

    def describe(self, bay: Bay) -> Bay:
        mine = self._of(bay.name)
        if self.cloud.lab and not mine.weightless:
            LabBay.open(spool.bay_name(mine.uuid)).check()  # asking Magnum each second would be a load of its own
            return bay
        if time.monotonic() - mine.looked > ALIVE_EVERY:
            mine.looked = time.monotonic()
            cluster = self.clusters.get(mine.uuid)
            if cluster is None:
                raise BayFailed(f"bay {bay.name}: its cluster is gone")
            if cluster.status.endswith("_FAILED"):
                raise BayFailed(f"bay {bay.name}: its cluster is {cluster.status}", str(cluster.status_reason))
        return bay

    def access(self, bay: Bay) -> Access:
        mine = self._of(bay.name)
        if mine.access is None:
            cluster = self.clusters.get(mine.uuid)
            if cluster is None:
                raise BayFailed(f"bay {bay.name}: its cluster is gone")
            if mine.weightless:
                mine.access = Access(coe=bay.spec.coe, url=cluster.api_address)
                return mine.access
            near = {h.name: h.address for h in bay.nodes} if bay.spec.coe == "swarm" else None
            given = access.of(self.clusters, bay.spec.coe, cluster, mine.tls, near)
            if self.cloud.lab:  # what its engine has to say to the driver, timeouts among it, no cluster tells
                options = LabBay.open(spool.bay_name(mine.uuid)).access().options
                given = msgspec.structs.replace(given, options=options)
            mine.access = given
        return mine.access

    def network(self, bay: Bay) -> AbstractContextManager[None]:
        mine = self._of(bay.name)
        if self.cloud.lab and not mine.weightless:
            return LabBay.open(spool.bay_name(mine.uuid)).network()
        return contextlib.nullcontext()

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        if nodes < 1:
            raise BadInput(f"a bay has one node at least, not {nodes}")
        if nodes == len(bay.nodes):
            return bay
        return self._change(bay, nodes, (), observe)

    def replace_node(self, bay: Bay, node: str, observe: Observe) -> Bay:
        """Magnum has no call for this: the bay is resized without the node, then back."""
        found = [h for h in bay.nodes if node in (h.name, h.address)]
        if not found:
            raise BadInput(f"bay {bay.name} has no node '{node}' (it has {', '.join(h.name for h in bay.nodes)})")
        if len(bay.nodes) == 1:
            raise BadInput(f"bay {bay.name} has one node alone: it can't be taken away to be replaced")
        fewer = self._change(bay, len(bay.nodes) - 1, (self._server(found[0].address),), observe)
        observe("bay.nodes.gone", node=node)
        return self._change(fewer, len(bay.nodes), (), observe)

    def upgrade(self, bay: Bay, to: str, observe: Observe, batch: int = 1) -> Bay:
        """Make the bay what a template (its name or id) says, `batch` nodes at a time. Raises BadInput, before anything is
        asked for, where that can't be."""
        mine = self._of(bay.name)
        if why := self._no_upgrade(mine.weightless):
            raise BadInput(f"bay {bay.name} can't be upgraded: {why}")
        if batch < 1:
            raise BadInput(f"at least one node at a time is upgraded, not {batch}")
        found = self.template(to, bay.spec)
        self.clusters.upgrade(mine.uuid, found.uuid, batch, observe)
        self._follow(mine, observe)
        return self._ready(bay.name, bay.spec, mine.timeout, observe)

    def upgraded(self, bay: Bay, observe: Observe) -> Bay:
        """`upgrade` to the template that the bay's own options name."""
        return self.upgrade(bay, template.options(self.cloud, bay.spec)[template.UPGRADE], observe)

    def refuses(self, spec: BaySpec) -> Mapping[str, str]:
        """Steps of a bay's life that can't be had with such a bay, each with the reason."""
        found = {}
        if not self.cloud.resize():
            found["replace"] = f"{self.cloud.name} can't take a node away by name: that needs microversion 1.7"
        options = template.options(self.cloud, spec)
        if template.UPGRADE not in options:
            why = self._no_upgrade(template.weightless(options))
            found["upgrade"] = why or f"no template to upgrade to is named ({template.UPGRADE}=NAME)"
        return found

    def _no_upgrade(self, weightless: bool) -> str:
        """Why no bay of such a kind can be upgraded; "" if it can, as far as can be known beforehand."""
        if not self.cloud.upgrade():
            newest = "/v1/bays alone" if self.cloud.bays else f"microversion {_text(self.cloud.most)}"
            return f"{self.cloud.name} has {newest}, and upgrading needs 1.8"
        if self.cloud.lab and not weightless:
            return "the lab has one release of each engine, so there is nothing to upgrade to (weightless bays can be)"
        return ""

    def fail_node(self, bay: Bay, node: str, fault: NodeFault, observe: Observe) -> None:
        self._lab.fail_node(self._lab_bay(bay, "failing a node"), node, fault, observe)

    def heal_node(self, bay: Bay, node: str, observe: Observe) -> None:
        self._lab.heal_node(self._lab_bay(bay, "healing a node"), node, observe)

    def usage(self, bay: Bay) -> tuple[Usage, ...]:
        return self._lab.usage(self._lab_bay(bay, "the engine processes' CPU and memory"))

    def save_logs(self, bay: Bay | str, folder: Path) -> None:
        name = bay if isinstance(bay, str) else bay.name
        mine = self._of(name)
        cluster = self.clusters.get(mine.uuid)
        if cluster:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cluster.json").write_text(json.dumps(_shown(cluster), indent=1, default=str))
        if self.cloud.lab and not mine.weightless:
            with contextlib.suppress(BadInput):
                self._lab.save_logs(spool.bay_name(mine.uuid), folder)

    def delete(self, bay: Bay | str, journal: Journal, observe: Observe) -> None:
        name = bay if isinstance(bay, str) else bay.name
        named = owner.name(name)
        mine = self._mine.get(name)
        uuid = mine.uuid if mine else ""
        if not uuid:
            found = self.clusters.find(named)
            uuid = found.uuid if found else ""
        if uuid:
            self.clusters.delete(uuid, mine.timeout if mine else TIMEOUT, observe)
        journal.gone(self._resource("cluster", named))
        observe("bay.gone")
        if mine and mine.template:
            self.clusters.drop_template(mine.template)
        else:
            for one in [t.uuid for t in self.clusters.templates() if t.name == named]:
                self.clusters.drop_template(one)
        journal.gone(self._resource("template", named))
        self._mine.pop(name, None)

    def leftovers(self) -> tuple[str, ...]:
        clusters, templates = self.clusters.ours(owner.left)
        found = [f"cluster {c.name} ({c.status})" for c in clusters]
        return tuple(found + [f"template {t.name}" for t in templates])

    def clean(self, run: str = "", foreign: bool = False) -> tuple[str, ...]:
        """Of this project, what processes of this machine made that have ended; other runs' and kept bays stay.

        `run`: of these, and of other machines', only what has this name or begins with it. `foreign`: other machines' too, of
        which nobody here can know whether they are in use.
        """

        def wanted(labels: Mapping[str, str]) -> bool:
            elsewhere = owner.foreign(labels) and (foreign or run != "")
            return (owner.left(labels) or elsewhere) and (not run or owner.of_run(labels, run))

        clusters, templates = self.clusters.ours(wanted)
        removed = []
        failed = []
        for cluster in clusters:
            with contextlib.suppress(CoebenchError):  # all are asked to go before the first is waited for
                self.clusters.ask("deleting", partial(self.cloud.magnum.clusters.delete, cluster.uuid), safe=True)
        for cluster in clusters:
            try:
                self.clusters.delete(cluster.uuid, LAB_TIMEOUT if self.cloud.lab else TIMEOUT, _deaf)
                removed.append(f"cluster {cluster.name}")
            except CoebenchError as e:
                failed.append(str(e))
        for one in templates:
            try:
                self.clusters.drop_template(one.uuid)
                removed.append(f"template {one.name}")
            except CoebenchError as e:
                failed.append(str(e))
        if failed:
            raise BayFailed(f"{len(removed)} were removed, {len(failed)} were not: {failed[0]}")
        return tuple(removed)

    # inside

    def _of(self, name: str) -> Mine:
        """What is known of a bay, also of one that another process made. Raises BadInput."""
        if name in self._mine and self._mine[name].uuid:
            return self._mine[name]
        found = self.clusters.find(owner.name(name)) or self.clusters.find(name)
        if not found:
            raise BadInput(f"Magnum at {self.cloud.name} has no bay '{name}'")
        cluster = self.clusters.get(found.uuid)
        about = self.template(cluster.cluster_template_id, None) if cluster else None
        labels = (getattr(cluster, "labels", None) or {}) if cluster else {}
        self._mine[name] = Mine(
            found.uuid,
            about.uuid if about and str(about.name).startswith(owner.PREFIX) else "",
            not (about and about.tls_disabled),
            LAB_TIMEOUT if self.cloud.lab else TIMEOUT,
            template.weightless({"labels": labels}),
        )
        return self._mine[name]

    def opened(self, name: str) -> Bay:
        """A bay that is there, by coebench's or Magnum's name for it. Raises BadInput, BayFailed."""
        mine = self._of(name)
        cluster = self.clusters.get(mine.uuid)
        if cluster is None:
            raise BadInput(f"bay {name} is gone")
        about = self.template(cluster.cluster_template_id, None)
        if about.coe == template.CLASSIC and not self.cloud.lab:
            raise BadInput(f"bay {name} can't be used: {CLASSIC_ALONE}")
        coe = next((ours for ours, words in template.COES.items() if about.coe in words), about.coe)
        spec = BaySpec(coe=coe, nodes=cluster.node_count, controls=cluster.master_count)
        if not cluster.status.endswith("_COMPLETE"):
            raise BayFailed(f"bay {name} is {cluster.status}", str(cluster.status_reason or ""))
        return self._ready(name, spec, 30.0, _deaf)

    def about(self, name: str) -> dict[str, Any]:
        """A bay in Magnum's own words, whatever state it is in. Raises BadInput if there is none."""
        cluster = self.clusters.get(self._of(name).uuid)
        if cluster is None:
            raise BadInput(f"bay {name} is gone")
        return _shown(cluster)

    def outside(self, bay: Bay) -> Access:
        """Access from where the user is. A lab bay's network is its own: a relay on loopback leads there while the bay is up."""
        there = self.access(bay)
        mine = self._of(bay.name)
        if not self.cloud.lab or mine.weightless:
            return there
        address, port = there.url.rpartition("//")[2].rsplit(":", 1)
        here = f"127.0.0.1:{relay.start(LabBay.open(spool.bay_name(mine.uuid)), address, int(port))}"
        there_too = f"{address}:{port}"
        return msgspec.structs.replace(
            there, url=there.url.replace(there_too, here), kubeconfig=there.kubeconfig.replace(there_too, here)
        )

    def template(self, named: str, spec: BaySpec | None) -> Any:
        """A template by name or id. Raises BadInput: none such, or of another COE."""
        listed = self.clusters.templates()
        found = [t for t in listed if named in (t.uuid, t.name)]
        if not found:
            have = ", ".join(sorted({t.name for t in listed})) or "none"
            raise BadInput(f"{self.cloud.name} has no cluster template '{named}' for this project (it has: {have})")
        if len(found) > 1:
            raise BadInput(f"{len(found)} templates are named '{named}': name one by its id ({', '.join(t.uuid for t in found)})")
        if spec and found[0].coe not in template.words(self.cloud, spec.coe):
            classic = f": {CLASSIC_ALONE}" if spec.coe == "swarm" and found[0].coe == template.CLASSIC else ""
            raise BadInput(f"the template '{named}' makes {found[0].coe} bays, not {spec.coe}{classic}")
        return found[0]

    def _change(self, bay: Bay, nodes: int, remove: tuple[str, ...], observe: Observe) -> Bay:
        mine = self._of(bay.name)
        self.clusters.resize(mine.uuid, nodes, remove, observe)
        self._follow(mine, observe)
        if bay.spec.coe == "swarm":
            mine.access = None  # it names the nodes
        return self._ready(bay.name, msgspec.structs.replace(bay.spec, nodes=nodes), mine.timeout, observe)

    def _follow(self, mine: Mine, observe: Observe) -> None:
        """Until the cluster is complete; observes its statuses, its stack's, and the nodes that Magnum knows of, as they come."""
        seen = stack = ""
        known = -1
        for cluster in self.clusters.follow(mine.uuid, mine.timeout, observe):
            if cluster.status != seen:
                seen = cluster.status
                observe("bay.status", status=seen)
            count = len(cluster.node_addresses or [])
            if count != known:
                known = count
                observe("bay.addresses", nodes=count)
            if not stack.endswith("_COMPLETE"):
                stack = self.clusters.stack_status(cluster)
                if stack.endswith("_COMPLETE"):
                    observe("bay.stack", status=stack)
        observe("bay.complete", status=seen, looked_every=round(self.clusters.pause(0), 2))

    def _ready(self, name: str, spec: BaySpec, timeout: float, observe: Observe) -> Bay:
        """Wait until the engine's API answers to our certificate and all nodes are ready; on large bays the addresses come
        minutes after Magnum says COMPLETE. Raises BayFailed, PhaseTimeout."""
        mine = self._of(name)
        deadline = time.monotonic() + timeout
        cluster: Any = None
        while True:
            cluster = self.clusters.get(mine.uuid, observe)
            if cluster is None:
                raise BayFailed(f"bay {name}: its cluster is gone")
            # as many, not at least as many: after a shrink Magnum can still list those that are going
            if cluster.api_address and len(cluster.node_addresses or []) == spec.nodes:
                break
            _until(
                deadline, f"bay {name}", timeout, f"{len(cluster.node_addresses or [])} of {spec.nodes} addresses are known", 0.5
            )
        seen = self._seen(name, mine, spec, cluster, deadline, timeout, observe)
        bay = self._bay(name, mine, spec, cluster, seen)
        mine.looked = time.monotonic()
        return bay

    def _seen(
        self, name: str, mine: Mine, spec: BaySpec, cluster: Any, deadline: float, timeout: float, observe: Observe
    ) -> dict[str, Any]:
        """Ask the engine itself until all nodes are ready: "nodes", address → name, and its "title" and "version"."""
        with contextlib.closing(self._looks(name, mine, spec, cluster)) as looks:  # it is in the bay's network until closed
            for one in looks:
                if isinstance(one, str):
                    _until(deadline, f"bay {name}", timeout, one, 0.2)
                    continue
                if not one["told"]:
                    observe("bay.api", url=cluster.api_address)
                if one["changed"]:
                    observe("bay.nodes", ready=one["ready"])
                if one["ready"] == spec.nodes:
                    return one
                _until(deadline, f"bay {name}", timeout, f"{one['ready']} of {spec.nodes} nodes are ready", 0.2)
        raise AssertionError

    def _looks(self, name: str, mine: Mine, spec: BaySpec, cluster: Any) -> Generator[str | dict[str, Any], None, None]:
        """One look after the other: why there is no answer yet, or what the engine says."""
        told, last = False, -1
        if mine.weightless:
            while True:
                with urllib.request.urlopen(cluster.api_address, timeout=10) as answer:
                    nodes = {n["address"]: n["name"] for n in json.load(answer)["nodes"]}
                yield {
                    "told": told,
                    "changed": len(nodes) != last,
                    "ready": len(nodes),
                    "nodes": nodes,
                    "title": "no engine",
                    "version": "",
                }
                told, last = True, len(nodes)
        stand_in = self._bay(name, mine, spec, cluster, {"nodes": {}, "title": "", "version": ""})
        kind = plugins.load("drivers", spec.coe, "COE")
        credentials = access.of(self.clusters, spec.coe, cluster, mine.tls)
        with self.network(stand_in):
            driver: Any = None
            try:
                while True:
                    try:
                        driver = driver or kind.connect(credentials)
                        info = driver.info()
                        nodes = {n.address: n.name for n in driver.nodes() if n.ready}
                    except CoebenchError as e:
                        if "CERTIFICATE_VERIFY_FAILED" in str(e):  # no waiting mends that
                            raise failures.failed(
                                f"bay {name}: its engine's certificate isn't of the bay's authority", str(e)
                            ) from e
                        yield str(e)
                        continue
                    yield {
                        "told": told,
                        "changed": len(nodes) != last,
                        "ready": len(nodes),
                        "nodes": nodes,
                        "title": info.engine,
                        "version": info.version,
                    }
                    told, last = True, len(nodes)
            finally:
                if driver:
                    driver.close()

    def _bay(self, name: str, mine: Mine, spec: BaySpec, cluster: Any, seen: Mapping[str, Any]) -> Bay:
        controls = [Host(name=f"c{i}", role=Role.CONTROL, address=a) for i, a in enumerate(cluster.master_addresses or [], 1)]
        names = seen["nodes"]
        nodes = [Host(name=names.get(a, a), role=Role.NODE, address=a) for a in cluster.node_addresses or []]
        notes: tuple[str, ...] = (
            f"made by Magnum at {self.cloud.name} (microversion {_text(self.cloud.version)}), which looks at its stacks every "
            f"{SYNC:g} s: no time that it tells is finer",
        )
        timeouts: Mapping[str, str] = {}
        components: Mapping[str, str] = {}
        if self.cloud.lab and not mine.weightless:
            made = LabBay.open(spool.bay_name(mine.uuid))
            notes += made.engine.notes()
            timeouts, components = made.engine.timeouts(), made.engine.components()
        return Bay(
            name=name,
            spec=spec,
            provisioner=self.name,
            hosts=(*controls, *nodes),
            engine=seen["title"],
            version=seen["version"] or str(cluster.coe_version or ""),
            components=components,
            timeouts=timeouts,
            notes=notes,
        )

    def _lab_bay(self, bay: Bay, what: str) -> Bay:
        """The lab bay behind a bay of the lab's own Magnum. Raises Unsupported for any other cloud."""
        mine = self._of(bay.name)
        if not self.cloud.lab or mine.weightless:
            raise Unsupported(what, "a cloud's nodes are out of reach; the lab's own Magnum can (coebench lab up magnum)")
        return msgspec.structs.replace(bay, name=spool.bay_name(mine.uuid))

    def _server(self, address: str) -> str:
        """What Magnum knows a node by when it is to be taken away: its server's id where Nova tells it, else its address."""
        if self.cloud.lab or not self.cloud.has("compute"):
            return address
        answer = self.cloud.rest("GET", "/servers/detail", "compute", raise_exc=False)
        for server in answer.json().get("servers", []) if answer.status_code == 200 else []:
            if any(a["addr"] == address for addresses in server["addresses"].values() for a in addresses):
                return str(server["id"])
        return address

    def _resource(self, kind: str, ident: str) -> Resource:
        return Resource(kind=kind, id=ident, provisioner=self.name, where=self.cloud.where())


def _until(deadline: float, what: str, timeout: float, waiting_for: str, pause: float) -> None:
    if time.monotonic() > deadline:
        raise PhaseTimeout(what, timeout, waiting_for)
    time.sleep(pause)


def _shown(cluster: Any) -> dict[str, Any]:
    return {k: v for k, v in cluster.to_dict().items() if k != "links"}


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _deaf(name: str, *, at: float | None = None, **data: Any) -> None: ...
