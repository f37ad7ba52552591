"""Health and readiness checks, done from here over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from . import wire
from .apps import App
from .clock import stamp
from .instances import Health, Instance

Json = dict[str, Any]
KEPT_BODY = 4096


class Listener(Protocol):
    def health_changed(self, instance: Instance, check: Json, alive: bool) -> None: ...

    def health_failed(self, instance: Instance, check: Json, cause: str) -> None: ...

    def unhealthy(self, instance: Instance, check: Json, cause: str) -> None:
        """So many failures in a row that the instance has to go."""

    def became_ready(self, instance: Instance) -> None: ...


class Checks:
    """Runs one loop for each check of each running instance.

    Until an instance has answered well for the first time it is asked every ``warm_up`` seconds, so that a deployment
    does not wait for an interval that has only just begun; 0 keeps to the interval from the first check on.
    """

    def __init__(self, listener: Listener, warm_up: float) -> None:
        self._listener = listener
        self._warm_up = warm_up
        self._running: dict[str, list[asyncio.Task[None]]] = {}

    def start(self, app: App, instance: Instance) -> None:
        """Begin to check an instance that has begun to run."""
        if instance.id in self._running:
            return
        tasks = []
        checks = app.spec["healthChecks"]
        if len(instance.health) != len(checks):
            instance.health = [Health() for _ in checks]
        for check, health in zip(checks, instance.health, strict=True):
            port = app.port_of(check, instance.ports)
            if port is not None:
                tasks.append(asyncio.create_task(self._watch(instance, check, health, port)))
        for check in app.spec["readinessChecks"]:
            port = app.port_of(check, instance.ports)
            if not instance.ready and port is not None:
                tasks.append(asyncio.create_task(self._await_ready(instance, check, port)))
        if tasks:
            self._running[instance.id] = tasks

    def stop(self, instance: Instance) -> None:
        for task in self._running.pop(instance.id, ()):
            task.cancel()

    async def _watch(self, instance: Instance, check: Json, health: Health, port: int) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        interval = max(float(check["intervalSeconds"]), 0.05)
        while True:
            asked = loop.time()
            cause = await _http(instance.address, port, check)
            if cause is None:
                health.last_success, health.failures = stamp(), 0
                health.first_success = health.first_success or health.last_success
                if not health.alive:
                    health.alive = True
                    self._listener.health_changed(instance, check, True)
            elif health.alive is not None or loop.time() - begun >= float(check["gracePeriodSeconds"]):
                health.last_failure, health.cause = stamp(), cause
                health.failures += 1
                self._listener.health_failed(instance, check, cause)
                if health.alive is not False:
                    health.alive = False
                    self._listener.health_changed(instance, check, False)
                most = int(check["maxConsecutiveFailures"])
                if most and health.failures >= most:
                    self._listener.unhealthy(instance, check, cause)
            pause = interval
            if health.alive is None and self._warm_up:
                pause = min(interval, self._warm_up)
            await asyncio.sleep(max(0.0, asked + pause - loop.time()))

    async def _await_ready(self, instance: Instance, check: Json, port: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            try:
                timeout = float(check["timeoutSeconds"])
                status, headers, body = await wire.get(instance.address, port, check["path"], timeout)
            except (OSError, TimeoutError, wire.Malformed):
                status = 0
            else:
                if check["preserveLastResponse"]:
                    text = body[:KEPT_BODY].decode("utf-8", "replace")
                    kind = headers.get("content-type", "")
                    instance.readiness_response = {"status": status, "contentType": kind, "body": text}
            if status in check["httpStatusCodesForReady"]:
                self._listener.became_ready(instance)
                return
            pause = float(check["intervalSeconds"])
            if status == 0 and self._warm_up:  # nobody listens yet
                pause = min(pause, self._warm_up)
            await asyncio.sleep(max(0.01, asked + pause - loop.time()))


async def _http(host: str, port: int, check: Json) -> str | None:
    """None if the instance answers well, else why it does not."""
    timeout = float(check["timeoutSeconds"])
    try:
        status, _, _ = await wire.get(host, port, check["path"], timeout)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, wire.Malformed) as error:
        return str(error) or type(error).__name__
    return None if 200 <= status < 400 else f"answered {status}"
