"""What the shell completes: names of plug-ins, looked up without importing any of them."""

from __future__ import annotations


def _names(group: str, incomplete: str) -> list[str]:
    from .. import plugins

    return [n for n in plugins.names(group) if n.startswith(incomplete)]


def driver_names(incomplete: str) -> list[str]:
    """COEs."""
    return _names("drivers", incomplete)


def provisioner_names(incomplete: str) -> list[str]:
    """Where bays come from."""
    return _names("provisioners", incomplete)


def reporter_names(incomplete: str) -> list[str]:
    """Formats of a report."""
    return _names("reporters", incomplete)


def scenario_names(incomplete: str) -> list[str]:
    """Scenarios, after the last comma of a list."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _names("scenarios", last)]


def metric_names(incomplete: str) -> list[str]:
    """SCENARIO.METRIC; scenarios have to be imported for it."""
    from .. import plugins

    found = []
    for scenario in plugins.names("scenarios"):
        if scenario.startswith(incomplete) or incomplete.startswith(f"{scenario}."):
            metrics = plugins.load("scenarios", scenario, "scenario").metrics
            found += [f"{scenario}.{m.name}" for m in metrics]
    return [name for name in found if name.startswith(incomplete)]
