"""Apps: what a user may ask for, and what it means when left out.

An app is kept as the JSON that the API shows, made complete by ``normalised``; ``App`` gives names to its parts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .constraints import OPERATORS

Json = dict[str, Any]

ID = re.compile(r"^(([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])$")
SERVICE_PORTS = range(10_000, 20_000)

DEFAULTS: Json = {
    "acceptedResourceRoles": ["*"],
    "backoffFactor": 1.15,
    "backoffSeconds": 1,
    "constraints": [],
    "cpus": 1,
    "dependencies": [],
    "disk": 0,
    "env": {},
    "executor": "",
    "fetch": [],
    "gpus": 0,
    "healthChecks": [],
    "instances": 1,
    "killSelection": "YOUNGEST_FIRST",
    "labels": {},
    "maxLaunchDelaySeconds": 300,
    "mem": 128,
    "networks": [{"mode": "host"}],
    "readinessChecks": [],
    "requirePorts": False,
    "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
    "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
}
OPTIONAL = {"id", "args", "cmd", "container", "portDefinitions", "taskKillGracePeriodSeconds", "user", "role"}
HEALTH_CHECK: Json = {
    "protocol": "HTTP",
    "path": "/",
    "gracePeriodSeconds": 300,
    "intervalSeconds": 60,
    "timeoutSeconds": 20,
    "maxConsecutiveFailures": 3,
    "delaySeconds": 15,
    "ignoreHttp1xx": False,
    "ipProtocol": "IPv4",
}
READINESS_CHECK: Json = {
    "name": "readinessCheck",
    "protocol": "HTTP",
    "path": "/",
    "portName": "http-api",
    "intervalSeconds": 30,
    "timeoutSeconds": 10,
    "httpStatusCodesForReady": [200],
    "preserveLastResponse": False,
}
# what an answer of ours holds and a request may repeat, and the older names of things
READ_ONLY = {
    "deployments",
    "lastTaskFailure",
    "readinessCheckResults",
    "tasks",
    "tasksHealthy",
    "tasksRunning",
    "tasksStaged",
    "tasksUnhealthy",
    "taskStats",
    "version",
    "versionInfo",
}
NOT_HERE = {
    "secrets": "secrets are not supported",
    "residency": "persistent volumes are not supported",
    "ipAddress": "an address for each container is not supported: the network is the host's",
    "storeUrls": "nothing can be fetched: this Mesos has no fetcher",
}


class Invalid(Exception):
    """An app that cannot be accepted; ``details`` as the API gives them: [{path, errors}]."""

    def __init__(self, details: list[Json]) -> None:
        super().__init__("; ".join(f"{d['path']}: {', '.join(d['errors'])}" for d in details))
        self.details = details


@dataclass
class App:
    spec: Json
    version: str
    config_at: str
    """The version in which anything but the number of instances was changed last: other tasks are outdated."""
    scaling_at: str = field(default="")

    @property
    def id(self) -> str:
        return str(self.spec["id"])

    @property
    def instances(self) -> int:
        return int(self.spec["instances"])

    @property
    def ports(self) -> list[Json]:
        """Port definitions or mappings, whichever the app has."""
        return list((self.spec.get("container") or {}).get("portMappings") or self.spec.get("portDefinitions") or [])

    @property
    def image(self) -> str | None:
        return ((self.spec.get("container") or {}).get("docker") or {}).get("image")

    def port_of(self, check: Json, ports: list[int]) -> int | None:
        """Which of an instance's ports a health or readiness check is for."""
        if "port" in check:
            return int(check["port"])
        if "portName" in check:
            for definition, port in zip(self.ports, ports, strict=False):
                if definition.get("name") == check["portName"]:
                    return port
            return ports[0] if ports else None
        index = int(check.get("portIndex", 0))
        return ports[index] if index < len(ports) else None

    def shown(self) -> Json:
        """As the API shows it, without what belongs to its instances."""
        version_info = {"lastScalingAt": self.scaling_at, "lastConfigChangeAt": self.config_at}
        shown = {**self.spec, "version": self.version, "versionInfo": version_info}
        if not (self.spec.get("container") or {}).get("portMappings"):
            shown["ports"] = [p["port"] for p in self.spec.get("portDefinitions") or []]
        return shown

    def kept(self) -> Json:
        return {"spec": self.spec, "version": self.version, "config_at": self.config_at, "scaling_at": self.scaling_at}

    def differs_in_config(self, other: App) -> bool:
        """Whether instances of ``other`` would have to be replaced by this one's."""
        mine, its = ({k: v for k, v in app.spec.items() if k != "instances"} for app in (self, other))
        return mine != its


def app_id(text: str) -> str:
    return "/" + "/".join(part for part in text.split("/") if part)


def merged(old: Json, change: Json) -> Json:
    """A partial update: what is named is replaced whole; cmd and args, ports and mappings exclude each other."""
    new = {**old, **change}
    if "cmd" in change:
        new.pop("args", None) if "args" not in change else None
    elif "args" in change:
        new.pop("cmd", None)
    if "ports" in change and "portDefinitions" not in change:
        if change["ports"] == [p["port"] for p in old.get("portDefinitions") or []]:
            del new["ports"]  # as they are: keep their names
        else:
            new.pop("portDefinitions", None)
    return new


def normalised(given: Json, service_ports: Iterable[int] = ()) -> Json:
    """The complete app for what was given.  ``service_ports`` are taken by other apps.  Raises Invalid."""
    check = _Check()
    if not isinstance(given, dict):
        raise Invalid([{"path": "/", "errors": ["error.expected.jsobject"]}])
    spec = {k: v for k, v in given.items() if v is not None and k not in READ_ONLY}
    for name, reason in NOT_HERE.items():
        if spec.pop(name, None):
            check.wrong(name, reason)
    if spec.pop("uris", None) or spec.get("fetch"):
        check.wrong("fetch", "nothing can be fetched: this Mesos has no fetcher")
    spec.pop("taskRateLimit", None)

    ports = spec.pop("ports", None)
    if ports is not None and "portDefinitions" not in spec:
        fine = isinstance(ports, list) and all(_is_int(p) for p in ports)
        if check.that(fine, "ports", "must be numbers"):
            spec["portDefinitions"] = [{"port": p, "protocol": "tcp", "labels": {}} for p in ports]
    for name in spec.keys() - DEFAULTS.keys() - OPTIONAL:
        check.wrong(name, "is not known here")
        del spec[name]
    spec = {**DEFAULTS, **spec}
    for name, kind in KINDS.items():
        if name in spec:
            check.kind(spec[name], kind, name)
    for name, kind in (("healthChecks", dict), ("readinessChecks", dict), ("dependencies", str)):
        for index, one in enumerate(spec[name] if isinstance(spec[name], list) else ()):
            check.kind(one, kind, f"{name}({index})")
    check.done()

    _id(spec, check)
    _resources(spec, check)
    _container(spec, check)
    _ports(spec, check, set(service_ports))
    _command(spec, check)
    _checks(spec, check)
    _placement(spec, check)
    _strategies(spec, check)
    for name in ("env", "labels"):
        if check.that(isinstance(spec[name], dict), name, "must be an object"):
            for key, value in spec[name].items():
                check.that(isinstance(value, str), f"{name}({key})", "must be a string")
    check.done()
    return dict(sorted(spec.items()))


# of what is taken apart below
KINDS: dict[str, type] = {
    "constraints": list,
    "container": dict,
    "dependencies": list,
    "env": dict,
    "healthChecks": list,
    "labels": dict,
    "networks": list,
    "readinessChecks": list,
    "requirePorts": bool,
    "upgradeStrategy": dict,
    "user": str,
}
WORDS: dict[type, str] = {
    bool: "must be true or false",
    dict: "must be an object",
    list: "must be a list",
    str: "must be a string",
}


class _Check:
    def __init__(self) -> None:
        self._errors: dict[str, list[str]] = {}

    def wrong(self, path: str, reason: str) -> None:
        self._errors.setdefault("/" + path, []).append(reason)

    def that(self, condition: bool, path: str, reason: str) -> bool:
        if not condition:
            self.wrong(path, reason)
        return condition

    def kind(self, value: Any, kind: type, path: str) -> bool:
        return self.that(isinstance(value, kind), path, WORDS[kind])

    def number(self, spec: Json, name: str, least: float, most: float | None = None, path: str = "") -> None:
        value = spec.get(name)
        where = path + name
        if self.that(_is_number(value), where, "must be a number"):
            assert value is not None
            self.that(value >= least, where, f"must be greater than or equal to {least:g}")
            self.that(most is None or value <= most, where, f"must be less than or equal to {most}")

    def done(self) -> None:
        if self._errors:
            raise Invalid([{"path": path, "errors": errors} for path, errors in self._errors.items()])


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _id(spec: Json, check: _Check) -> None:
    if not check.that(isinstance(spec.get("id"), str), "id", "error.path.missing"):
        return
    spec["id"] = app_id(spec["id"])
    parts = spec["id"].strip("/").split("/")
    fine = all(ID.match(part) for part in parts)
    check.that(fine, "id", "must fully match regular expression '" + ID.pattern + "' in each of its parts")


def _resources(spec: Json, check: _Check) -> None:
    for name in ("cpus", "mem", "disk"):
        check.number(spec, name, 0)
    if _is_number(spec["gpus"]):
        check.that(spec["gpus"] == 0, "gpus", "are not supported")
    check.that(_is_int(spec["instances"]) and spec["instances"] >= 0, "instances", "must be a whole number, 0 or more")
    check.that(spec["acceptedResourceRoles"] == ["*"], "acceptedResourceRoles", 'only ["*"] is supported')
    check.that(spec.get("role", "*") == "*", "role", 'only "*" is supported')


def _container(spec: Json, check: _Check) -> None:
    container = spec.get("container")
    if container is None:
        return
    container = {k: v for k, v in container.items() if v not in (None, [], {})}
    for name, kind in (("docker", dict), ("volumes", list)):
        if name in container and not check.kind(container[name], kind, f"container/{name}"):
            del container[name]
    docker = {k: v for k, v in (container.get("docker") or {}).items() if v not in (None, [], {}, False)}
    mappings = docker.pop("portMappings", None)
    if mappings and "portMappings" not in container:
        container["portMappings"] = mappings
    network = docker.pop("network", "HOST")
    check.that(network == "HOST", "container/docker/network", "only HOST is supported")
    kind = container.setdefault("type", "MESOS")
    check.that(kind == "MESOS", "container/type", "only MESOS is supported: the agents have no Docker daemon")
    for name in docker.keys() - {"image", "forcePullImage"}:
        check.wrong(f"container/docker/{name}", "is not supported by the Mesos containerizer")
    if docker:
        check.that(isinstance(docker.get("image"), str), "container/docker/image", "must not be empty")
        container["docker"] = docker
    volumes = container.get("volumes", [])
    for index, volume in enumerate(volumes):
        fine = isinstance(volume, dict) and volume.get("containerPath") and volume.get("hostPath")
        check.that(bool(fine), f"container/volumes({index})", "must have containerPath and hostPath: others are not known")
    container["volumes"] = [{k: v for k, v in v.items() if v is not None} for v in volumes if isinstance(v, dict)]
    spec["container"] = container


def _ports(spec: Json, check: _Check, taken: set[int]) -> None:
    networks = spec["networks"]
    fine = networks in ([], [{"mode": "host"}])
    check.that(fine, "networks", 'only [{"mode": "host"}] is supported: instances use the network of their host')
    spec["networks"] = [{"mode": "host"}]
    container = spec.get("container") or {}
    if "portMappings" in container:
        spec.pop("portDefinitions", None)
        lists, path, own, service = container["portMappings"], "container/portMappings", "hostPort", "servicePort"
    else:
        definitions = spec.get("portDefinitions")
        if definitions is None:
            definitions = [{"port": 0, "name": "default"}]
        lists, path, own, service = definitions, "portDefinitions", "port", "port"
    if not check.that(isinstance(lists, list) and all(isinstance(p, dict) for p in lists), path, "must be objects"):
        lists = []
    complete: list[Json] = []
    names: set[str] = set()
    for index, port in enumerate(lists):
        port = {k: v for k, v in port.items() if v is not None}
        port.setdefault("protocol", "tcp")
        port.setdefault("labels", {})
        for name in {own, service, "containerPort"} & port.keys() | {own}:
            value = port.setdefault(name, 0)
            if not check.that(_is_int(value) and 0 <= value <= 65535, f"{path}({index})/{name}", "must be a port number"):
                port[name] = 0
        if port.get(service, 0) == 0:
            port[service] = _service_port(taken)
        taken.add(port[service])
        label = port.get("name")
        if label is not None and check.kind(label, str, f"{path}({index})/name"):
            check.that(label not in names, f"{path}({index})/name", "must be unique")
            names.add(label)
        complete.append(port)
    if path == "portDefinitions":
        spec["portDefinitions"] = complete
    else:
        container["portMappings"] = complete


def _service_port(taken: set[int]) -> int:
    free = [port for port in SERVICE_PORTS if port not in taken]
    return random.choice(free) if free else 0


def _command(spec: Json, check: _Check) -> None:
    cmd, args = spec.get("cmd"), spec.get("args")
    image = ((spec.get("container") or {}).get("docker") or {}).get("image")
    check.that(cmd is None or (isinstance(cmd, str) and bool(cmd.strip())), "cmd", "must not be empty")
    fine = args is None or (isinstance(args, list) and all(isinstance(a, str) for a in args))
    check.that(fine, "args", "must be strings")
    if cmd is not None and args:
        check.wrong("", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
    if cmd is None and not args and not image:
        check.wrong("", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
    if args is not None and not args:
        del spec["args"]
    check.that(not spec["executor"], "executor", "only the command executor is supported")
    grace = spec.get("taskKillGracePeriodSeconds")
    check.that(grace is None or (_is_number(grace) and grace >= 0), "taskKillGracePeriodSeconds", "must be 0 or more")


def _checks(spec: Json, check: _Check) -> None:
    count = len((spec.get("container") or {}).get("portMappings") or spec.get("portDefinitions") or [])
    complete = []
    for index, given in enumerate(spec["healthChecks"]):
        path = f"healthChecks({index})/"
        health = {**HEALTH_CHECK, **{k: v for k, v in given.items() if v is not None}}
        kind = health["protocol"]
        check.that(
            kind in ("HTTP", "MESOS_HTTP"),
            path + "protocol",
            f"{kind} is not supported: only HTTP and MESOS_HTTP, both done by the scheduler",
        )
        if "port" not in health:
            number = health.setdefault("portIndex", 0)
            check.that(_is_int(number) and 0 <= number < count, path + "portIndex", "must be the index of a port")
        for name, least in (("intervalSeconds", 0), ("timeoutSeconds", 0), ("gracePeriodSeconds", 0)):
            check.number(health, name, least, path=path)
        check.number(health, "maxConsecutiveFailures", 0, path=path)
        check.that(str(health["path"]).startswith("/"), path + "path", "must begin with /")
        complete.append(health)
    spec["healthChecks"] = complete
    complete = []
    for index, given in enumerate(spec["readinessChecks"]):
        path = f"readinessChecks({index})/"
        ready = {**READINESS_CHECK, **{k: v for k, v in given.items() if v is not None}}
        check.that(ready["protocol"] == "HTTP", path + "protocol", "only HTTP is supported")
        for name in ("intervalSeconds", "timeoutSeconds"):
            check.number(ready, name, 0, path=path)
        check.that(count > 0, path + "portName", "the app has no ports")
        complete.append(ready)
    check.that(len(complete) <= 1, "readinessChecks", "at most one is supported")
    spec["readinessChecks"] = complete


def _placement(spec: Json, check: _Check) -> None:
    complete = []
    for index, constraint in enumerate(spec["constraints"]):
        path = f"constraints({index})"
        fine = isinstance(constraint, list) and len(constraint) in (2, 3)
        if not check.that(fine, path, "must be [field, operator] or [field, operator, value]"):
            continue
        name, operator, value = (*constraint, None)[:3]
        operator = str(operator).upper()
        if not check.that(operator in OPERATORS, path, f"operator must be one of {', '.join(OPERATORS)}"):
            continue
        if operator in ("LIKE", "UNLIKE"):
            try:
                re.compile(str(value or ""))
            except re.error:
                check.wrong(path, "is not a valid regular expression")
            check.that(bool(value), path, f"{operator} needs a value")
        if (operator == "GROUP_BY" and value is not None) or operator == "MAX_PER":
            check.that(str(value).isdigit(), path, "the value must be a whole number")
        if operator == "UNIQUE":
            check.that(value is None, path, "UNIQUE takes no value")
        complete.append([name, operator] if value is None else [name, operator, str(value)])
    spec["constraints"] = complete


def _strategies(spec: Json, check: _Check) -> None:
    check.number(spec, "backoffSeconds", 0)
    check.number(spec, "backoffFactor", 1)
    check.number(spec, "maxLaunchDelaySeconds", 0)
    selection = spec["killSelection"]
    fine = selection in ("YOUNGEST_FIRST", "OLDEST_FIRST")
    check.that(fine, "killSelection", "must be YOUNGEST_FIRST or OLDEST_FIRST")
    upgrade = {**DEFAULTS["upgradeStrategy"], **{k: v for k, v in spec["upgradeStrategy"].items() if v is not None}}
    for name in ("minimumHealthCapacity", "maximumOverCapacity"):
        check.number(upgrade, name, 0, 1, path="upgradeStrategy/")
    spec["upgradeStrategy"] = upgrade
    strategy = spec["unreachableStrategy"]
    if strategy == "disabled":
        return
    if check.that(isinstance(strategy, dict), "unreachableStrategy", 'must be an object or "disabled"'):
        names = {
            "unreachableInactiveAfterSeconds": "inactiveAfterSeconds",
            "unreachableExpungeAfterSeconds": "expungeAfterSeconds",
        }
        given = {names.get(k, k): v for k, v in strategy.items() if v is not None}
        strategy = {**DEFAULTS["unreachableStrategy"], **given}
        for name in ("inactiveAfterSeconds", "expungeAfterSeconds"):
            check.number(strategy, name, 0, path="unreachableStrategy/")
        if _is_number(strategy["inactiveAfterSeconds"]) and _is_number(strategy["expungeAfterSeconds"]):
            fine = strategy["inactiveAfterSeconds"] <= strategy["expungeAfterSeconds"]
            check.that(fine, "unreachableStrategy", "inactiveAfterSeconds must not be greater than expungeAfterSeconds")
        spec["unreachableStrategy"] = strategy
