"""What an access is allowed: as its driver tells, or found out by asking for a service without instances."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ...contract import Access, CoebenchError, Driver, KnowsRights, Right, ServiceSpec


def of(driver: type[Driver], access: Access) -> tuple[Right, ...]:
    """Each right by itself. Raises BadInput where the access can't do at all."""
    try:
        if isinstance(driver, KnowsRights):
            return driver.rights(access)
        connected = driver.connect(access)
    except CoebenchError as e:
        return (Right(what="reach the engine's API", ok=False, said=str(e)),)
    try:
        return (Right(what="reach the engine's API", ok=True), *_tried(connected))
    finally:
        connected.close()


def _tried(driver: Driver) -> list[Right]:
    """By a service of no instances and a name that nobody has, which is taken away at once."""
    spec = ServiceSpec(name=f"coebench-rights-{secrets.token_hex(3)}", image="coebench-http:v1", instances=0)
    asked: list[tuple[str, Callable[[], object], bool, str]] = [
        ("list coebench's services", driver.services, True, ""),
        ("list nodes", driver.nodes, False, "names of nodes, scenarios about nodes"),
        ("deploy a service", lambda: driver.deploy(spec), True, ""),
        ("list instances", lambda: driver.instances(spec.name), True, ""),
        ("scale a service", lambda: driver.scale(spec.name, 0), True, ""),
        ("remove a service", lambda: driver.remove(spec.name), True, ""),
    ]
    found = []
    for what, call, needed, use in asked:
        try:
            call()
            found.append(Right(what=what, ok=True, needed=needed, use=use))
        except CoebenchError as e:
            found.append(Right(what=what, ok=False, said=str(e), needed=needed, use=use))
    return found
