"""`coebench lab`: the embedded bays, of use on their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from . import lab_magnum
from .options import finite

MAGNUM = "magnum"  # the one thing here that is no bay
app = typer.Typer(help="Real engines on this machine: install, up, status, exec, logs, down.", no_args_is_help=True)

BayName = Annotated[str, typer.Argument(help="A bay: its COE's name unless it was given another (lab status).")]


@app.command()
def install(
    coes: Annotated[
        list[str] | None, typer.Argument(help="COEs, or magnum; all COEs if none is named.", show_default=False)
    ] = None,
    release: Annotated[str | None, typer.Option(help="Of magnum: 13 (all three COEs; this if none is named) or 23.")] = None,
) -> None:
    """Build what bays need into the user's cache; goes on where an earlier try stopped."""
    from ..lab import install as installing
    from ..lab.engines import ENGINES, engine
    from ..lab.process import ended_tidily
    from ..lab.trees import end_children

    for coe in coes or []:
        if coe != MAGNUM:
            engine(coe)
    if MAGNUM not in (coes or []):
        _no_release(release)
    begun = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"{time.monotonic() - begun:6.1f} s  {text}")
        sys.stdout.flush()

    wanted = [coe for coe in coes or ENGINES if coe != MAGNUM]
    if not coes:
        for coe in [coe for coe in wanted if engine(coe).missing()]:
            say(f"{coe} is left out: {engine(coe).missing()}")
            wanted.remove(coe)
    # Magnum's part is mostly waiting for mirrors, the engines' mostly compiling
    with ended_tidily(), ThreadPoolExecutor(1) as beside:
        try:
            magnum = beside.submit(lab_magnum.install, say, release) if MAGNUM in (coes or []) else None
            if wanted:
                installing.install(wanted, say)
            if magnum:
                magnum.result()
        except KeyboardInterrupt:
            end_children()
            raise
    say("the lab is installed")


def _no_release(release: str | None) -> None:
    from ..contract import BadInput

    if release:
        raise BadInput(
            f"--release {release}: the lab has releases of magnum alone, one of each engine (lab install magnum, lab up magnum)"
        )


def _is_up(name: str) -> bool:
    """Whether a bay stands; one whose record can't be read does not."""
    from ..contract import CoebenchError
    from ..lab import bay as bays

    try:
        return bays.LabBay.open(name).state.ready
    except (CoebenchError, OSError):
        return False


@app.command()
def up(
    coe: Annotated[str, typer.Argument(help="k8s, swarm or mesos; or magnum, a control plane of its own.")],
    nodes: Annotated[int, typer.Option(help="Nodes, besides the control host.")] = 3,
    name: Annotated[str | None, typer.Option(help="The bay's name; the COE's if not given.")] = None,
    timeouts: Annotated[str, typer.Option(help="stock or harmonised.")] = "stock",
    host_memory: Annotated[int, typer.Option(help="Memory of each host, in MiB.")] = 3072,
    host_cpu: Annotated[float, typer.Option(callback=finite, help="Cores each host may use; 0: no limit.")] = 0.0,
    step_timeout: Annotated[float, typer.Option(callback=finite, help="Seconds that each step of its making may take.")] = 120.0,
    kubernetes_bin: Annotated[Path | None, typer.Option(help="A folder with your own Kubernetes programs.")] = None,
    release: Annotated[str | None, typer.Option(help="Of magnum: 13 (all three COEs; this if none is named) or 23.")] = None,
) -> None:
    """Start a bay, or the lab's own Magnum, and say how to use it. It stays until `coebench lab down`."""
    if coe == MAGNUM:
        lab_magnum.up(release)
        return
    _no_release(release)
    from ..contract import BaySpec, CoebenchError
    from ..lab import bay as bays
    from ..lab import install as installing
    from ..lab import lock, relay
    from ..lab.process import ended_tidily
    from ..provision.lab import LabProvisioner

    options = {"kubernetes-bin": str(kubernetes_bin.resolve())} if kubernetes_bin else {}
    spec = BaySpec(
        coe=coe,
        nodes=nodes,
        cpu=host_cpu,
        memory=host_memory << 20,
        timeouts=timeouts,
        options=options,
        step_timeout=step_timeout,
    )
    LabProvisioner().check(spec)
    bays.checked(name or coe)
    with ended_tidily(), lock.take("lab up"):
        installing.install([coe], lambda text: typer.echo(text, err=True))
        begun = time.monotonic()

        def step(text: str) -> None:
            typer.echo(f"{time.monotonic() - begun:6.2f} s  {text}", err=True)

        layers = installing.layers(coe, step, spec.options)
        images = installing.image_folder(coe, step)
        bay_name = name or coe
        try:
            bay = bays.LabBay.create(bay_name, spec, layers, images, step)
        except BaseException as e:
            if bay_name in bays.names() and not _is_up(bay_name):
                with contextlib.suppress(CoebenchError, OSError):  # such as a full disk, which must not keep the bay
                    if isinstance(e, Exception) and (kept := bays.keep_logs(bay_name)):
                        typer.echo(f"the engines' logs are kept in {kept}", err=True)
                bays.erase(bay_name)
            raise
        typer.echo(f"{time.monotonic() - begun:6.2f} s  ready", err=True)
        typer.echo(relay.usage(bay))


@app.command()
def status() -> None:
    """List the bays that are up, with their hosts."""
    from ..contract import BadInput
    from ..lab import bay as bays
    from ..lab import cgroups

    lab_magnum.status()
    names = bays.names()
    if not names:
        typer.echo("no bay is up")
    for name in names:
        try:
            bay = bays.LabBay.open(name)
        except BadInput:
            typer.echo(f"{name}: remains of a bay (coebench clean)")
            continue
        state = "ready" if bay.state.ready else "not ready"
        typer.echo(f"{name}: {bay.engine.title} {bay.engine.version}, {state}")
        for h in bay.hosts:
            ident = h.cgroup
            use = f"{cgroups.memory_bytes(ident) >> 20} MiB, {cgroups.cpu_seconds(ident):.1f} s CPU"
            word = "up" if h.alive else "down"
            typer.echo(f"  {h.spec.name:<4} {h.spec.role.value:<8} {h.spec.address:<12} {word:<5} {use}")


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec_(
    bay: BayName,
    command: Annotated[list[str], typer.Argument(help="[HOST:] then a command; on the control host if none is named.")],
) -> None:
    """Run a command on a host of a bay: `coebench lab exec k8s kubectl get nodes`, `coebench lab exec k8s n1: ctr tasks ls`."""
    from ..contract import BadInput
    from ..lab.bay import LabBay

    opened = LabBay.open(bay)
    words = [w for w in command if w != "--"] if command[:1] == ["--"] else list(command)
    host = opened.host("c1")
    if words and words[0].endswith(":"):
        host = opened.host(words.pop(0)[:-1])
    if not words:
        raise BadInput("lab exec: no command is given")
    raise typer.Exit(subprocess.run(host.enter(words)).returncode)


@app.command()
def logs(
    bay: BayName,
    host: Annotated[
        str | None, typer.Argument(help="A host (of magnum: a service); all if none is named.", show_default=False)
    ] = None,
    log: Annotated[str | None, typer.Argument(help="A log's name; all if none is given.", show_default=False)] = None,
    lines: Annotated[int, typer.Option("-n", help="Lines of each.")] = 20,
) -> None:
    """Print the ends of the engines' logs."""
    from ..lab.bay import LabBay

    if bay == MAGNUM:
        lab_magnum.logs(host, lines)
        return
    opened = LabBay.open(bay)
    for h in [opened.host(host)] if host else opened.hosts:
        for file in sorted((h.folder / "upper/var/log").glob("*.log")):
            if log in (None, file.stem):
                typer.echo(f"==> {h.spec.name} {file.stem}")
                typer.echo(h.log(file.stem, lines))


@app.command()
def down(
    bays: Annotated[list[str] | None, typer.Argument(help="Bays; all if none is named.", show_default=False)] = None,
) -> None:
    """Take bays away."""
    from ..contract import BadInput
    from ..lab import bay as labs
    from ..lab import lock

    with lock.take("lab down"):
        known = [*([MAGNUM] if lab_magnum.there() else []), *labs.names()]  # with Magnum go the bays made through it
        for name in bays or known:
            if name not in known:
                raise BadInput(f"no lab bay {name!r} is up" + (f"; up: {', '.join(known)}" if known else ""))
        for name in bays or known:
            if name == MAGNUM:
                lab_magnum.down()
                continue
            begun = time.monotonic()
            labs.erase(name)
            typer.echo(f"{name} is gone ({time.monotonic() - begun:.2f} s)")


@app.command()
def prune(
    days: Annotated[float, typer.Option(callback=finite, help="Remove what was not used for so many days.")] = 30,
) -> None:
    """Remove from the cache what was built by other versions and is no longer used. It would be built again if it were needed."""
    from ..contract import BadInput
    from ..lab import bay as labs
    from ..lab import cache, lock

    if days < 0:
        raise BadInput(f"lab prune: {days:g} days make no sense")
    with lock.take("lab prune"):
        if up := labs.names():
            raise BadInput(f"bays stand on the cache, and {', '.join(up)} is up: coebench lab down first")
        gone = cache.prune(days, time.time())
    for name, size in gone.items():
        typer.echo(f"removed {name} ({size >> 20} MiB)")
    if not gone:
        typer.echo(f"everything in the cache was used within {days:g} days")
