"""The lab's own Magnum among the bays of `coebench lab`: `up magnum`, `status`, `logs magnum`, `down magnum`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..lab.magnum.releases import Release


def install(say: Callable[[str], None], release: str | None) -> None:
    """Build what it needs into the cache. Raises BadInput."""
    from ..lab.magnum import install as installing
    from ..lab.magnum import releases

    installing.ensure(say, releases.named(release))


def up(release: str | None) -> None:
    """Start it and say how it is used. Raises BadInput."""
    from ..contract import BadInput
    from ..lab import lock
    from ..lab.magnum import plane, releases
    from ..lab.process import ended_tidily

    wanted = releases.named(release)
    begun = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"{time.monotonic() - begun:6.2f} s  {text}", err=True)

    with ended_tidily(), lock.take("lab up magnum"):
        there = plane.left()
        try:
            plane.up(say, wanted)
        except BaseException as e:
            if not there and not isinstance(e, BadInput):
                plane.down()
            raise
    say("ready")
    typer.echo(_usage(wanted))


def _usage(release: Release) -> str:
    """How it is used."""
    from ..lab.magnum import plane, releases

    coes = "k8s swarm mesos" if release == releases.DEFAULT else "k8s"
    return (
        f"Magnum {release.version} ({release.about}) with Keystone and Glance on loopback\n"
        f"  coebench compare {coes} --provisioner magnum    # this Magnum, if no other cloud is named\n"
        "  coebench bay create k8s\n"
        f"  . {plane.folder() / 'openrc'}     # for openstack and other clients; adminrc is the administrator's\n"
        "  coebench lab down magnum"
    )


def status() -> None:
    """One line, and how much it takes; nothing if it is not there."""
    from ..lab import cgroups
    from ..lab.magnum import plane

    if not plane.left():
        return
    state = plane.opened()
    if state is None:
        typer.echo("magnum: remains of the lab's Magnum (coebench lab down magnum)")
        return
    word = "down" if not state.alive else "ready" if state.ready else "not ready"
    use = f"{cgroups.memory_bytes('magnum') >> 20} MiB, {cgroups.cpu_seconds('magnum'):.1f} s CPU"
    typer.echo(f"magnum: Magnum {state.version}, {word}, {state.auth_url}, {use}")


def logs(service: str | None, lines: int) -> None:
    """The ends of its services' logs. Raises BadInput."""
    from ..contract import BadInput
    from ..lab.magnum import plane

    state = plane.opened()
    if state is None:
        raise BadInput("the lab's Magnum is not up (coebench lab up magnum)")
    names = sorted(f.stem for f in (state.folder / "log").glob("*.log"))
    if service and service not in names:
        raise BadInput(f"the lab's Magnum has no log '{service}' (it has: {', '.join(names)})")
    for name in [service] if service else names:
        typer.echo(f"==> {name}")
        typer.echo(state.log(name, lines))


def down() -> None:
    """End it and all bays that were made through it."""
    from ..lab.magnum import plane

    begun = time.monotonic()
    plane.down()
    typer.echo(f"magnum is gone ({time.monotonic() - begun:.2f} s)")


def there() -> bool:
    """Whether anything of it is."""
    from ..lab.magnum import plane

    return plane.left()
