"""What the command line does, as functions: `from coebench import compare`.

    result = compare("swarm", "mesos", profile="smoke")
    print(render(result))
    print(value(result, "deploy.all_answer", "mesos", instances=3).median)

Each raises BadInput for what the user got wrong, CoebenchError for what an engine or a bay did. Nothing is printed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plugins
from .contract import BadInput, BaySpec, Metric, Right, Scenario, drop_private

if TYPE_CHECKING:
    from .conformance import Report
    from .results.diff import Diff
    from .results.history import History
    from .results.model import Gate, Result, Values
    from .results.verify import Verified
    from .runner.plan import Plan


def plan(
    *subjects: str,
    file: str | PathLike[str] | None = None,
    profile: str | None = None,
    trials: int | None = None,
    scenarios: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    instances: Sequence[int] | None = None,
    budget: float | None = None,
    precision: float | None = None,
    aa: bool = False,
    seed: int | None = None,
    provisioner: str | None = None,
    options: Mapping[str, str] | None = None,
    nodes: int | None = None,
    host_cpu: float | None = None,
    host_memory: int | None = None,
    timeouts: str | None = None,
) -> Plan:
    """The effective plan, checked; nothing is run.

    `subjects`: as on the command line, "k8s" or "fast=k8s:timeouts=harmonised". `file`: a plan in TOML; what is given here
    wins over it. `trials`: blocks. `settings`: scenario → setting → value. `instances`: of every scenario that has such a
    setting. `budget`: seconds; `precision`: a share of the median; blocks until it is spent, or reached. `aa`: the one subject
    as two columns. `options`: of every bay, for its provisioner.
    `host_cpu`: cores, `host_memory`: MiB. What is None is the file's or the profile's. Raises BadInput.
    """
    from .runner import plan as plans

    content = plans.read(Path(file)) if file else {}
    for scenario, values in (settings or {}).items():
        content.setdefault("settings", {}).setdefault(scenario, {}).update(values)
    if options:
        bay = content.setdefault("bay", {})
        bay["options"] = {**bay.get("options", {}), **options}
    given = {
        "profile": profile,
        "blocks": trials,
        "scenarios": list(scenarios) if scenarios is not None else None,
        "instances": list(instances) if instances is not None else None,
        "budget": budget,
        "precision": precision,
        "aa": aa,
        "seed": seed,
        "provisioner": provisioner,
        "nodes": nodes,
        "cpu": host_cpu,
        "memory": host_memory,
        "timeouts": timeouts,
    }
    return plans.make(content, list(subjects), given)


def compare(
    *subjects: str,
    runs: str | PathLike[str] = "runs",
    listeners: Iterable[object] = (),
    say: Callable[[str], None] = lambda _: None,
    **planned: Any,
) -> Result:
    """Run a comparison and return its result; `result.run.folder` is where everything that was seen is kept.

    `planned`: what `plan` takes. `runs`: where the run folder is made. `listeners`: objects with `coebench.hooks.hookimpl`
    methods. `say`: is told a line when something long is done first. Raises BadInput before anything is made; a trial that
    fails is in the result (`result.measured`), it is no exception. Ctrl-C ends the run tidily and raises KeyboardInterrupt.
    """
    from .runner.run import Interrupted, Run

    run = Run(plan(*subjects, **planned), Path(runs), ["coebench.compare", *subjects], list(listeners), say)
    try:
        return run.execute()
    except Interrupted:
        raise KeyboardInterrupt from None


def read(run: str | PathLike[str]) -> Result:
    """The result of a run folder, or of a file that `--json` wrote. Raises BadInput if it is neither."""
    from .results import derive

    return derive.load(Path(run), _scenarios())


def _scenarios() -> dict[str, Scenario]:
    return {name: plugins.load("scenarios", name, "scenario")() for name in plugins.names("scenarios")}


def derive(run: str | PathLike[str]) -> Result:
    """The result of a run folder made anew from what was observed; the folder is left as it is. Raises BadInput."""
    from .results import derive as deriving

    return deriving.derive(Path(run), _scenarios())


def verify(run: str | PathLike[str]) -> Verified:
    """Whether a run folder is whole (`ok`), and each finding. Raises BadInput if it is no run, or one of a newer coebench."""
    from .results import verify as verifying

    return verifying.verify(Path(run), _scenarios())


def diff(
    a: str | PathLike[str],
    b: str | PathLike[str],
    match: Mapping[str, str] | None = None,
    margin: float = 0.1,
    anyway: bool = False,
    fail_if: Sequence[str] = (),
) -> Diff:
    """Two runs, figure by figure: is `b` better, worse, the same, or can't it be told?

    `match`: subjects of `a` → those of `b`, where names differ. `margin`: a share; what differs by less for certain is the
    same. `fail_if`: conditions, whose outcome is in `gates`. Raises BadInput for runs that can't be compared, unless `anyway`.
    """
    import msgspec

    from .results import comparable
    from .results import derive as deriving
    from .results import diff as diffing
    from .results import gates as conditions

    known = _scenarios()
    parsed = [conditions.parse(text) for text in fail_if]
    found = diffing.diff(
        deriving.load(Path(a), known),
        deriving.load(Path(b), known),
        comparable.manifest(Path(a)),
        comparable.manifest(Path(b)),
        match=match or {},
        margin=margin,
        anyway=anyway,
    )
    return msgspec.structs.replace(found, gates=diffing.judge(parsed, found, conditions.shorts(known)))


def history(folder: str | PathLike[str] = "runs", metric: str = "", margin: float = 0.1, every: bool = False) -> History:
    """How figures moved over the runs in a folder, each compared with the one before it. `metric`: as on the command line;
    `every`: all figures, not the first of each scenario alone. Raises BadInput."""
    from .results import history as histories

    return histories.history(Path(folder), _scenarios(), metric, margin, every)


def export(*runs: str | PathLike[str], to: str | PathLike[str], formats: Sequence[str] = ("csv",)) -> tuple[Path, ...]:
    """Write runs' figures as files for other programs into the folder `to`; the files. Raises BadInput."""
    from .report import export as exporting
    from .results import derive as deriving

    exporting.check(formats)
    known, paths = _scenarios(), [Path(run) for run in runs]
    return tuple(exporting.export([deriving.load(run, known) for run in paths], paths, formats, Path(to)))


def gates(result: Result, *conditions: str) -> tuple[Gate, ...]:
    """What becomes of conditions ("swarm.heal.node > 20s", as after --fail-if): `passed`, and why. Raises BadInput for one that
    is about nothing in the result."""
    from .results import gates as judging

    return judging.judge([judging.parse(text) for text in conditions], result, short=judging.shorts(_scenarios()))


def render(result: Result, format: str = "markdown") -> str:
    """A result as text: any format that `coebench report --format` takes. Raises BadInput for an unknown one."""
    out = io.StringIO()
    plugins.load("reporters", format, "format")().render(result, out)
    return out.getvalue()


def value(result: Result, metric: str, subject: str, **factors: str | int | float) -> Values:
    """What was measured of SCENARIO.METRIC for a column: median, interval, samples, and what is to be said of it.

    `factors` choose among rows ("instances=3"). Raises BadInput if there is no such row, or more than one.
    """
    scenario, _, name = metric.partition(".")
    rows = [m for m in result.metrics if (m.scenario, m.name) == (scenario, name)]
    if not rows:
        known = ", ".join(dict.fromkeys(f"{m.scenario}.{m.name}" for m in result.metrics))
        raise BadInput(f"the result has no metric '{metric}'; it has: {known}")
    found = [m for m in rows if factors.items() <= dict(m.factors).items()]
    if len(found) != 1:
        told = "; ".join(", ".join(f"{k}={v}" for k, v in m.factors.items()) for m in rows)
        raise BadInput(f"{metric}: {len(found)} rows have these factors; there are: {told}")
    if subject not in found[0].values:
        raise BadInput(f"the result has no column '{subject}'; it has: {', '.join(found[0].values)}")
    return found[0].values[subject]


def metrics(name: str = "") -> dict[str, Metric]:
    """Metrics by SCENARIO.METRIC: all, a scenario's, or the ones of a name. Raises BadInput if there is none."""
    found: dict[str, Metric] = {}
    for scenario in plugins.names("scenarios"):
        for m in plugins.load("scenarios", scenario, "scenario").metrics:
            if name in ("", scenario, m.name, f"{scenario}.{m.name}"):
                found[f"{scenario}.{m.name}"] = m
    if not found:
        raise BadInput(f"no metric or scenario '{name}'; scenarios: {', '.join(plugins.names('scenarios'))} (coebench explain)")
    return found


def drivers() -> tuple[plugins.Found, ...]:
    """All drivers that are installed, the broken ones with the reason."""
    return plugins.survey("drivers")


def check_driver(
    driver: str,
    provisioner: str = "lab",
    options: Mapping[str, str] | None = None,
    nodes: int = 2,
    only: Sequence[str] = (),
    patience: float = 60.0,
) -> Report:
    """The conformance suite on a bay of its own. `only`: behaviours or groups; `patience`: seconds a fact may take."""
    from .conformance import run_on
    from .sdk import checking

    names = checking.chosen(list(only))
    with checking.bench(driver, provisioner, nodes, options, patience) as bench:
        return run_on(bench, names)


def rights(coe: str, options: Mapping[str, str] | None = None) -> tuple[Right, ...]:
    """What coebench is allowed on a cluster that exists. Raises BadInput for options that can't do."""
    from .provision.existing import ExistingProvisioner

    giver = ExistingProvisioner()
    plugins.load("drivers", coe, "COE")
    spec = BaySpec(coe=coe, options=dict(options or {}))
    giver.check(spec)
    return giver.rights(spec)


def clean(provisioner: str = "lab", *, run: str = "", foreign: bool = False) -> tuple[str, ...]:
    """End and remove all that earlier runs left; returns what was removed. `run`, `foreign`: of provisioner magnum alone, as
    MagnumProvisioner.clean has them."""
    giver = plugins.load("provisioners", provisioner, "provisioner")()
    try:
        removed: tuple[str, ...] = giver.clean(run, foreign) if run or foreign else giver.clean()
    finally:  # what does not go keeps no keys
        keys = drop_private()
    return (*removed, f"the keys of {keys} processes that have ended") if keys else removed
