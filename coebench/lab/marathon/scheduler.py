"""The scheduler: brings what runs to what is wanted.

Everything that happens (an event of Mesos, a request, a check's result, a timer) marks apps as touched; ``settle``
then looks at each of them once, with deployments.decide, and does what that says.  All of this is plain synchronous
code on one thread: nothing changes while an app is looked at.  What is decided is written to the store before Mesos
is told of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import instances as inst
from .apps import App
from .backoff import Backoff
from .clock import after, seconds, stamp
from .deployments import STOP, Deployment, decide, planned
from .events import Bus
from .health import Checks
from .instances import Instance
from .mesos import Mesos
from .placement import Offer, Summary, place
from .store import Store

log = logging.getLogger("scheduler")
Json = dict[str, Any]

NAME = "coebench-marathon-compatible"
FAILOVER_TIMEOUT = 604800.0  # a week
IDLE_REFUSAL = 120.0  # seconds for which an offer is declined when nothing waits for one
WAITING_REFUSAL = 1.0  # the same while something waits that does not fit
KILL_RETRY = 10.0
LAUNCH_TIMEOUT = 300.0  # seconds after which a task that has not begun to run is killed
RECONCILE_RETRY = (0.5, 15.0)  # seconds between questions about tasks that Mesos has not spoken of: first and most
VERSIONS_KEPT = 25


class Locked(Exception):
    """The app is changed by these deployments."""

    def __init__(self, deployments: list[str]) -> None:
        super().__init__(", ".join(deployments))
        self.deployments = deployments


class Queued:
    """An app's place in the launch queue."""

    def __init__(self) -> None:
        self.count = 0
        self.asked = 0
        """For how many offers have been asked for."""
        self.since = stamp()
        self.summary = Summary()
        self.last_unused: list[Json] = []


class Scheduler:
    def __init__(self, masters: list[str], store: Store, bus: Bus, user: str = "root", warm_up: float = 0.1) -> None:
        self.store, self.bus, self.user = store, bus, user
        self.mesos = Mesos(masters, self)
        self.checks = Checks(self, warm_up)
        self.apps: dict[str, App] = {}
        self.versions: dict[str, dict[str, App]] = {}
        self.instances: dict[str, dict[str, Instance]] = {}
        self.deployments: dict[str, Deployment] = {}
        self.queue: dict[str, Queued] = {}
        self.failures: dict[str, Json] = {}
        self.launched = 0
        self._backoff: dict[str, Backoff] = {}
        self._agents: dict[str, dict[str, str]] = {}
        self._touched: set[str] = set()
        self._strays: set[str] = set()
        self._outbox: list[tuple[str, Json]] = []
        self._suppressed = False
        self._short_of_offers = False
        """Whether something waits that the offers so far were not asked for, or may fit now."""
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._settling = False
        self._restore()

    # what was before

    def _restore(self) -> None:
        self._framework_id: str | None = self.store.load("meta").get("framework_id")
        for kept in self.store.load("version").values():
            app = App(**kept)
            self.versions.setdefault(app.id, {})[app.version] = app
        for app_id, kept in self.store.load("app").items():
            self.apps[app_id] = App(**kept)
            self.instances[app_id] = {}
        for kept in self.store.load("instance").values():
            instance = Instance.restored(kept)
            self.instances.setdefault(instance.app_id, {})[instance.id] = instance
        for deployment_id, kept in self.store.load("deployment").items():
            self.deployments[deployment_id] = Deployment.restored(kept)
        self._touched.update(self.apps)

    def start(self) -> asyncio.Task[None]:
        for siblings in self.instances.values():
            for instance in siblings.values():
                if instance.running and not instance.killing:
                    self._start_checks(instance)
                if instance.started_at is None:
                    self._launch_timer(instance)
                if instance.unreachable_at is not None:
                    self._unreachable_timer(instance)
        return asyncio.create_task(self.mesos.run())

    # what is wanted: the API

    def change(
        self,
        target: Mapping[str, App | None],
        force: bool = False,
        restart: Iterable[str] = (),
        doomed: Iterable[str] = (),
    ) -> Deployment:
        """Deploy ``target``: apps by id, None for one that is to go.  Raises Locked."""
        locks = [d for d in self.deployments.values() if set(d.apps) & target.keys()]
        if locks and not force:
            raise Locked([d.id for d in locks])
        for deployment in locks:
            self._end(deployment, "deployment_failed")
        # an update that is cut short, by another number of instances above all, goes on
        outdated = {app.id for app in target.values() if app and self._has_outdated(app)}
        versions = [app.version for app in target.values() if app]
        original = {app_id: self.apps.get(app_id) for app_id in target}
        deployment = planned(original, target, max(versions, default=stamp()), {*restart, *outdated}, doomed)
        self.deployments[deployment.id] = deployment
        for app_id, app in target.items():
            if app is not None:
                self._keep_version(app)
                self.apps[app_id] = app
                self.instances.setdefault(app_id, {})
                self.store.put("app", app_id, app.kept())
                before = original[app_id]
                if before is None or app.differs_in_config(before):
                    self._backoff.pop(app_id, None)
                    self.queue.pop(app_id, None)
            self._touched.add(app_id)
        self._announce(deployment)
        self.settle()
        return deployment

    def _has_outdated(self, app: App) -> bool:
        """Whether instances are there that would have to be replaced by this app's."""
        return any(i.config != app.config_at and not i.killing for i in self.instances.get(app.id, {}).values())

    def next_version(self, app_id: str) -> str:
        known = self.versions.get(app_id, {})
        return after(max(known, default=None))

    def cancel(self, deployment: Deployment, force: bool) -> Deployment | None:
        """End a deployment; without force by another one that leads back."""
        if force:
            self._end(deployment, "deployment_failed")
            self._touched.update(deployment.apps)
            self.settle()
            return None
        back: dict[str, App | None] = {}
        for app_id, kept in deployment.original.items():
            if kept is not None:
                back[app_id] = App(**kept)  # in its old version: what runs of that need not be replaced
            elif app_id in self.apps:
                back[app_id] = None
        return self.change(back, force=True)

    def kill(self, victims: Iterable[Instance], wipe: bool = False) -> None:
        """Kill instances; replacements start as the apps ask for them."""
        for instance in victims:
            self._kill(instance)
            if wipe or instance.unreachable_at is not None:
                self._forget(instance)
        self.settle()

    def reset_delay(self, app_id: str) -> None:
        if app_id in self._backoff:
            self._backoff[app_id].reset()
        self._touched.add(app_id)
        self.settle()

    def delay(self, app_id: str) -> float:
        return self._backoff[app_id].left if app_id in self._backoff else 0.0

    @property
    def framework_id(self) -> str | None:
        return self._framework_id

    def app_at(self, instance: Instance) -> App | None:
        """The app as it was when the instance was started."""
        return self.versions.get(instance.app_id, {}).get(instance.version) or self.apps.get(instance.app_id)

    def locks(self, app_id: str) -> list[Deployment]:
        return [d for d in self.deployments.values() if app_id in d.apps]

    # settling

    def touch(self, app_id: str) -> None:
        self._touched.add(app_id)
        self.settle()

    def settle(self) -> None:
        """Bring every touched app forward, then write down and send what came of it."""
        if self._settling:
            return
        self._settling = True
        try:
            while self._touched:
                self._look(self._touched.pop())
            self._ask_for_offers()
        finally:
            self._settling = False
        self._flush()

    def _flush(self) -> None:
        self.store.commit()
        calls, self._outbox = self._outbox, []
        for kind, arguments in calls:
            self.mesos.call(kind, **arguments)

    def _look(self, app_id: str) -> None:
        app = self.apps.get(app_id)
        deployment = next((d for d in self.deployments.values() if d.action(app_id)), None)
        if app is None:
            return
        siblings = list(self.instances.get(app_id, {}).values())
        if deployment is None:
            if self.locks(app_id):
                return  # its turn comes in a later step
            decision = decide(None, app, siblings)
        else:
            decision = decide(deployment.action(app_id), app, siblings, deployment.doomed)
        self._want(app_id, decision.start)
        for instance in decision.kill:
            self._kill(instance)
        if deployment is not None and decision.done:
            self._advance(deployment)

    def _want(self, app_id: str, count: int) -> None:
        if count <= 0:
            self.queue.pop(app_id, None)
            return
        queued = self.queue.setdefault(app_id, Queued())
        queued.count = count
        left = self.delay(app_id)
        if not left:
            self._short_of_offers |= count > queued.asked
            queued.asked = count
        else:
            queued.asked = 0
            self._later(("backoff", app_id), left + 0.001, lambda: self.touch(app_id))

    def _later(self, key: tuple[str, str], delay: float, action: Callable[[], None]) -> None:
        before = self._timers.pop(key, None)
        if before is not None:
            before.cancel()

        def run() -> None:
            self._timers.pop(key, None)
            action()

        self._timers[key] = asyncio.get_running_loop().call_later(delay, run)

    # deployments

    def _announce(self, deployment: Deployment) -> None:
        """A step begins, or there is none."""
        self.store.put("deployment", deployment.id, deployment.kept())
        if deployment.current < len(deployment.steps):
            self.bus.publish("deployment_info", plan=deployment.plan(), currentStep=deployment.step())
            self._touched.update(app for _, app in deployment.steps[deployment.current])
        else:
            self._end(deployment, "deployment_success")

    def _advance(self, deployment: Deployment) -> None:
        """One action is done; the step ends when all its actions are."""
        for kind, app_id in deployment.steps[deployment.current]:
            app = self.apps.get(app_id)
            siblings = list(self.instances.get(app_id, {}).values())
            if app is not None and not decide(kind, app, siblings, deployment.doomed).done:
                return
        for kind, app_id in deployment.steps[deployment.current]:
            if kind == STOP:
                self._remove_app(app_id)
        self.bus.publish("deployment_step_success", plan=deployment.plan(), currentStep=deployment.step())
        deployment.current += 1
        self._announce(deployment)

    def _end(self, deployment: Deployment, event: str) -> None:
        self.deployments.pop(deployment.id, None)
        self.store.remove("deployment", deployment.id)
        self.bus.publish(event, id=deployment.id, plan=deployment.plan())

    def _remove_app(self, app_id: str) -> None:
        self.apps.pop(app_id, None)
        self.store.remove("app", app_id)
        for version in self.versions.pop(app_id, {}):
            self.store.remove("version", f"{app_id}@{version}")
        for table in (self.instances, self.queue, self._backoff, self.failures):
            table.pop(app_id, None)
        self.bus.publish("app_terminated_event", appId=app_id)

    def _keep_version(self, app: App) -> None:
        known = self.versions.setdefault(app.id, {})
        known[app.version] = app
        self.store.put("version", f"{app.id}@{app.version}", app.kept())
        used = {i.version for i in self.instances.get(app.id, {}).values()}
        for version in sorted(known)[:-VERSIONS_KEPT]:
            if version not in used:
                del known[version]
                self.store.remove("version", f"{app.id}@{version}")

    # offers

    def _ask_for_offers(self) -> None:
        waiting = any(not self.delay(app_id) for app_id in self.queue)
        if waiting and (self._short_of_offers or self._suppressed):
            self._suppressed = False
            self._send("REVIVE")
        elif not waiting and not self._suppressed:
            self._suppressed = True
            self._send("SUPPRESS")
        self._short_of_offers = False

    def _send(self, kind: str, **arguments: Any) -> None:
        if self.mesos.connected:
            self._outbox.append((kind, arguments))

    def _offers(self, raw: list[Json]) -> None:
        offers = [Offer.of(o) for o in raw]
        for offer in offers:
            self._agents[offer.agent_id] = offer.attributes
        for app_id in list(self.queue):
            queued = self.queue[app_id]
            if self.delay(app_id):
                continue
            app = self.apps[app_id]
            siblings = list(self.instances[app_id].values())
            placed, refused = place(app, queued.count, offers, siblings, self._agents.values())
            queued.summary.round(len(offers), refused, len(placed))
            queued.count -= len(placed)
            queued.asked = queued.count
            queued.last_unused = raw if refused else []
            for instance in placed:
                self.instances[app_id][instance.id] = instance
                self.store.put("instance", instance.id, instance.kept())
                self.launched += 1
                self._launch_timer(instance)
            if not queued.count:
                del self.queue[app_id]
        waiting = any(not self.delay(app_id) for app_id in self.queue)
        filters = {"refuse_seconds": WAITING_REFUSAL if waiting else IDLE_REFUSAL}
        declined = [{"value": o.id} for o in offers if not o.tasks]
        for offer in offers:
            if offer.tasks:
                operations = [{"type": "LAUNCH", "launch": {"task_infos": offer.tasks}}]
                accept = {"offer_ids": [{"value": offer.id}], "operations": operations, "filters": filters}
                self._send("ACCEPT", accept=accept)
        if declined:
            self._send("DECLINE", decline={"offer_ids": declined, "filters": filters})
        if not waiting and not self._suppressed:
            self._suppressed = True
            self._send("SUPPRESS")
        self._flush()

    # instances

    def _kill(self, instance: Instance) -> None:
        if not instance.killing:
            instance.killing = True
            self.store.put("instance", instance.id, instance.kept())
            self.checks.stop(instance)
            self._touched.add(instance.app_id)
        if instance.unreachable_at is not None:
            self._forget(instance)
            return
        self._order_kill(instance)

    def _order_kill(self, instance: Instance) -> None:
        """Tell Mesos, and again until it says that the task has ended: a master that has just begun does not know it yet."""
        self._send_kill(instance.id, instance.agent_id)
        self._later(("kill", instance.id), KILL_RETRY, lambda: self._kill_again(instance))

    def _kill_again(self, instance: Instance) -> None:
        if instance.id in self.instances.get(instance.app_id, {}):
            self._kill(instance)
            self._flush()

    def _launch_timer(self, instance: Instance) -> None:
        def overdue() -> None:
            if instance.started_at is None and instance.state != inst.UNREACHABLE:
                log.warning("%s has not begun to run within %g s: killed", instance.id, LAUNCH_TIMEOUT)
                self._kill(instance)
                self.settle()

        self._later(("launch", instance.id), LAUNCH_TIMEOUT, overdue)

    def _send_kill(self, task_id: str, agent_id: str | None) -> None:
        kill: Json = {"task_id": {"value": task_id}}
        if agent_id:
            kill["agent_id"] = {"value": agent_id}
        self._send("KILL", kill=kill)

    def _forget(self, instance: Instance) -> None:
        self.instances.get(instance.app_id, {}).pop(instance.id, None)
        self.store.remove("instance", instance.id)
        self.checks.stop(instance)
        for kind in ("kill", "unreachable", "lasted", "launch"):
            timer = self._timers.pop((kind, instance.id), None)
            if timer is not None:
                timer.cancel()
        self._touched.add(instance.app_id)

    def _start_checks(self, instance: Instance) -> None:
        app = self.app_at(instance)
        if app is not None:
            self.checks.start(app, instance)

    # Mesos

    def framework(self) -> Json:
        info: Json = {
            "user": self.user,
            "name": NAME,
            "roles": ["*"],
            "checkpoint": True,
            "failover_timeout": FAILOVER_TIMEOUT,
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}],
        }
        if self._framework_id:
            info["id"] = {"value": self._framework_id}
        return info

    def disconnected(self) -> None:
        log.warning("disconnected from %s", self.mesos.master)
        self._outbox.clear()

    def handle(self, event: Json) -> None:
        kind = event["type"]
        if kind == "OFFERS":
            self._offers(event["offers"]["offers"])
        elif kind == "UPDATE":
            self._update(event["update"]["status"])
        elif kind == "SUBSCRIBED":
            self._subscribed(event["subscribed"])
        elif kind == "ERROR":
            self._error(event["error"].get("message", ""))
        elif kind not in ("HEARTBEAT", "RESCIND", "FAILURE"):
            log.info("event %s is not used", kind)

    def _subscribed(self, subscribed: Json) -> None:
        before, self._framework_id = self._framework_id, subscribed["framework_id"]["value"]
        log.info("%s with %s as %s", "again" if before else "subscribed", self.mesos.master, self._framework_id)
        self.store.put("meta", "framework_id", self._framework_id)
        self._suppressed = False
        self._short_of_offers = True  # what was declined before stays declined until we ask again
        for siblings in self.instances.values():
            for instance in siblings.values():
                instance.confirmed = False
                if instance.killing:
                    self._touched.add(instance.app_id)
                    self._order_kill(instance)
        self._touched.update(self.apps)
        self._reconcile(RECONCILE_RETRY[0])
        self._send("RECONCILE", reconcile={"tasks": []})  # whatever runs that is not known here
        self.settle()

    def _reconcile(self, wait: float) -> None:
        """Ask about every instance that Mesos has not spoken of since we subscribed, until it has."""
        unsure = [i for s in self.instances.values() for i in s.values() if not i.confirmed]
        if not unsure:
            return
        tasks = [{"task_id": {"value": i.id}, "agent_id": {"value": i.agent_id}} for i in unsure]
        self._send("RECONCILE", reconcile={"tasks": tasks})
        self._later(("reconcile", ""), wait, lambda: self._reconcile_again(wait))

    def _reconcile_again(self, wait: float) -> None:
        self._reconcile(min(wait * 2, RECONCILE_RETRY[1]))
        self._flush()

    def _error(self, message: str) -> None:
        log.error("Mesos: %s", message)
        if "removed" in message or "Completed" in message or ("Framework" in message and "failover" in message):
            # our id is void, and with it every task that was ours
            self._framework_id = None
            self.store.remove("meta", "framework_id")
            for siblings in list(self.instances.values()):
                for instance in list(siblings.values()):
                    self._forget(instance)
            self.settle()

    def _update(self, status: Json) -> None:
        task_id, state = status["task_id"]["value"], status["state"]
        agent_id = status.get("agent_id", {}).get("value", "")
        if status.get("uuid"):
            acknowledge = {"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]}
            self._send("ACKNOWLEDGE", acknowledge=acknowledge)
        instance = next((s[task_id] for s in self.instances.values() if task_id in s), None)
        if instance is None:
            self._stray(task_id, agent_id, status)
            self._flush()
            return
        if state == inst.UNKNOWN and not self._gone_for_good(instance):
            self._flush()
            return
        instance.confirmed = True
        addresses = [
            address["ip_address"]
            for network in status.get("container_status", {}).get("network_infos", ())
            for address in network.get("ip_addresses", ())
            if "ip_address" in address
        ]
        instance.addresses = addresses or instance.addresses or [instance.host]
        changed = instance.state != state
        if state in inst.ENDED or state == inst.UNKNOWN:
            self._ended(instance, state, status)
        elif state == inst.UNREACHABLE:
            if changed:
                instance.state = state
                self._unreachable(instance, status)
        elif not (state == "TASK_STAGING" and instance.state != "TASK_STAGING"):  # an older word, from reconciliation
            self._lives(instance, state, status)
        if changed:
            self._publish_status(instance, state, status)
        self.settle()

    def _stray(self, task_id: str, agent_id: str, status: Json) -> None:
        """A task that is not ours any more is killed.

        If the master does not know it either (an agent that was cut off gets what was sent to it meanwhile, and starts
        it), the master answers a KILL with a reconciliation and leaves the task alone; its executor can still be
        shut down.  A command executor has its task's id.
        """
        state = status["state"]
        if state in ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"):
            log.info("%s is %s but not known here: killed", task_id, state)
            self._strays.add(task_id)
            self._send_kill(task_id, agent_id)
        elif task_id in self._strays and state != "TASK_KILLING":
            self._strays.discard(task_id)
            if status.get("reason") == "REASON_RECONCILIATION" and agent_id:
                shutdown = {"executor_id": {"value": task_id}, "agent_id": {"value": agent_id}}
                self._send("SHUTDOWN", shutdown=shutdown)

    def _gone_for_good(self, instance: Instance) -> bool:
        """A new master knows no agents at first: only after a while is a task that it does not know lost."""
        subscribed_since = self._timers.get(("reconcile", ""))
        if instance.confirmed or subscribed_since is None:
            return True
        key = ("unknown", instance.id)
        if key not in self._timers:
            self._later(key, RECONCILE_RETRY[1], lambda: self._lost(instance))
        return False

    def _lost(self, instance: Instance) -> None:
        if not instance.confirmed and instance.id in self.instances.get(instance.app_id, {}):
            instance.confirmed = True
            status = {"message": "Mesos does not know this task"}
            self._ended(instance, inst.UNKNOWN, status)
            self._publish_status(instance, inst.UNKNOWN, status)
            self.settle()

    def _publish_status(self, instance: Instance, state: str, status: Json) -> None:
        self.bus.publish(
            "status_update_event",
            slaveId=instance.agent_id,
            taskId=instance.id,
            instanceId=instance.instance_id,
            taskStatus=state,
            message=status.get("message", ""),
            reason=status.get("reason", ""),
            mesosTimestamp=status.get("timestamp"),
            appId=instance.app_id,
            host=instance.host,
            ipAddresses=[{"ipAddress": ip, "protocol": "IPv4"} for ip in instance.addresses],
            ports=instance.ports,
            version=instance.version,
        )

    def _lives(self, instance: Instance, state: str, status: Json) -> None:
        came_back = instance.unreachable_at is not None
        instance.state = state
        if came_back:
            instance.unreachable_at, instance.inactive = None, False
            timer = self._timers.pop(("unreachable", instance.id), None)
            if timer is not None:
                timer.cancel()
        if instance.running and instance.started_at is None:
            instance.started_at = stamp()
            self._later(("lasted", instance.id), 1.0, lambda: self._lasted(instance))
        if instance.running and not instance.killing:
            self._start_checks(instance)
        self.store.put("instance", instance.id, instance.kept())
        self._touched.add(instance.app_id)

    def _lasted(self, instance: Instance) -> None:
        """It has run for a while: has it outlived its app's delay?"""
        backoff = self._backoff.get(instance.app_id)
        if backoff is None or not instance.running or instance.started_at is None:
            return
        lived = time.time() - seconds(instance.started_at)
        if backoff.outlived_by(lived):
            self._backoff.pop(instance.app_id, None)
        else:
            self._later(("lasted", instance.id), max(1.0, lived), lambda: self._lasted(instance))

    def _ended(self, instance: Instance, state: str, status: Json) -> None:
        instance.state = state
        app = self.apps.get(instance.app_id)
        self._forget(instance)
        self._short_of_offers = True  # what it had is free now
        if state in inst.FAULTY and not instance.killing and app is not None:
            if instance.config == app.config_at:
                self._backoff.setdefault(app.id, Backoff()).failed(app)
            self.failures[instance.app_id] = {
                "appId": instance.app_id,
                "host": instance.host,
                "message": status.get("message", ""),
                "state": state,
                "taskId": instance.id,
                "timestamp": stamp(),
                "version": instance.version,
                "slaveId": instance.agent_id,
            }

    def _unreachable(self, instance: Instance, status: Json) -> None:
        at = status.get("unreachable_time", {}).get("nanoseconds")
        instance.unreachable_at = at / 1e9 if at else time.time()
        self.checks.stop(instance)
        self.store.put("instance", instance.id, instance.kept())
        if instance.killing:
            self._forget(instance)
        else:
            self._unreachable_timer(instance)
        self._touched.add(instance.app_id)

    def _unreachable_timer(self, instance: Instance) -> None:
        app = self.app_at(instance)
        strategy = app.spec["unreachableStrategy"] if app else None
        if not isinstance(strategy, dict) or instance.unreachable_at is None:
            return  # disabled: it stays until it comes back or ends
        away = time.time() - instance.unreachable_at
        inactive_in = strategy["inactiveAfterSeconds"] - away
        expunge_in = strategy["expungeAfterSeconds"] - away
        if expunge_in <= 0:
            self._forget(instance)
            return
        if inactive_in <= 0 and not instance.inactive:
            instance.inactive = True
            self.store.put("instance", instance.id, instance.kept())
            self._touched.add(instance.app_id)
        due = expunge_in if instance.inactive else inactive_in

        def again() -> None:
            self._unreachable_timer(instance)
            self.settle()

        self._later(("unreachable", instance.id), due + 0.001, again)

    # checks

    def health_changed(self, instance: Instance, check: Json, alive: bool) -> None:
        self.store.put("instance", instance.id, instance.kept())
        self.bus.publish(
            "health_status_changed_event",
            appId=instance.app_id,
            taskId=instance.id,
            instanceId=instance.instance_id,
            version=instance.version,
            alive=alive,
            healthCheck=check,
        )
        self.bus.publish(
            "instance_health_changed_event",
            instanceId=instance.instance_id,
            runSpecId=instance.app_id,
            runSpecVersion=instance.version,
            healthy=instance.healthy,
        )
        self.touch(instance.app_id)

    def health_failed(self, instance: Instance, check: Json, cause: str) -> None:
        self.bus.publish(
            "failed_health_check_event",
            appId=instance.app_id,
            taskId=instance.id,
            instanceId=instance.instance_id,
            healthCheck=check,
            cause=cause,
        )

    def unhealthy(self, instance: Instance, check: Json, cause: str) -> None:
        if instance.killing:
            return
        fields = {
            "appId": instance.app_id,
            "taskId": instance.id,
            "instanceId": instance.instance_id,
            "version": instance.version,
            "reason": cause,
            "host": instance.host,
            "slaveId": instance.agent_id,
        }
        self.bus.publish("unhealthy_task_kill_event", **fields)
        self.bus.publish("unhealthy_instance_kill_event", **fields)
        self._kill(instance)
        self.settle()

    def became_ready(self, instance: Instance) -> None:
        instance.ready = True
        self.store.put("instance", instance.id, instance.kept())
        self.touch(instance.app_id)
