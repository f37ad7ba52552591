"""Clusters and templates over Magnum's API: asked for, followed, taken away."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keystoneauth1 import exceptions as ka
from magnumclient import exceptions as mc

from ...contract import BadInput, BayFailed, CoebenchError, Observe, PhaseTimeout
from . import failures, owner
from .cloud import Cloud

RETRIES = 5  # of a request that changes nothing, when the server or the way to it fails
Stamp = tuple[str, str | None]  # a status, and when it was last updated
HOME = 8  # requests at a time
MANY = 3.0  # seconds between two looks at each of many bays, at most
SYNC = 10.0  # seconds between two looks of Magnum's own at its stacks: nothing it tells is finer


class Clusters:
    """Of one project of one cloud. All calls may come from several threads at once."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.retries = 0
        # A bay's network can be one that the asking thread has entered, from where Magnum is out of reach; these threads begin
        # here and stay here.
        self._home = ThreadPoolExecutor(HOME, thread_name_prefix="magnum")
        began = threading.Barrier(HOME + 1)
        for _ in range(HOME):
            self._home.submit(began.wait)
        began.wait()
        self._followers = 0  # how many clusters are waited for at once, by threads
        self._stamps: dict[str, Stamp] = {}  # cluster → what it was before the change that is under way
        self._stacks: dict[str, Stamp] = {}  # cluster → what its stack was then
        self._answer = 0.03  # seconds that a question takes the server, smoothed
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """While a cluster is waited for."""
        with self._lock:
            self._followers += 1
        try:
            yield
        finally:
            with self._lock:
                self._followers -= 1

    def pause(self, elapsed: float) -> float:
        """Seconds until a cluster is asked for again. The more are waited for, and the slower the server answers, the seldomer:
        asking is a load too, on what is measured. However many there are, it stays well below the time between Magnum's own."""
        return max(min(MANY, 1.5 * self._followers * self._answer), min(5.0, max(0.25, elapsed / 50)))

    # asking

    def ask(self, what: str, call: Callable[[], Any], observe: Observe | None = None, safe: bool = False) -> Any:
        """One request. `safe`: it changes nothing, or nothing more when it is made twice, so that a failure of the server or
        of the network is tried again, up to RETRIES times, each counted and observed. Raises BadInput, BayFailed."""
        for attempt in range(RETRIES + 1):
            try:
                return self._home.submit(call).result()
            except (mc.NotFound, ka.NotFound):
                raise
            except (mc.ClientException, ka.ClientException) as e:
                status = getattr(e, "http_status", None) or 0
                again = (
                    status >= 500
                    or status == 429  # slow down
                    or _is_leaving(e)  # a list is refused, too, while one of its clusters is in its last second
                    or isinstance(e, ka.ConnectFailure | ka.ConnectTimeout | mc.ConnectionRefused)
                )
                if not (safe and again and attempt < RETRIES):
                    raise failures.told(what, e) from e
                self.retries += 1
                if observe:
                    observe("magnum.retry", what=what, status=status, said=failures.text(e)[:200])
                time.sleep(min(5.0, 0.2 * 2**attempt))
        raise AssertionError

    def get(self, uuid: str, observe: Observe | None = None) -> Any | None:
        """A cluster, or None if there is none."""

        def call() -> Any:
            begun = time.monotonic()
            try:
                found = self.cloud.magnum.clusters.get(uuid)
                self._answer += (time.monotonic() - begun - self._answer) / 8
                return found
            except (mc.BadRequest, ka.BadRequest) as e:
                if _is_leaving(e):
                    return _Leaving()
                raise

        try:
            return self.ask(f"asking for cluster {uuid}", call, observe, safe=True)
        except (mc.NotFound, ka.NotFound):
            return None

    def find(self, name: str) -> Any | None:
        """A cluster by its name; None if there is none. Raises BadInput if there are several."""
        try:  # a list costs the server as many questions to its database as there are clusters
            return self.ask(f"looking for cluster {name}", lambda: self.cloud.magnum.clusters.get(name), safe=True)
        except (mc.NotFound, ka.NotFound):
            return None
        except BadInput:  # there are several
            pass
        found = [c for c in self.all() if c.name == name]
        if len(found) > 1:
            raise BadInput(f"{len(found)} clusters are named {name}: name one by its id ({', '.join(c.uuid for c in found)})")
        return found[0] if found else None

    def all(self) -> list[Any]:
        """The project's clusters, briefly."""
        return list(self.ask("listing clusters", self.cloud.magnum.clusters.list, safe=True))

    def templates(self) -> list[Any]:
        """The project's templates and the public ones."""
        return list(self.ask("listing templates", self.cloud.magnum.cluster_templates.list, safe=True))

    # changing

    def make_template(self, name: str, coes: tuple[str, ...], attributes: Mapping[str, Any], labels: Mapping[str, str]) -> str:
        """A new template of the first of Magnum's words for a COE that the server knows; its id. Raises BadInput."""
        refused = ""
        for coe in coes:
            try:
                made = self.cloud.magnum.cluster_templates.create(name=name, coe=coe, labels=dict(labels), **attributes)
                return str(made.uuid)
            except (mc.ClientException, ka.ClientException) as e:
                refused = failures.text(e)
                if not refuses_coe(refused):
                    raise failures.told(f"making template {name}", e) from e
        raise BadInput(f"{self.cloud.name} offers no {' or '.join(coes)}: {failures.explained(refused)}")

    def offers(self, coe: str) -> bool:
        """Whether the server knows a COE (Magnum's word): asked by a template whose image can't be, which makes nothing."""
        probe = {"name": f"{owner.PREFIX}probe", "image_id": "coebench-no-such-image", "labels": {owner.OWNER: owner.mine()}}
        try:
            made = self.cloud.magnum.cluster_templates.create(coe=coe, **probe)
        except (mc.ClientException, ka.ClientException) as e:
            return not refuses_coe(failures.text(e))
        self.drop_template(made.uuid)  # a server that looks at no image; what stays in spite of this carries our label
        return True

    def drop_template(self, uuid: str) -> None:
        """No error if it is gone."""
        try:
            self.ask("deleting the template", lambda: self.cloud.magnum.cluster_templates.delete(uuid), safe=True)
        except (mc.NotFound, ka.NotFound):
            pass

    def create(self, **attributes: Any) -> str:
        """Ask for a cluster; its id. Never tried again: it would be two."""
        made = self.ask(f"creating cluster {attributes['name']}", lambda: self.cloud.magnum.clusters.create(**attributes))
        return str(made.uuid)

    def resize(self, uuid: str, nodes: int, remove: tuple[str, ...], observe: Observe) -> None:
        """Ask for so many nodes, `remove` going first, and wait. Raises BadInput, BayFailed."""
        before = self.get(uuid, observe)
        if before is None:
            raise BayFailed(f"cluster {uuid} is gone")
        what = f"resizing cluster {before.name}"
        stack = self._stack(before)
        if self.cloud.resize():
            self.ask(what, lambda: self.cloud.magnum.clusters.resize(uuid, nodes, nodes_to_remove=list(remove)))
        elif remove:
            raise BadInput(f"{self.cloud.name} can't take a node away by name: that needs Magnum 9 (microversion 1.7)")
        else:
            patch = [{"op": "replace", "path": "/node_count", "value": nodes}]
            self.ask(what, lambda: self.cloud.magnum.clusters.update(uuid, patch))
        observe("bay.accepted", nodes=nodes)
        self._stamp(uuid, before, stack)

    def upgrade(self, uuid: str, template: str, batch: int, observe: Observe) -> None:
        """Ask for a cluster to become what another template (by id) says, `batch` nodes at a time. Raises BadInput, BayFailed."""
        before = self.get(uuid, observe)
        if before is None:
            raise BayFailed(f"cluster {uuid} is gone")
        call = self.cloud.magnum.clusters.upgrade
        stack = self._stack(before)
        self.ask(f"upgrading cluster {before.name}", lambda: call(uuid, template, max_batch_size=batch))
        observe("bay.accepted", template=template, batch=batch)
        self._stamp(uuid, before, stack)

    def _stamp(self, uuid: str, before: Any, stack: Stamp) -> None:
        """Remember what a cluster and its stack looked like before a change: for up to a second they look so still."""
        self._stamps[uuid] = (before.status, before.updated_at)
        self._stacks[uuid] = stack

    def follow(self, uuid: str, timeout: float, observe: Observe) -> Iterator[Any]:
        """The cluster, again and again, until it is complete (the last one given). Raises BayFailed, PhaseTimeout."""
        with self._following():
            yield from self._follow(uuid, timeout, observe)

    def _follow(self, uuid: str, timeout: float, observe: Observe) -> Iterator[Any]:
        stale = self._stamps.get(uuid)
        begun = time.monotonic()
        while True:
            cluster = self.get(uuid, observe)
            if cluster is None:
                raise BayFailed(f"cluster {uuid} is gone while it is waited for")
            fresh = stale is None or (cluster.status, cluster.updated_at) != stale
            if fresh and cluster.status.endswith("_FAILED"):
                raise failures.failed(f"cluster {cluster.name} is {cluster.status}", _reason(cluster), self.evidence(cluster))
            yield cluster
            if fresh and cluster.status.endswith("_COMPLETE"):
                self._stamps.pop(uuid, None)
                return
            elapsed = time.monotonic() - begun
            if elapsed > timeout:
                raise self._stuck(f"cluster {cluster.name}", timeout, cluster)
            time.sleep(self.pause(elapsed))

    def delete(self, uuid: str, timeout: float, observe: Observe) -> None:
        """Delete and wait until it is gone. A DELETE_FAILED is tried once more. Raises BayFailed, PhaseTimeout."""
        with self._following():
            self._delete(uuid, timeout, observe)

    def _delete(self, uuid: str, timeout: float, observe: Observe) -> None:
        begun = time.monotonic()
        asked = 0
        while True:
            cluster = self.get(uuid, observe)
            if cluster is None:
                return
            if asked == 0 or (asked == 1 and cluster.status == "DELETE_FAILED"):
                asked += 1
                if asked == 2:
                    observe("magnum.retry", what=f"deleting {cluster.name}", status=0, said=_reason(cluster))
                try:
                    self.ask("deleting the cluster", lambda: self.cloud.magnum.clusters.delete(uuid), observe, safe=True)
                except (mc.NotFound, ka.NotFound):
                    return
                observe("bay.delete.accepted")
            elif cluster.status == "DELETE_FAILED" and time.monotonic() - begun > SYNC:
                raise failures.failed(f"cluster {cluster.name} is DELETE_FAILED", _reason(cluster), self.evidence(cluster))
            if time.monotonic() - begun > timeout:
                raise self._stuck(f"deleting cluster {cluster.name}", timeout, cluster)
            time.sleep(self.pause(0))

    # Heat's side, where the project may see it

    def stack_status(self, cluster: Any) -> str:
        """The status of the cluster's stack; "" where there is no Heat, or it isn't shown, or it is of before the change that is
        under way."""
        now = self._stack(cluster)
        return "" if now == self._stacks.get(cluster.uuid) else now[0]

    def _stack(self, cluster: Any) -> Stamp:
        stack = self._heat(cluster, "").get("stack", {})
        return str(stack.get("stack_status", "")), stack.get("updated_time")

    def _heat(self, cluster: Any, what: str) -> Mapping[str, Any]:
        """Of a cluster's stack, as Heat tells it; nothing where it can't be had, since no bay depends on it."""
        ident = getattr(cluster, "stack_id", None) or getattr(cluster, "cluster_id", None)
        if not ident or not self.cloud.has("orchestration"):
            return {}
        try:
            answer = self.cloud.rest("GET", f"/stacks/{ident}{what}", "orchestration", raise_exc=False)
            return dict(answer.json()) if answer.status_code == 200 else {}
        except (CoebenchError, ValueError):
            return {}

    def _stuck(self, what: str, timeout: float, cluster: Any) -> PhaseTimeout:
        return failures.stuck(what, timeout, cluster.status, _reason(cluster), self.evidence(cluster, "FAILED", "IN_PROGRESS"))

    def evidence(self, cluster: Any, *states: str) -> str:
        """What failed, or is in other `states`, in Heat's and Magnum's own words."""
        lines = [f"{k}: {v}" for k, v in (getattr(cluster, "faults", None) or {}).items()]
        wanted = "".join(f"&status={state}" for state in states or ("FAILED",))
        listed = self._heat(cluster, f"/resources?nested_depth=3{wanted}").get("resources", [])
        for r in sorted(listed, key=lambda r: "FAILED" not in str(r.get("resource_status"))):
            said = r.get("resource_status_reason") or r.get("resource_status")
            lines.append(f"{r['resource_name']} ({r['resource_type']}): {said}")
        return "\n".join(lines[:20])

    # what is ours

    def ours(self, wanted: Callable[[Mapping[str, str]], bool]) -> tuple[list[Any], list[Any]]:
        """Clusters and templates that coebench made and whose labels are wanted."""
        return (
            [c for c in self.all() if str(c.name).startswith(owner.PREFIX) and wanted(self._labels(c, "clusters"))],
            [
                t
                for t in self.templates()
                if str(t.name).startswith(owner.PREFIX) and wanted(self._labels(t, "cluster_templates"))
            ],
        )

    def _labels(self, item: Any, manager: str) -> Mapping[str, str]:
        labels = item.to_dict().get("labels")
        if labels is None:  # old servers list less than they give
            try:
                labels = self.ask("asking", lambda: getattr(self.cloud.magnum, manager).get(item.uuid), safe=True).labels
            except (mc.NotFound, ka.NotFound):
                return {}
        return labels or {}


class _Leaving:
    """A cluster in its last second, of which Magnum can tell nothing any more."""

    status = "DELETE_IN_PROGRESS"
    status_reason = ""
    name = uuid = "being deleted"
    updated_at = None
    node_addresses: tuple[str, ...] = ()
    master_addresses: tuple[str, ...] = ()


def _is_leaving(error: Exception) -> bool:
    """Whether a server refuses to show a cluster that is just being deleted: its node groups are gone, it is not yet, and its
    numbers of nodes are none that the API allows (of masters, and in /v1/bays of nodes: whichever it looks at first)."""
    return re.search(r"Invalid input for field/attribute (master|node)_count", failures.text(error)) is not None


def refuses_coe(said: str) -> bool:
    """Whether a server's words mean that it has no such COE."""
    return failures.kind(said) is not None and failures.kind(said).name == "COE not offered"  # type: ignore[union-attr]


def _reason(cluster: Any) -> str:
    return str(getattr(cluster, "status_reason", None) or "no reason is given")
