"""Drivers, provisioners, workloads, scenarios, reporters: found by entry point, loaded only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec
from stevedore import DriverManager, _cache

from . import surveyed
from .contract import VERSION, BadInput

GROUPS = ("drivers", "provisioners", "workloads", "scenarios", "reporters", "hooks", "generators", "engines")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One entry point. `broken` says why it can't be used, empty if it can."""

    name: str
    where: str  # "module:object"
    package: str
    broken: str = ""
    title: str = ""


def names(group: str) -> tuple[str, ...]:
    """The names in a group, sorted; nothing is imported."""
    return tuple(sorted(_entry_points(group)))


def load(group: str, name: str, what: str) -> Any:
    """The object behind a name. Raises BadInput: unknown (names those known), twice there, or broken (says why)."""
    found = _entry_points(group)
    if name not in found:
        raise BadInput(f"unknown {what} '{name}'; known: {', '.join(sorted(found)) or 'none'}")
    if len(found[name]) > 1:
        both = " and ".join(f"{e.value} ({_package(e)})" for e in _told(group)[name])
        raise BadInput(f"two {what}s are named '{name}': {both}; uninstall one of the packages")
    try:
        plugin = DriverManager(f"coebench.{group}", name, on_load_failure_callback=_reraise).driver
    except (Exception, SystemExit) as e:
        raise BadInput(f"{what} '{name}' can't be loaded: {_reason(e, _told(group)[name][0])}") from e
    return _checked(plugin, group, what, name)


def survey(group: str) -> tuple[Found, ...]:
    """All of a group, the broken ones with their reason.

    Imports every one of them, but for those that were found good before and have not changed since (`surveyed`). A package
    that ends the program on import counts as broken too.
    """
    found = []
    memory = surveyed.Memory(f"{group} {VERSION}")
    for name, points in sorted(_told(group).items()):
        for e in points:
            broken, title = "", ""
            if len(points) > 1:
                others = ", ".join(sorted({_package(o) for o in points if o is not e} - {_package(e)}))
                broken = f"{len(points)} packages give this name" + (f" (also {others})" if others else "")
            else:
                known = memory.get(e.name, e.value)
                if known is None:
                    try:
                        title = getattr(_checked(e.load(), group, group[:-1], name), "title", "")
                        memory.put(e.name, e.value, title)
                    except (Exception, SystemExit) as error:
                        broken = _reason(error, e)
                else:
                    title = known
            found.append(Found(name=name, where=e.value, package=_package(e), broken=broken, title=title))
    memory.save()
    return tuple(found)


def _checked(plugin: Any, group: str, what: str, name: str) -> Any:
    if group == "drivers" and getattr(plugin, "contract", None) != VERSION:
        wants = getattr(plugin, "contract", "none")
        raise BadInput(f"{what} '{name}' is written for contract {wants}, this coebench has contract {VERSION}")
    return plugin


def _entry_points(group: str) -> Mapping[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for e in _points(group):
        if e.value not in [o.value for o in found.setdefault(e.name, [])]:  # one distribution can be seen on two paths
            found[e.name].append(e)
    return found


def _points(group: str) -> list[EntryPoint]:
    """stevedore's own cached look-up: reading all metadata anew would cost every start some 50 ms."""
    return list(_cache.get_group_all(f"coebench.{group}"))


def _told(group: str) -> Mapping[str, list[EntryPoint]]:
    """As `_entry_points`, with the distributions that the cached look-up has lost; slower."""
    found: dict[str, list[EntryPoint]] = {}
    for e in entry_points(group=f"coebench.{group}"):
        if e.value not in [o.value for o in found.setdefault(e.name, [])]:
            found[e.name].append(e)
    return found


def _package(e: EntryPoint) -> str:
    return f"{e.dist.name} {e.dist.version}" if e.dist else "?"


def _reraise(manager: Any, entry_point: EntryPoint, error: BaseException) -> None:
    raise error


def _reason(e: BaseException, point: EntryPoint | None = None) -> str:
    """Why an import failed, in one line; where the package has an extra of the plug-in's name, with what installs it."""
    if isinstance(e, BadInput):
        return str(e)
    if isinstance(e, ModuleNotFoundError) and e.name:
        extras = point.dist.metadata.get_all("Provides-Extra") or [] if point and point.dist else []
        hint = f" (pip install '{point.dist.name}[{point.name}]')" if point and point.dist and point.name in extras else ""
        return f"Python package {e.name.split('.')[0]} is not installed{hint}"
    return " ".join(f"{type(e).__name__}: {e}".split())
