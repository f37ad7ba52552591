"""`coebench doctor` and `clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .bay import OsCloud, name_cloud
from .complete import provisioner_names

if TYPE_CHECKING:
    from ..contract import BaySpec
    from ..lab.doctor import Finding

ProvisionerName = Annotated[str, typer.Option("--provisioner", help="Whose.", autocompletion=provisioner_names)]


def doctor(
    bays: Annotated[
        list[str] | None,
        typer.Argument(
            help="With another provisioner than the lab: COE:option=value,… as compare takes them; for magnum, whether what "
            "they name is there.",
            show_default=False,
        ),
    ] = None,
    provisioner: Annotated[
        str,
        typer.Option(
            help="lab: this machine; existing: the rights on clusters; magnum: a cloud.", autocompletion=provisioner_names
        ),
    ] = "lab",
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of every bay; may be given again.")] = None,
    os_cloud: OsCloud = None,
    nodes: Annotated[int, typer.Option(help="For magnum: nodes of each bay.")] = 3,
    at_once: Annotated[int, typer.Option(help="For magnum: bays at once.")] = 1,
) -> None:
    """Say what this machine or a cloud's Magnum can and cannot do, or which rights coebench has on existing clusters.

    Exit code 1 if bays can't be had, or a needed right is lacking.
    """
    if provisioner == "magnum":
        name_cloud(os_cloud)
        from ..provision.magnum import doctor as clouds

        raise typer.Exit(_told(clouds.findings(nodes, at_once, _specs(bays or [], option or [], nodes))))
    if provisioner != "lab":
        raise typer.Exit(_rights(provisioner, bays or [], option or []))
    if bays or option:
        from ..contract import BadInput

        raise BadInput("doctor looks at this machine; for a cluster's rights name a provisioner: --provisioner existing")
    from ..lab import doctor as examine

    raise typer.Exit(_told(examine.findings()))


def _told(findings: tuple[Finding, ...]) -> int:
    """Print findings; 1 if one of them is fatal."""
    width = max(len(f.what) for f in findings)
    for f in findings:
        typer.echo(f"{f.verdict:<5} {f.what:<{width}}  {f.told}")
    return 1 if any(f.verdict == "no" for f in findings) else 0


def _specs(bays: list[str], option: list[str], nodes: int) -> dict[str, BaySpec]:
    """What subjects ask for, by their names. Raises BadInput."""
    from ..contract import BadInput, BaySpec
    from ..runner import plan as plans
    from .options import pairs

    if option and not bays:
        raise BadInput("options of which bays? name their COEs: coebench doctor --provisioner magnum k8s --option flavor=…")
    subjects = [plans.subject(text) for text in bays]
    return {s.name: BaySpec(coe=s.coe, nodes=nodes, options={**pairs(option), **s.options}) for s in subjects}


def _rights(provisioner: str, bays: list[str], option: list[str]) -> int:
    """Print each right of each bay; 1 if a needed one is lacking."""
    from .. import plugins
    from ..contract import BadInput, BaySpec
    from ..runner import plan as plans
    from .options import pairs

    giver = plugins.load("provisioners", provisioner, "provisioner")()
    if not hasattr(giver, "rights"):
        raise BadInput(f"the provisioner '{provisioner}' knows of no rights")
    if not bays:
        raise BadInput(f"whose rights? name clusters: coebench doctor --provisioner {provisioner} k8s:kubeconfig=FILE")
    lacking = False
    for text in bays:
        subject = plans.subject(text)
        plugins.load("drivers", subject.coe, "COE")
        spec = BaySpec(coe=subject.coe, options={**pairs(option), **subject.options})
        giver.check(spec)
        typer.echo(f"{subject.name}:")
        for right in giver.rights(spec):
            verdict = "ok" if right.ok else "no" if right.needed else "lacks"
            lacking = lacking or verdict == "no"
            use = f" (for: {right.use})" if right.use else ""
            said = f": {right.said}" if right.said and not right.ok else ""
            typer.echo(f"  {verdict:<5} {right.what}{use}{said}")
    return 1 if lacking else 0


def clean(
    provisioner: ProvisionerName = "lab",
    os_cloud: OsCloud = None,
    run: Annotated[
        str,
        typer.Option(help="For magnum: only bays of this name, or of a run that begins so, also of another machine's."),
    ] = "",
    foreign: Annotated[
        bool, typer.Option("--foreign", help="For magnum: also what other machines' runs made. They may be alive: look first.")
    ] = False,
) -> None:
    """End and remove all that earlier runs left, whatever became of them."""
    from .. import api
    from ..contract import BadInput

    name_cloud(os_cloud)
    if (run or foreign) and provisioner != "magnum":
        raise BadInput("--run and --foreign are for what other machines left in a cloud: --provisioner magnum")
    removed = api.clean(provisioner, run=run, foreign=foreign)
    for line in removed:
        typer.echo(f"removed {line}")
    if not removed:
        typer.echo("nothing was left")
