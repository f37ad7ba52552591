"""`coebench compare`, `plan` and `report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import complete
from .bay import OsCloud, name_cloud

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..hooks import Outcome, TrialInfo
    from ..results.gates import Condition, Shorts
    from ..results.model import Gate, Result
    from ..runner.plan import Plan
    from ..runner.run import Run

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
Precision = Annotated[float | None, typer.Option(help="Blocks until every interval is within ± this share of its median: 0.1.")]
Twice = Annotated[bool, typer.Option("--aa", help="One subject as two columns: what is found different is the noise floor.")]
Seed = Annotated[int | None, typer.Option(help="Of the random order; drawn and recorded if not given.")]
Nodes = Annotated[int | None, typer.Option(help="Nodes of each bay.")]
HostCpu = Annotated[float | None, typer.Option(help="Cores each host of a bay may use; 0: no limit, equal weights.")]
HostMemory = Annotated[int | None, typer.Option(help="Memory of each host of a bay, in MiB.")]
Timeouts = Annotated[str | None, typer.Option(help="stock: the engines' own failure detection; harmonised: alike for all.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="SCENARIO.SETTING=VALUE, the value in TOML: --set 'deploy.instances=[1,30]'"),
]
Objective = Annotated[
    str | None,
    typer.Option("--slo", help="Find the highest rate that meets it: --slo 'p99<20ms,errors<0.1%'", show_default=False),
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
HealNodeCmd = Annotated[str | None, typer.Option(help="existing: a command that undoes it.")]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="End with 3 if this is so: 'swarm.deploy.all_answer > 20s'. May be given more than once.", show_default=False
    ),
]


def compare(
    subjects: Subjects = None,
    plan: PlanFile = None,
    profile: Profile = None,
    trials: Trials = None,
    scenarios: Scenarios = None,
    instances: Instances = None,
    budget: Budget = None,
    precision: Precision = None,
    aa: Twice = False,
    seed: Seed = None,
    nodes: Nodes = None,
    host_cpu: HostCpu = None,
    host_memory: HostMemory = None,
    timeouts: Timeouts = None,
    setting: Setting = None,
    slo: Objective = None,
    cross_check: CrossCheck = None,
    provisioner: ProvisionerName = None,
    option: BayOptions = None,
    fail_node_cmd: FailNodeCmd = None,
    heal_node_cmd: HealNodeCmd = None,
    os_cloud: OsCloud = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    fail_if: FailIf = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result, alone, as JSON on standard output.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Show instances, requests and latency as they happen.")] = False,
    live_web: Annotated[
        int | None, typer.Option("--live-web", metavar="PORT", help="The same as a page on 127.0.0.1; 0: any free port.")
    ] = None,
    serve_metrics: Annotated[
        int | None, typer.Option("--serve-metrics", metavar="PORT", help="OpenMetrics on 127.0.0.1; 0: any free port.")
    ] = None,
) -> None:
    """Put the same workload on each COE, by turns, and print the table.

    Exit code: 0 all measured, 1 some trial failed (the table says which and why), 2 bad input, 3 what --fail-if names is so,
    130 interrupted.
    """
    from ..results import gates
    from ..runner.run import Interrupted, Run
    from . import output as outputs
    from .live import following

    name_cloud(os_cloud)
    effective = _plan(
        subjects,
        plan,
        profile,
        trials,
        scenarios,
        seed,
        nodes,
        host_cpu,
        host_memory,
        timeouts,
        _with(setting, slo, cross_check),
        provisioner,
        _bay_options(option, fail_node_cmd, heal_node_cmd),
        _enough(instances, budget, precision, aa),
    )
    conditions = [gates.parse(text) for text in fail_if or ()]
    first = _FirstBlock()
    command = ["coebench", *sys.argv[1:]]
    with following(live, live_web, serve_metrics) as listeners:
        run = Run(effective, runs, command, [*listeners, first], lambda text: print(text, file=sys.stderr, flush=True))
        first.run = run
        metrics = {n: s.metrics for n, s in run.scenarios.items()}
        short = gates.shorts(run.scenarios)
        gates.check(conditions, [s.name for s in effective.subjects], metrics, effective.settings, short)
        try:
            result = run.execute()
        except Interrupted:
            interrupted = True
        else:
            interrupted = False
    if interrupted:
        folder = getattr(run, "folder", None)
        print(f"coebench: interrupted; what was seen is in {folder}, the bays are gone", file=sys.stderr)
        raise typer.Exit(130)
    result = gated(result, conditions, short, strict=False)
    outputs.render([result], [run.folder], "json" if json else "terminal", sys.stdout)
    print(f"run folder: {run.folder}", file=sys.stderr)
    raise typer.Exit(told(result.gates) or (0 if result.measured else 1))


class _FirstBlock:
    """Shows the table of the first block while the others run: figures without verdicts, minutes before the end."""

    run: Run

    def __init__(self) -> None:
        from ..hooks import hookimpl  # here, not above: pluggy is nothing that `--help` should wait for

        hookimpl(type(self).trial_ended)

    def trial_ended(self, trial: TrialInfo, outcome: Outcome) -> None:
        plan = self.run.plan
        per_block = len(plan.subjects) * len(self.run.scenarios)
        if plan.blocks > 1 and trial.position == per_block:
            from ..report.terminal import TerminalReporter
            from ..results import derive

            print(f"\nafter block 1 of {plan.blocks}:", file=sys.stderr)
            TerminalReporter(brief=True).render(derive.derive(self.run.folder, self.run.scenarios), sys.stderr)


def plan(
    subjects: Subjects = None,
    plan: PlanFile = None,
    profile: Profile = None,
    trials: Trials = None,
    scenarios: Scenarios = None,
    instances: Instances = None,
    budget: Budget = None,
    precision: Precision = None,
    aa: Twice = False,
    seed: Seed = None,
    nodes: Nodes = None,
    host_cpu: HostCpu = None,
    host_memory: HostMemory = None,
    timeouts: Timeouts = None,
    setting: Setting = None,
    slo: Objective = None,
    cross_check: CrossCheck = None,
    provisioner: ProvisionerName = None,
    option: BayOptions = None,
    fail_node_cmd: FailNodeCmd = None,
    heal_node_cmd: HealNodeCmd = None,
) -> None:
    """Print the effective plan as TOML, fit for --plan, and run nothing."""
    import msgspec

    effective = _plan(
        subjects,
        plan,
        profile,
        trials,
        scenarios,
        seed,
        nodes,
        host_cpu,
        host_memory,
        timeouts,
        _with(setting, slo, cross_check),
        provisioner,
        _bay_options(option, fail_node_cmd, heal_node_cmd),
        _enough(instances, budget, precision, aa),
    )
    typer.echo(msgspec.toml.encode(_without_none(msgspec.to_builtins(effective))).decode(), nl=False)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, .zip or .tar.gz of them, or files that --json wrote.")],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="terminal, markdown, html, github, json, csv, csv-samples, openmetrics, junit, svg or png.",
            autocompletion=complete.reporter_names,
        ),
    ] = "terminal",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write there: a file; with svg and png a folder, for a picture of each plot."),
    ] = None,
    theme: Annotated[str, typer.Option(help="Of pictures: light or dark.")] = "light",
    fail_if: FailIf = None,
) -> None:
    """Print the report of runs again, or write it: as a page, as pictures, or in another format.

    Exit code: 0, or 3 if what --fail-if names is so.
    """
    from ..results import derive, gates
    from . import output as outputs
    from .results import scenarios

    outputs.check(len(runs), format, output, theme)

    conditions = [gates.parse(text) for text in fail_if or ()]
    known = scenarios()
    short = gates.shorts(known)
    results = [gated(derive.load(run, known), conditions, short) for run in runs]
    outputs.write(runs, results, format, output, theme)
    if code := told([g for r in results for g in r.gates]):
        raise typer.Exit(code)


def gated(result: Result, conditions: list[Condition], short: Shorts, strict: bool = True) -> Result:
    """The result with what became of the conditions; `strict` raises BadInput for one that it has no row for."""
    import msgspec

    from ..results import gates

    if not conditions:
        return result
    return msgspec.structs.replace(result, gates=gates.judge(conditions, result, strict=strict, short=short))


def told(gates: Sequence[Gate]) -> int:
    """Say on standard error what became of gates; returns 3 if one failed, else 0."""
    from ..report.words import clean

    for g in gates:
        print(f"{'passed' if g.passed else 'FAILED'}  {clean(g.text)}: {clean(g.reason)}", file=sys.stderr)
    return 0 if all(g.passed for g in gates) else 3


def _bay_options(words: list[str] | None, fail: str | None, heal: str | None) -> dict[str, str]:
    """The options of every bay, from --option and from those that have a flag of their own."""
    from .options import pairs

    hooks = {"fail-node-cmd": fail, "heal-node-cmd": heal}
    return {**pairs(words), **{name: command for name, command in hooks.items() if command}}


def _enough(instances: str | None, budget: str | None, precision: float | None, aa: bool) -> dict[str, Any]:
    """What the command line says of how large a plan is and how long it goes on, by the words of `plans.make`."""
    from ..contract import BadInput
    from ..runner import fit

    numbers = None
    if instances is not None:
        try:
            numbers = [int(n) for n in instances.split(",")]
        except ValueError:
            raise BadInput(f"--instances '{instances}': write numbers with commas between, such as 1,10") from None
    seconds = fit.seconds(budget) if budget is not None else None
    return {"instances": numbers, "budget": seconds, "precision": precision, "aa": aa}


def _plan(
    subjects: list[str] | None,
    file: Path | None,
    profile: str | None,
    trials: int | None,
    scenarios: str | None,
    seed: int | None,
    nodes: int | None,
    host_cpu: float | None,
    host_memory: int | None,
    timeouts: str | None,
    settings: list[str] | None,
    provisioner: str | None,
    options: dict[str, str],
    more: dict[str, Any],
) -> Plan:
    from ..contract import BadInput
    from ..runner import plan as plans

    content = plans.read(file) if file else {}
    for word in settings or []:
        import tomllib

        name, dot, rest = word.partition(".")
        try:
            value = tomllib.loads(rest)
        except tomllib.TOMLDecodeError as e:
            raise BadInput(f"--set {word}: write SCENARIO.SETTING=VALUE with a TOML value ({e})") from None
        if not dot or not name:
            raise BadInput(f"--set {word}: write SCENARIO.SETTING=VALUE")
        if "instances" in value and more["instances"] is not None:
            raise BadInput(f"--set {word} and --instances say two things of the same setting: leave one out")
        content.setdefault("settings", {}).setdefault(name, {}).update(value)
    if options:
        bay = content.setdefault("bay", {})
        bay["options"] = {**bay.get("options", {}), **options}
    given = {
        "profile": profile,
        "blocks": trials,
        "scenarios": None if scenarios is None else plans.every_scenario() if scenarios == "all" else scenarios.split(","),
        **more,
        "seed": seed,
        "provisioner": provisioner,
        "nodes": nodes,
        "cpu": host_cpu,
        "memory": host_memory,
        "timeouts": timeouts,
    }
    return plans.make(content, subjects or [], given)


def _with(settings: list[str] | None, slo: str | None, cross_check: str | None) -> list[str]:
    """The options that are settings of `serve` by shorter names, as `--set` has them; JSON's texts are TOML's too."""
    import json

    words = list(settings or [])
    if slo is not None:
        words.append(f"serve.slo={json.dumps(slo)}")
    if cross_check is not None:
        words.append(f"serve.cross_check={json.dumps([t.strip() for t in cross_check.split(',')])}")
    return words


def _without_none(value: Any) -> Any:
    """TOML has no null: what is not set is left out."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value
