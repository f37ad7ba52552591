"""The REST API: Marathon's paths, parameters, bodies and errors."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from . import instances as inst
from .apps import App, Invalid, app_id, merged, normalised
from .clock import stamp
from .deployments import Deployment
from .events import Bus
from .instances import Instance
from .scheduler import NAME, Locked, Scheduler
from .wire import Request, Response, as_json

log = logging.getLogger("api")
Json = dict[str, Any]
VERSION = "coebench-1"


class Failure(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.response = as_json({"message": message, **more}, status)


def _no_app(name: str) -> Failure:
    return Failure(404, f"App '{name}' does not exist")


def _accepted(deployment: Deployment) -> Response:
    body = {"version": deployment.version, "deploymentId": deployment.id}
    return as_json(body, Marathon_Deployment_Id=deployment.id)


Route = Callable[..., Response | Awaitable[Response]]


class Api:
    def __init__(self, scheduler: Scheduler, bus: Bus, address: str, user: str | None, password: str | None) -> None:
        self.scheduler, self.bus, self.address = scheduler, bus, address
        self.requests = 0
        self._credentials = None
        if user is not None:
            self._credentials = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
        name = r"(?P<name>/.*?)"
        self._routes: list[tuple[str, re.Pattern[str], Route]] = [
            (method, re.compile(pattern + "/*"), route)
            for method, pattern, route in (
                ("GET", r"/ping", self.ping),
                ("GET", r"/metrics", self.metrics),
                ("GET", r"/v2/info", self.info),
                ("GET", r"/v2/leader", self.leader),
                ("GET", r"/v2/events", self.events),
                ("GET", r"/v2/apps", self.list_apps),
                ("POST", r"/v2/apps", self.create_app),
                ("PUT", r"/v2/apps", self.update_apps),
                ("PATCH", r"/v2/apps", self.update_apps),
                ("GET", rf"/v2/apps{name}/versions", self.list_versions),
                ("GET", rf"/v2/apps{name}/versions/(?P<version>[^/]+)", self.show_version),
                ("POST", rf"/v2/apps{name}/restart", self.restart_app),
                ("GET", rf"/v2/apps{name}/tasks", self.app_tasks),
                ("DELETE", rf"/v2/apps{name}/tasks", self.kill_app_tasks),
                ("GET", rf"/v2/apps{name}/tasks/(?P<task>[^/]+)", self.app_task),
                ("DELETE", rf"/v2/apps{name}/tasks/(?P<task>[^/]+)", self.kill_app_task),
                ("GET", rf"/v2/apps{name}", self.show_app),
                ("PUT", rf"/v2/apps{name}", self.update_app),
                ("PATCH", rf"/v2/apps{name}", self.update_app),
                ("DELETE", rf"/v2/apps{name}", self.delete_app),
                ("GET", r"/v2/tasks", self.list_tasks),
                ("POST", r"/v2/tasks/delete", self.kill_tasks),
                ("GET", r"/v2/deployments", self.list_deployments),
                ("DELETE", r"/v2/deployments/(?P<deployment>[^/]+)", self.delete_deployment),
                ("GET", r"/v2/queue", self.list_queue),
                ("DELETE", rf"/v2/queue{name}/delay", self.reset_delay),
                ("GET", r"/v2/groups", self.show_group),
                ("GET", rf"/v2/groups{name}", self.show_group),
            )
        ]

    async def handle(self, request: Request) -> Response:
        self.requests += 1
        if self._credentials is not None and request.path != "/ping":
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "basic" or not hmac.compare_digest(given.strip().encode(), self._credentials.encode()):
                denied = as_json({"message": "Invalid username or password."}, 401)
                denied.headers["WWW-Authenticate"] = 'Basic realm="Mesosphere"'
                return denied
        try:
            response = self._route(request)
            return response if isinstance(response, Response) else await response
        except Failure as failure:
            return failure.response
        except Invalid as error:
            return as_json({"message": "Object is not valid", "details": error.details}, 422)
        except Locked as error:
            message = (
                "App is locked by one or more deployments. Override with the option '?force=true'. "
                "View details at '/v2/deployments/<DEPLOYMENT_ID>'."
            )
            return as_json({"message": message, "deployments": [{"id": i} for i in error.deployments]}, 409)
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            return as_json({"message": f"{type(error).__name__}: {error}"}, 500)

    def _route(self, request: Request) -> Response | Awaitable[Response]:
        methods = set()
        wanted = "GET" if request.method == "HEAD" else request.method
        for method, pattern, route in self._routes:
            if match := pattern.fullmatch(request.path):
                if method == wanted:
                    return route(request, **match.groupdict())
                methods.add(method)
        if methods:
            raise Failure(405, f"{request.method} is not allowed here, only {', '.join(sorted(methods))}")
        raise Failure(404, f"There is nothing at {request.path}")

    # the scheduler itself

    def ping(self, request: Request) -> Response:
        return Response(200, b"pong", "text/plain")

    def info(self, request: Request) -> Response:
        host, _, port = self.address.rpartition(":")
        scheduler = self.scheduler
        return as_json(
            {
                "name": NAME,
                "version": VERSION,
                "buildref": "not Marathon: coebench's own scheduler with Marathon's API",
                "elected": True,
                "leader": self.address,
                "frameworkId": scheduler.framework_id,
                "marathon_config": {
                    "checkpoint": True,
                    "failover_timeout": 604800,
                    "features": [],
                    "framework_name": NAME,
                    "ha": False,
                    "hostname": host,
                    "master": scheduler.mesos.master,
                    "mesos_role": "*",
                    "mesos_user": scheduler.user,
                },
                "zookeeper_config": {},
                "http_config": {"http_port": int(port), "https_port": None},
                "event_subscriber": None,
            }
        )

    def leader(self, request: Request) -> Response:
        return as_json({"leader": self.address})

    def metrics(self, request: Request) -> Response:
        scheduler = self.scheduler
        instances = [i for siblings in scheduler.instances.values() for i in siblings.values()]
        gauges = {
            "apps.active.gauge": len(scheduler.apps),
            "deployments.active.gauge": len(scheduler.deployments),
            "instances.running.gauge": sum(i.running for i in instances),
            "instances.staged.gauge": sum(i.state in ("TASK_STAGING", "TASK_STARTING") for i in instances),
            "launch-queue.size.gauge": sum(q.count for q in scheduler.queue.values()),
            "mesos.connected.gauge": int(scheduler.mesos.connected),
        }
        counters = {
            "http.requests.counter": self.requests,
            "events.published.counter": self.bus.published,
            "tasks.launched.counter": scheduler.launched,
        }
        return as_json(
            {
                "version": "4.0.0",
                "gauges": {k: {"value": v} for k, v in gauges.items()},
                "counters": {k: {"count": v} for k, v in counters.items()},
                "histograms": {},
                "meters": {},
                "timers": {},
            }
        )

    def events(self, request: Request) -> Response:
        stream = self.bus.listen(request.values("event_type"), request.client)
        return Response(200, kind="text/event-stream", stream=stream)

    # apps

    def _app(self, name: str) -> App:
        app = self.scheduler.apps.get(app_id(name))
        if app is None:
            raise _no_app(app_id(name))
        return app

    def _instances(self, name: str) -> list[Instance]:
        return list(self.scheduler.instances.get(name, {}).values())

    def _service_ports(self, app: App) -> list[int]:
        return [int(p.get("servicePort") or p.get("port") or 0) for p in app.ports]

    def _tasks(self, app: App) -> list[Json]:
        ports = self._service_ports(app)
        return [instance.shown(ports) for instance in self._instances(app.id)]

    def _shown(self, app: App, embed: set[str]) -> Json:
        instances = self._instances(app.id)
        shown = {**app.shown(), **inst.counts(instances)}
        shown["deployments"] = [{"id": d.id} for d in self.scheduler.locks(app.id)]
        if "tasks" in embed:
            shown["tasks"] = self._tasks(app)
        if embed & {"readiness", "tasks"} and app.spec["readinessChecks"]:
            shown["readinessCheckResults"] = self._readiness(app, instances)
        if embed & {"lastTaskFailure", "failures", "tasks"} and app.id in self.scheduler.failures:
            shown["lastTaskFailure"] = self.scheduler.failures[app.id]
        if "taskStats" in embed:
            sets = {
                "startedAfterLastScaling": [i for i in instances if i.version >= app.scaling_at],
                "withLatestConfig": [i for i in instances if i.config == app.config_at],
                "withOutdatedConfig": [i for i in instances if i.config != app.config_at],
                "totalSummary": instances,
            }
            shown["taskStats"] = {name: inst.statistics(found) for name, found in sets.items() if found}
        return shown

    @staticmethod
    def _readiness(app: App, instances: list[Instance]) -> list[Json]:
        results = []
        for instance in instances:
            if instance.running:
                result: Json = {"name": app.spec["readinessChecks"][0]["name"], "taskId": instance.id}
                result["ready"] = instance.ready
                if instance.readiness_response:
                    result["lastResponse"] = instance.readiness_response
                results.append(result)
        return results

    @staticmethod
    def _embed(request: Request) -> set[str]:
        return {value.partition(".")[2] for value in request.values("embed") if value.startswith(("app.", "apps."))}

    def list_apps(self, request: Request) -> Response:
        apps = list(self.scheduler.apps.values())
        for text in request.query.get("cmd", ()):
            apps = [a for a in apps if text in a.spec.get("cmd", "")]
        for text in request.query.get("id", ()):
            apps = [a for a in apps if text in a.id]
        for selectors in request.query.get("label", ()):
            apps = [a for a in apps if _selected(a.spec["labels"], selectors)]
        embed = self._embed(request)
        return as_json({"apps": [self._shown(app, embed) for app in apps]})

    def show_app(self, request: Request, name: str) -> Response:
        embed = self._embed(request)
        if name.endswith("/*"):
            prefix = app_id(name[:-2]).rstrip("/") + "/"
            apps = [a for a in self.scheduler.apps.values() if a.id.startswith(prefix)]
            return as_json({"*": [self._shown(app, embed) for app in apps]})
        return as_json({"app": self._shown(self._app(name), embed | {"tasks"})})

    def create_app(self, request: Request) -> Response:
        given = self._json(request)
        app = self._made(given, None)
        if app.id in self.scheduler.apps:
            raise Failure(409, f"An app with id [{app.id}] already exists.")
        deployment = self.scheduler.change({app.id: app}, request.flag("force"))
        self._posted(request, app)
        shown = {**self._shown(app, {"tasks"}), "deployments": [{"id": deployment.id}]}
        return as_json(shown, 201, Marathon_Deployment_Id=deployment.id, Location=f"/v2/apps{app.id}")

    def update_app(self, request: Request, name: str) -> Response:
        name = app_id(name)
        given = self._json(request)
        if not isinstance(given, dict):
            raise Failure(400, "Invalid JSON", details=[{"path": "", "errors": ["error.expected.jsobject"]}])
        if "id" in given and app_id(str(given["id"])) != name:
            raise Failure(422, "Object is not valid", details=[{"path": "/id", "errors": ["must be the app's own"]}])
        old = self.scheduler.apps.get(name)
        if set(given) - {"id"} == {"version"}:
            given = self._version(name, str(given["version"])).spec
            partial = False
        else:
            partial = request.method == "PATCH" or request.flag("partialUpdate", True)
        if old is None and request.method == "PATCH":
            raise _no_app(name)
        app = self._made({**given, "id": name}, old, partial)
        deployment = self.scheduler.change({name: app}, request.flag("force"))
        self._posted(request, app)
        response = _accepted(deployment)
        response.status = 200 if old else 201
        return response

    def update_apps(self, request: Request) -> Response:
        given = self._json(request)
        if not isinstance(given, list):
            raise Failure(400, "Invalid JSON", details=[{"path": "", "errors": ["error.expected.jsarray"]}])
        partial = request.method == "PATCH" or request.flag("partialUpdate", True)
        target: dict[str, App | None] = {}
        for index, item in enumerate(given):
            if not isinstance(item, dict):
                raise Invalid([{"path": f"({index})", "errors": ["error.expected.jsobject"]}])
            name = app_id(str(item.get("id", "")))
            target[name] = self._made({**item, "id": name}, self.scheduler.apps.get(name), partial)
        deployment = self.scheduler.change(target, request.flag("force"))
        for app in target.values():
            if app is not None:
                self._posted(request, app)
        return _accepted(deployment)

    def delete_app(self, request: Request, name: str) -> Response:
        app = self._app(name)
        return _accepted(self.scheduler.change({app.id: None}, request.flag("force")))

    def restart_app(self, request: Request, name: str) -> Response:
        app = self._app(name)
        version = self.scheduler.next_version(app.id)
        again = App(app.spec, version, version, version)
        return _accepted(self.scheduler.change({app.id: again}, request.flag("force"), restart=[app.id]))

    def _made(self, given: Any, old: App | None, partial: bool = True) -> App:
        """A new version of an app out of what was sent."""
        others = [app for app in self.scheduler.apps.values() if old is None or app.id != old.id]
        taken = {port for app in others for port in self._service_ports(app)}
        if old is not None and partial:
            given = merged(old.spec, {k: v for k, v in given.items() if v is not None})
        spec = normalised(given, taken)
        version = self.scheduler.next_version(spec["id"])
        app = App(spec, version, version, version)
        if old is not None and not app.differs_in_config(old):
            app.config_at = old.config_at
        return app

    @staticmethod
    def _json(request: Request) -> Any:
        try:
            return json.loads(request.body)
        except ValueError as error:
            raise Failure(400, "Invalid JSON", details=[{"path": "", "errors": [str(error)]}]) from None

    def _posted(self, request: Request, app: App) -> None:
        definition = {**app.spec, "version": app.version}
        self.bus.publish("api_post_event", clientIp=request.client, uri=request.path, appDefinition=definition)

    # versions

    def _version(self, name: str, version: str) -> App:
        found = self.scheduler.versions.get(name, {}).get(version)
        if found is None:
            raise Failure(404, f"App '{name}' does not exist in version '{version}'")
        return found

    def list_versions(self, request: Request, name: str) -> Response:
        app = self._app(name)
        return as_json({"versions": sorted(self.scheduler.versions.get(app.id, {}), reverse=True)})

    def show_version(self, request: Request, name: str, version: str) -> Response:
        return as_json(self._version(self._app(name).id, version).shown())

    # tasks

    def list_tasks(self, request: Request) -> Response:
        status = set(request.values("status") + request.values("status[]"))
        tasks = [task for app in self.scheduler.apps.values() for task in self._tasks(app)]
        if status:
            words = {"running": ("TASK_RUNNING",), "staging": ("TASK_STAGING", "TASK_STARTING")}
            wanted = {state for word in status for state in words.get(word.lower(), (word,))}
            tasks = [task for task in tasks if task["state"] in wanted]
        return self._as_tasks(request, tasks)

    def app_tasks(self, request: Request, name: str) -> Response:
        if name.endswith("/*"):
            prefix = app_id(name[:-2]).rstrip("/") + "/"
            apps = [a for a in self.scheduler.apps.values() if a.id.startswith(prefix)]
        else:
            apps = [self._app(name)]
        return self._as_tasks(request, [task for app in apps for task in self._tasks(app)])

    def app_task(self, request: Request, name: str, task: str) -> Response:
        found = [t for t in self._tasks(self._app(name)) if t["id"] == task]
        if not found:
            raise Failure(404, f"Task '{task}' does not exist")
        return as_json({"task": found[0]})

    @staticmethod
    def _as_tasks(request: Request, tasks: list[Json]) -> Response:
        if request.headers.get("accept", "").startswith("text/plain"):
            lines: dict[tuple[str, int], list[str]] = {}
            for task in tasks:
                for service, port in zip(task["servicePorts"], task["ports"], strict=False):
                    lines.setdefault((task["appId"].strip("/"), service), []).append(f"{task['host']}:{port}")
            text = "".join(f"{name}\t{port}\t" + "\t".join(found) + "\n" for (name, port), found in lines.items())
            return Response(200, text.encode(), "text/plain")
        return as_json({"tasks": tasks})

    def kill_app_tasks(self, request: Request, name: str) -> Response:
        app = self._app(name)
        hosts = request.values("host")
        victims = [i for i in self._instances(app.id) if not hosts or i.host in hosts]
        return self._kill(request, victims, many=True)

    def kill_app_task(self, request: Request, name: str, task: str) -> Response:
        app = self._app(name)
        victims = [i for i in self._instances(app.id) if task in (i.id, i.instance_id)]
        if not victims:
            raise Failure(404, f"Task '{task}' does not exist")
        return self._kill(request, victims, many=False)

    def kill_tasks(self, request: Request) -> Response:
        given = self._json(request)
        ids = given.get("ids") if isinstance(given, dict) else None
        if not isinstance(ids, list):
            raise Failure(400, "Invalid JSON", details=[{"path": "/ids", "errors": ["error.path.missing"]}])
        every = [i for siblings in self.scheduler.instances.values() for i in siblings.values()]
        return self._kill(request, [i for i in every if i.id in ids or i.instance_id in ids], many=True)

    def _kill(self, request: Request, victims: list[Instance], many: bool) -> Response:
        scale, wipe = request.flag("scale"), request.flag("wipe")
        if scale and wipe:
            raise Failure(400, "You cannot use scale and wipe at the same time.")
        if scale:
            target: dict[str, App | None] = {}
            for name in {i.app_id for i in victims}:
                app = self.scheduler.apps[name]
                gone = sum(i.app_id == name and i.active for i in victims)
                version = self.scheduler.next_version(name)
                spec = {**app.spec, "instances": max(0, app.instances - gone)}
                target[name] = App(spec, version, app.config_at, version)
            doomed = [i.id for i in victims]
            return _accepted(self.scheduler.change(target, request.flag("force"), doomed=doomed))
        apps = self.scheduler.apps
        shown = [i.shown(self._service_ports(apps[i.app_id])) for i in victims if i.app_id in apps]
        self.scheduler.kill(victims, wipe)
        return as_json({"tasks": shown} if many else {"task": shown[0]})

    # deployments

    def list_deployments(self, request: Request) -> Response:
        found = []
        for deployment in self.scheduler.deployments.values():
            shown = deployment.shown()
            for action in shown["currentActions"]:
                app = self.scheduler.apps.get(action["app"])
                if app is not None and app.spec["readinessChecks"]:
                    action["readinessCheckResults"] = self._readiness(app, self._instances(app.id))
            found.append(shown)
        return as_json(found)

    def delete_deployment(self, request: Request, deployment: str) -> Response:
        found = self.scheduler.deployments.get(deployment)
        if found is None:
            raise Failure(404, f"DeploymentPlan {deployment} does not exist")
        back = self.scheduler.cancel(found, request.flag("force"))
        return _accepted(back) if back else Response(202)

    # queue

    def list_queue(self, request: Request) -> Response:
        embed = request.values("embed")
        entries = []
        for name, queued in self.scheduler.queue.items():
            app = self.scheduler.apps[name]
            left = self.scheduler.delay(name)
            entry: Json = {
                "app": app.shown(),
                "count": queued.count,
                "delay": {"overdue": left == 0, "timeLeftSeconds": int(left + 0.999)},
                "since": queued.since,
                "processedOffersSummary": queued.summary.shown(),
            }
            if "lastUnusedOffers" in embed:
                entry["lastUnusedOffers"] = [_offer(raw) for raw in queued.last_unused]
            entries.append(entry)
        return as_json({"queue": entries})

    def reset_delay(self, request: Request, name: str) -> Response:
        name = app_id(name)
        if name not in self.scheduler.queue:
            raise Failure(404, f"Application {name} not found in tasks queue.")
        self.scheduler.reset_delay(name)
        return Response(204)

    # groups

    def show_group(self, request: Request, name: str = "/") -> Response:
        path = app_id(name)
        prefix = path.rstrip("/") + "/"
        apps = [a for a in self.scheduler.apps.values() if a.id.startswith(prefix)]
        if not apps and path != "/":
            raise Failure(404, f"Group '{path}' does not exist")
        return as_json(self._group(path, apps))

    def _group(self, path: str, apps: list[App]) -> Json:
        prefix = path.rstrip("/") + "/"
        deeper: dict[str, list[App]] = {}
        own = []
        for app in apps:
            first, _, rest = app.id[len(prefix) :].partition("/")
            if rest:
                deeper.setdefault(prefix + first, []).append(app)
            else:
                own.append(self._shown(app, set()))
        return {
            "id": path,
            "version": max((a.version for a in apps), default=stamp(0)),
            "apps": own,
            "groups": [self._group(child, found) for child, found in sorted(deeper.items())],
            "pods": [],
            "dependencies": [],
        }


def _selected(labels: Json, selectors: str) -> bool:
    """A label selector: ``key``, ``key==value``, ``key!=value``, several joined by commas."""
    for selector in selectors.split(","):
        if "!=" in selector:
            key, value = selector.split("!=", 1)
            fits = labels.get(key.strip()) != value.strip()
        elif "==" in selector:
            key, value = selector.split("==", 1)
            fits = labels.get(key.strip()) == value.strip()
        else:
            fits = selector.strip() in labels
        if not fits:
            return False
    return True


def _offer(raw: Json) -> Json:
    resources = [{"name": r["name"], "scalar": r["scalar"]["value"]} for r in raw["resources"] if r["type"] == "SCALAR"]
    offer = {"id": raw["id"]["value"], "hostname": raw["hostname"], "agentId": raw["agent_id"]["value"]}
    return {"offer": {**offer, "resources": resources, "attributes": []}, "reason": [], "timestamp": stamp()}
