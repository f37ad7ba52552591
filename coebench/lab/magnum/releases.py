"""The releases of Magnum that the lab can run: one a lab at a time."""

from __future__ import annotations

import msgspec

from ...contract import BadInput


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is its word on the command line; `suffix` tells its parts in the cache from other releases'."""

    name: str
    version: str
    about: str
    requirements: str
    suffix: str = ""
    nova: bool = False  # whether it asks Nova for a flavor's disk unless a volume to boot from is configured


# Between them nothing is offered that one of these does not show: 13 is the last with all three COEs, 14 to 17 have no Mesos, 18
# and later no Swarm.
RELEASES = {
    r.name: r
    for r in (
        Release(name="13", version="13.1.1", about="Kubernetes, Swarm and Mesos", requirements="requirements.txt"),
        Release(
            name="23", version="23.0.0", about="Kubernetes alone", requirements="requirements-23.txt", suffix="-23", nova=True
        ),
    )
}
DEFAULT = RELEASES["13"]


def named(name: str | None) -> Release:
    """By its name or version; the usual one if none is named. Raises BadInput."""
    if not name:
        return DEFAULT
    for one in RELEASES.values():
        if name in (one.name, one.version):
            return one
    have = ", ".join(f"{r.name} ({r.version}: {r.about})" for r in RELEASES.values())
    raise BadInput(f"the lab has no Magnum '{name}'; it has {have}")
