"""`coebench bay`: everyday life with Magnum's bays."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..contract import Bay, Resource
    from ..provision.magnum import MagnumProvisioner

app = typer.Typer(
    help="Bays of a cloud's Magnum, or of the lab's own: create, list, show, resize, replace, upgrade, delete.",
    no_args_is_help=True,
)

FILES = ("kubeconfig", "ca.pem", "cert.pem", "key.pem")

Name = Annotated[str, typer.Argument(help="A bay: coebench's name for it or Magnum's.")]
OsCloud = Annotated[
    str | None,
    typer.Option("--os-cloud", help="A cloud of your clouds.yaml; else OS_… or the lab's own Magnum.", show_default=False),
]


@app.command()
def create(
    coe: Annotated[str, typer.Argument(help="k8s, swarm or mesos.")],
    name: Annotated[str | None, typer.Option(help="The bay's name; the COE's if not given.")] = None,
    nodes: Annotated[int, typer.Option(help="Nodes, besides the masters.")] = 3,
    masters: Annotated[int, typer.Option(help="Masters.")] = 1,
    option: Annotated[
        list[str] | None,
        typer.Option("-o", "--option", help="OPTION=VALUE: template, image, flavor, keypair, network, volume, label.NAME, …"),
    ] = None,
    host_memory: Annotated[int, typer.Option(help="In the lab: memory of each host, in MiB.")] = 3072,
    timeouts: Annotated[str, typer.Option(help="In the lab: stock or harmonised.")] = "stock",
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="Leave a bay that failed for its logs.")] = False,
    os_cloud: OsCloud = None,
) -> None:
    """Create a bay, wait until its nodes are ready, and say how it is used. It stays until `coebench bay delete`."""
    from ..contract import BadInput, BaySpec, CoebenchError

    options = {}
    for word in option or []:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BadInput(f"-o {word}: write OPTION=VALUE")
        options[key] = value
    provisioner = _provisioner(os_cloud)
    bay_name = name or coe
    spec = BaySpec(coe=coe, nodes=nodes, controls=masters, options=options, memory=host_memory << 20, timeouts=timeouts)
    provisioner.check(spec)
    if provisioner.cloud.lab and options.get("weightless", "no") == "no":
        from ..lab import install

        install.install([coe], lambda text: typer.echo(text, err=True))
    steps = _Steps()
    try:
        bay = provisioner.create(bay_name, spec, _NoJournal(), steps)
    except BaseException as e:
        if isinstance(e, BadInput) and not steps.accepted:
            raise
        if keep_failed:
            typer.echo(f"the bay is kept: coebench bay show {bay_name}, coebench bay delete {bay_name}", err=True)
        else:
            typer.echo("deleting what there is of the bay", err=True)
            try:
                provisioner.delete(bay_name, _NoJournal(), steps)
            except CoebenchError as failed:
                typer.echo(f"it is not gone ({failed}): coebench bay delete {bay_name}", err=True)
        raise
    _tell(provisioner, bay)


@app.command("list")
def list_(os_cloud: OsCloud = None) -> None:
    """List the project's clusters, those that coebench made first."""
    from ..provision.magnum import owner

    provisioner = _provisioner(os_cloud)
    rows = [("NAME", "STATUS", "NODES", "OF")]
    for c in sorted(provisioner.clusters.all(), key=lambda c: (not c.name.startswith(owner.PREFIX), c.name)):
        labels = c.to_dict().get("labels") or {}
        whose = labels.get(owner.OWNER, "")
        word = "" if not whose else "kept" if whose == owner.KEPT else "left" if owner.left(labels) else "a run"
        word = "another machine's or container's run" if owner.foreign(labels) else word
        rows.append((labels.get(owner.RUN) or c.name, c.status, str(c.node_count), word))
    if len(rows) == 1:
        typer.echo(f"no cluster at {provisioner.cloud.name}")
        return
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())


@app.command()
def show(name: Name, os_cloud: OsCloud = None, raw: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show a bay as Magnum has it."""
    provisioner = _provisioner(os_cloud)
    about = provisioner.about(name)
    if raw:
        typer.echo(json.dumps(about, indent=1, default=str))
        return
    for key in (
        "name",
        "uuid",
        "status",
        "status_reason",
        "coe_version",
        "api_address",
        "master_addresses",
        "node_addresses",
        "labels",
    ):
        value = about.get(key)
        if value not in (None, "", [], {}):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            typer.echo(f"{key:<16} {shown}")


@app.command()
def resize(name: Name, nodes: Annotated[int, typer.Argument(help="So many nodes.")], os_cloud: OsCloud = None) -> None:
    """Add nodes or take some away, and wait until those that remain are ready."""
    provisioner = _provisioner(os_cloud)
    bay = provisioner.resize(provisioner.opened(name), nodes, _Steps())
    typer.echo(f"{name} has {len(bay.nodes)} nodes")


@app.command("replace-node")
def replace_node(name: Name, node: Annotated[str, typer.Argument(help="Its name or address.")], os_cloud: OsCloud = None) -> None:
    """Take one node away and add another in its stead."""
    provisioner = _provisioner(os_cloud)
    bay = provisioner.replace_node(provisioner.opened(name), node, _Steps())
    typer.echo(f"{name} has {', '.join(h.name for h in bay.nodes)}")


@app.command()
def upgrade(
    name: Name,
    template: Annotated[str, typer.Argument(help="A cluster template, by its name or id.")],
    batch: Annotated[int, typer.Option(help="So many nodes at a time.")] = 1,
    os_cloud: OsCloud = None,
) -> None:
    """Make a bay what another template says, a node after the other, where the server and its driver can."""
    provisioner = _provisioner(os_cloud)
    bay = provisioner.upgrade(provisioner.opened(name), template, _Steps(), batch)
    typer.echo(f"{name} is of {template}: {bay.engine} {bay.version}, {len(bay.nodes)} nodes")


@app.command()
def delete(names: Annotated[list[str], typer.Argument(help="Bays.")], os_cloud: OsCloud = None) -> None:
    """Delete bays, and the templates that were made for them."""
    provisioner = _provisioner(os_cloud)
    from ..provision.magnum import owner

    ours = {name: str((provisioner.about(name).get("labels") or {}).get(owner.RUN, name)) for name in names}
    for name in names:
        provisioner.delete(name, _NoJournal(), _Steps())
        _forget(ours[name])
        typer.echo(f"{name} is gone")


def _provisioner(os_cloud: str | None) -> MagnumProvisioner:
    name_cloud(os_cloud)
    from .. import plugins

    kind: Any = plugins.load("provisioners", "magnum", "provisioner")
    made: MagnumProvisioner = kind(keep=True)
    return made


def name_cloud(os_cloud: str | None) -> None:
    """Take a cloud's name from the command line: it wins over the environment."""
    if os_cloud:
        os.environ["OS_CLOUD"] = os_cloud


def _credentials(bay: str) -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "coebench/bays" / bay


def _forget(bay: str) -> None:
    """Remove the credentials that `_tell` wrote, and nothing that somebody else put beside them."""
    if Path(bay).name != bay:  # a label of the cluster's says it, and anybody in the project may have set that
        return
    folder = _credentials(bay)
    for file in FILES:
        (folder / file).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _tell(provisioner: MagnumProvisioner, bay: Bay) -> None:
    """Write the credentials to files for the engine's own clients, and say how they are used."""
    access = provisioner.outside(bay)
    folder = _credentials(bay.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file, text in zip(FILES, (access.kubeconfig, access.ca, access.cert, access.key), strict=True):
        if text:
            (folder / file).touch(mode=0o600)
            (folder / file).write_text(text)
    typer.echo(
        f"{bay.engine} {bay.version}, bay '{bay.name}': {len(bay.nodes)} nodes ({', '.join(h.name for h in bay.nodes[:8])})"
    )
    if access.kubeconfig:
        typer.echo(f"  export KUBECONFIG={folder / 'kubeconfig'}")
    elif access.cert:
        typer.echo(f"  export DOCKER_HOST={access.url} DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={folder}")
    else:
        typer.echo(f"  {access.url}")
    typer.echo(f"  coebench bay delete {bay.name}")


class _Steps:
    """Prints what is reached, on standard error."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.accepted = False

    def __call__(self, name: str, *, at: float | None = None, **data: Any) -> None:
        self.accepted |= name == "bay.template" or name == "bay.accepted"
        told = " ".join(f"{k}={v}" for k, v in data.items())
        print(
            f"{time.monotonic() - self._begun:7.2f} s  {name.removeprefix('bay.')} {told}".rstrip(), file=sys.stderr, flush=True
        )


class _NoJournal:
    """A bay that is made by hand is kept by hand: Magnum's own list is its journal."""

    def creating(self, resource: Resource) -> None: ...
    def gone(self, resource: Resource) -> None: ...
