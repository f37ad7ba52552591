"""What the command line asks of a plan: the options that `compare` and `plan` share, and the plan that follows from them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from . import complete
from .options import finite

if TYPE_CHECKING:
    from ..runner.plan import Plan

Subjects = Annotated[
    list[str] | None,
    typer.Argument(
        help="Columns: COE, COE:option=value,… or NAME=COE:option=value,… (k8s swarm mesos)",
        show_default=False,
        autocompletion=complete.driver_names,
    ),
]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="A plan in TOML; what the command line says wins.")]
Profile = Annotated[str | None, typer.Option(help="smoke, default or full.")]
Trials = Annotated[int | None, typer.Option(help="Blocks: each has every subject once, in random order.")]
Scenarios = Annotated[
    str | None, typer.Option(help="Names, with commas between, or all.", autocompletion=complete.scenario_names)
]
Instances = Annotated[
    str | None, typer.Option(help="Numbers of instances, with commas between, for all scenarios that have any.")
]
Budget = Annotated[str | None, typer.Option(help="Blocks until this time is spent: 90s, 20m, 1h30m.")]
Precision = Annotated[
    float | None, typer.Option(callback=finite, help="Blocks until every interval is within ± this share of its median: 0.1.")
]
Twice = Annotated[bool, typer.Option("--aa", help="One subject as two columns: what is found different is the noise floor.")]
Seed = Annotated[int | None, typer.Option(help="Of the random order; drawn and recorded if not given.")]
Nodes = Annotated[int | None, typer.Option(help="Nodes of each bay.")]
HostCpu = Annotated[
    float | None, typer.Option(callback=finite, help="Cores each host of a bay may use; 0: no limit, equal weights.")
]
HostMemory = Annotated[int | None, typer.Option(help="Memory of each host of a bay, in MiB.")]
Timeouts = Annotated[str | None, typer.Option(help="stock: the engines' own failure detection; harmonised: alike for all.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="SCENARIO.SETTING=VALUE, the value in TOML: --set 'deploy.instances=[1,30]'"),
]
Objective = Annotated[
    str | None,
    typer.Option(
        "--slo",
        help="Find the highest rate that meets it: --slo 'p99<20ms,errors<0.1%'; compare ends with 3 if none does.",
        show_default=False,
    ),
]
CrossCheck = Annotated[
    str | None, typer.Option("--cross-check", help="Ask a point of serve again by these: wrk,h2load,hey", show_default=False)
]
ProvisionerName = Annotated[
    str | None, typer.Option("--provisioner", help="Where bays come from.", autocompletion=complete.provisioner_names)
]
BayOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE: what the provisioner is to know of every bay; may be given again."),
]
FailNodeCmd = Annotated[
    str | None,
    typer.Option(help="existing: a command that makes {node} (at {address}) fail by {fault}; without it no node is touched."),
]
HealNodeCmd = Annotated[str | None, typer.Option(help="existing: a command that undoes it; one is not taken without the other.")]


@dataclasses.dataclass(frozen=True)
class Asked:
    """The shared options, as given."""

    subjects: Subjects = None
    plan: PlanFile = None
    profile: Profile = None
    trials: Trials = None
    scenarios: Scenarios = None
    instances: Instances = None
    budget: Budget = None
    precision: Precision = None
    aa: Twice = False
    seed: Seed = None
    nodes: Nodes = None
    host_cpu: HostCpu = None
    host_memory: HostMemory = None
    timeouts: Timeouts = None
    setting: Setting = None
    slo: Objective = None
    cross_check: CrossCheck = None
    provisioner: ProvisionerName = None
    option: BayOptions = None
    fail_node_cmd: FailNodeCmd = None
    heal_node_cmd: HealNodeCmd = None

    def effective(self) -> Plan:
        """The plan, checked. Raises BadInput."""
        from .. import api
        from ..contract import BadInput
        from ..runner import fit
        from ..runner import plan as plans
        from .options import pairs

        instances = None
        if self.instances is not None:
            try:
                instances = [int(n) for n in self.instances.split(",")]
            except ValueError:
                raise BadInput(f"--instances '{self.instances}': write numbers with commas between, such as 1,10") from None
        scenarios = None
        if self.scenarios is not None:
            scenarios = plans.every_scenario() if self.scenarios == "all" else self.scenarios.split(",")
        hooks = {"fail-node-cmd": self.fail_node_cmd, "heal-node-cmd": self.heal_node_cmd}
        return api.plan(
            *self.subjects or (),
            file=self.plan,
            profile=self.profile,
            trials=self.trials,
            scenarios=scenarios,
            settings=self._settings(),
            instances=instances,
            budget=fit.seconds(self.budget) if self.budget is not None else None,
            precision=self.precision,
            aa=self.aa,
            seed=self.seed,
            provisioner=self.provisioner,
            options={**pairs(self.option), **{name: command for name, command in hooks.items() if command}},
            nodes=self.nodes,
            host_cpu=self.host_cpu,
            host_memory=self.host_memory,
            timeouts=self.timeouts,
        )

    def _settings(self) -> dict[str, dict[str, Any]]:
        """Scenario → setting → value, from --set and from those of `serve` that have an option of their own."""
        import tomllib

        from ..contract import BadInput

        settings: dict[str, dict[str, Any]] = {}
        for word in self.setting or ():
            name, dot, rest = word.partition(".")
            try:
                value = tomllib.loads(rest)
            except tomllib.TOMLDecodeError as e:
                raise BadInput(f"--set {word}: write SCENARIO.SETTING=VALUE with a TOML value ({e})") from None
            if not dot or not name:
                raise BadInput(f"--set {word}: write SCENARIO.SETTING=VALUE")
            if "instances" in value and self.instances is not None:
                raise BadInput(f"--set {word} and --instances say two things of the same setting: leave one out")
            for setting, option, said in (("slo", "--slo", self.slo), ("cross_check", "--cross-check", self.cross_check)):
                if name == "serve" and setting in value and said is not None:
                    raise BadInput(f"--set {word} and {option} say two things of the same setting: leave one out")
            settings.setdefault(name, {}).update(value)
        if self.slo is not None:
            settings.setdefault("serve", {})["slo"] = self.slo
        if self.cross_check is not None:
            settings.setdefault("serve", {})["cross_check"] = [t.strip() for t in self.cross_check.split(",")]
        return settings


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first parameter is an Asked, the options of Asked before its own."""
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = {**get_type_hints(Asked, include_extras=True), **get_type_hints(command, include_extras=True)}
    names = [f.name for f in dataclasses.fields(Asked)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(inspect.Parameter(f.name, keyword, default=f.default, annotation=hints[f.name]) for f in dataclasses.fields(Asked)),
        *(p.replace(kind=keyword, annotation=hints[p.name]) for p in own),
    ]

    def called(**values: Any) -> None:
        command(Asked(**{n: values.pop(n) for n in names}), **values)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called
