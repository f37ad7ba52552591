"""What a run is to do: from the command line, from a TOML file, or both; checked whole before anything is created."""

from __future__ import annotations

import math
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .. import plugins
from ..contract import BadInput, BaySpec

PROFILES = {"smoke": 1, "default": 5, "full": 5}  # name → blocks
SCENARIOS = ("deploy", "serve")  # of the profiles smoke and default; full has all that are installed (every_scenario)
MOST_BLOCKS = 100  # where a budget or a precision ends the run, and no number of blocks was given
MIB = 1 << 20


class BayPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bay of every subject that doesn't say otherwise. Memory in MiB a host."""

    nodes: int = 3
    cpu: float = 0.0
    memory: int = 3072
    timeouts: str = "stock"
    step_timeout: float = 120.0  # seconds that each step of a bay's making may take
    options: Mapping[str, str] = {}  # of the provisioner; a subject's own come on top


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A column: a COE with its options."""

    coe: str
    name: str = ""
    nodes: int | None = None
    cpu: float | None = None
    memory: int | None = None
    timeouts: str | None = None
    options: Mapping[str, str] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An effective plan. `settings`: scenario → setting → value, over the profile's."""

    subjects: tuple[Subject, ...]
    profile: str = "default"
    blocks: int = 0  # 0: the profile's; at most MOST_BLOCKS where a budget or precision is to end the run
    budget: float = 0.0  # seconds after which no block is begun that would not end in them; 0: none
    precision: float = 0.0  # stop when every interval is within ± this share of its median; 0: never
    seed: int = 0  # 0: drawn, and recorded
    provisioner: str = "lab"
    workload: str = "http"
    scenarios: tuple[str, ...] | None = None  # None: the profile's; never None in a plan that was checked
    bay: BayPlan = BayPlan()
    settings: Mapping[str, Mapping[str, Any]] = {}

    def spec(self, subject: Subject) -> BaySpec:
        """The bay of a subject."""

        def pick(name: str) -> Any:
            value = getattr(subject, name)
            return getattr(self.bay, name) if value is None else value

        return BaySpec(
            coe=subject.coe,
            nodes=pick("nodes"),
            cpu=pick("cpu"),
            memory=pick("memory") * MIB,
            timeouts=pick("timeouts"),
            options={**self.bay.options, **subject.options},
            step_timeout=self.bay.step_timeout,
        )

    def order(self) -> tuple[tuple[int, Subject], ...]:
        """Blocked and randomised: every block has each subject once, in an order drawn from the seed."""
        rng = random.Random(self.seed)
        order = []
        for block in range(1, self.blocks + 1):
            subjects = list(self.subjects)
            rng.shuffle(subjects)
            order += [(block, s) for s in subjects]
        return tuple(order)


_PLAIN = {"nodes": int, "cpu": float, "memory": int, "timeouts": str}


def subject(text: str) -> Subject:
    """A subject as it is written on the command line: [NAME=]COE[:OPTION=VALUE[,OPTION=VALUE…]]. Raises BadInput."""
    head, _, tail = text.partition(":")
    name, _, coe = head.rpartition("=")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", coe) or (name and not re.fullmatch(r"[A-Za-z0-9][\w .-]*", name)):
        raise BadInput(f"'{text}' is no subject: write COE, COE:option=value,… or NAME=COE:option=value,…")
    fields: dict[str, Any] = {}
    options: dict[str, str] = {}
    for part in filter(None, tail.split(",")):
        option, equals, value = part.partition("=")
        if not equals:
            raise BadInput(f"'{part}' in '{text}' is no option: write option=value")
        if option in _PLAIN:
            try:
                fields[option] = _PLAIN[option](value)
            except ValueError:
                raise BadInput(f"'{part}' in '{text}': {option} is a number") from None
        else:
            options[option] = value
    return Subject(coe=coe, name=name or text, options=options, **fields)


def read(file: Path) -> dict[str, Any]:
    """A plan file's content. Raises BadInput with the line that is wrong."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadInput(f"can't read the plan {file}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BadInput(f"the plan {file} is no TOML: {e}") from None


def make(file: Mapping[str, Any], subjects: Sequence[str], given: Mapping[str, Any]) -> Plan:
    """A plan from a file's content (may be empty), subjects and options of the command line, which win. Raises BadInput."""
    content = dict(file)
    listed = content.pop("subjects", [])
    if subjects:
        listed = list(subjects)
    parsed = []
    for s in listed:
        try:
            parsed.append(subject(s) if isinstance(s, str) else msgspec.convert(s, Subject))
        except msgspec.ValidationError as e:
            raise BadInput(f"the plan's subjects: {e}") from None
    given = dict(given)
    if isinstance(given.get("blocks"), int) and given["blocks"] < 1:  # in a file 0 says: as the profile has it
        raise BadInput(f"trials are 1 to 1000, not {given['blocks']}")
    instances, aa = given.pop("instances", None), given.pop("aa", False)
    content.update({k: v for k, v in given.items() if v is not None and k not in _PLAIN})
    bay = {**content.pop("bay", {}), **{k: v for k, v in given.items() if v is not None and k in _PLAIN}}
    try:
        plan = msgspec.convert({**content, "bay": bay, "subjects": []}, Plan)
    except msgspec.ValidationError as e:
        raise BadInput(f"the plan: {e}") from None
    named = tuple(msgspec.structs.replace(s, name=s.name or s.coe) for s in parsed)
    plan = msgspec.structs.replace(plan, subjects=twice(named) if aa else named)
    return check(plan if instances is None else with_instances(plan, instances))


def twice(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """One subject as two columns: what a comparison finds between them is noise. Raises BadInput for more than one."""
    if len(subjects) != 1:
        raise BadInput(f"--aa compares one subject with itself: name one, not {len(subjects)}")
    (one,) = subjects
    return tuple(msgspec.structs.replace(one, name=f"{one.name} {letter}") for letter in "AB")


def with_instances(plan: Plan, instances: Sequence[int]) -> Plan:
    """The same numbers of instances for every scenario that has such a setting. Raises BadInput if one takes a single number
    and several are given, or if none has the setting."""
    settings = {name: dict(s) for name, s in plan.settings.items()}
    used = False
    for name in scenarios_of(plan):
        scenario = plugins.load("scenarios", name, "scenario")()
        own = scenario.settings(_profile(plan.profile))
        if "instances" not in own:
            continue
        used = True
        single = not isinstance(own["instances"], list) and len(instances) == 1
        given = instances[0] if single else list(instances)
        if isinstance(given, list) and not isinstance(own["instances"], list):
            try:  # some take a number or a list of them
                scenario.check({**own, "instances": given}, plan.bay.nodes)
            except BadInput:
                raise BadInput(
                    f"--instances has {len(instances)} numbers, {name} takes one: give one, or leave {name} out of --scenarios"
                ) from None
        settings.setdefault(name, {})["instances"] = given
    if not used:
        raise BadInput(f"--instances: none of {', '.join(scenarios_of(plan))} has such a setting")
    return msgspec.structs.replace(plan, settings=settings)


def scenarios_of(plan: Plan) -> tuple[str, ...]:
    """The plan's scenarios, or its profile's. Raises BadInput."""
    if plan.scenarios is not None:
        return plan.scenarios
    return every_scenario() if plan.profile == "full" else SCENARIOS


def every_scenario() -> tuple[str, ...]:
    """The names of all that are installed, in the order in which `full` runs them: one bay has them all.

    First those that want a bay in which nothing has happened, last those after which the engine is not as it was;
    between them `deploy` and `serve`, as in the other profiles, and the others by name. A stranger's that
    says nothing of it is one of these. Raises BadInput.
    """

    def place(name: str) -> tuple[int, int, str]:
        scenario = plugins.load("scenarios", name, "scenario")
        wear = 2 if getattr(scenario, "spoils", False) else 0 if getattr(scenario, "unspoilt", False) else 1
        return wear, SCENARIOS.index(name) if name in SCENARIOS else len(SCENARIOS), name

    return tuple(sorted(plugins.names("scenarios"), key=place))


def _profile(name: str) -> str:
    if name not in PROFILES:
        raise BadInput(f"unknown profile '{name}'; known: {', '.join(PROFILES)}")
    return name


def finite(value: Any, name: str = "") -> None:
    """Raise BadInput, naming it, for a number within a plan that is none (nan, inf) or that no 64 bits hold."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            finite(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value, 1):
            finite(inner, f"{name}, number {position}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"'{name.removeprefix('settings.')}' is {value}, which nothing can be measured with: give a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise BadInput(f"'{name.removeprefix('settings.')}' is too large a number: give one below 2^63")


def check(plan: Plan) -> Plan:
    """Fill in what is drawn or the profile's. Raises BadInput for anything that makes no sense."""
    if not plan.subjects:
        raise BadInput(f"nothing to compare: name COEs, such as {' '.join(plugins.names('drivers'))}")
    _profile(plan.profile)
    finite(msgspec.to_builtins(plan))
    known = plugins.names("drivers")
    for s in plan.subjects:
        if s.coe not in known:
            raise BadInput(f"unknown COE '{s.coe}'; known: {', '.join(known)}")
    seen: set[str] = set()
    for s in plan.subjects:
        if s.name in seen:
            raise BadInput(f"'{s.name}' is given twice: a column each, or give them names: a={s.coe}:… b={s.coe}:…")
        seen.add(s.name)
    for name, value, most in (("budget", plan.budget, 1e7), ("precision", plan.precision, 10)):
        if not 0 <= value <= most:
            raise BadInput(f"'{name}' is a number from 0 (none) to {most:g}, not {value:g}")
    blocks = plan.blocks or (MOST_BLOCKS if plan.budget or plan.precision else PROFILES[plan.profile])
    if not 1 <= blocks <= 1000:
        raise BadInput(f"trials are 1 to 1000, not {blocks}")
    if plan.precision and blocks < 2:
        raise BadInput("a precision takes intervals, and one trial has none: more --trials, or no --precision")
    settings = {}
    scenarios = scenarios_of(plan)
    if not scenarios:
        raise BadInput("a plan without scenarios measures nothing")
    for name in scenarios:
        if scenarios.count(name) > 1:
            raise BadInput(f"scenario '{name}' is named twice: once is one trial in every block; more blocks are --trials")
        scenario = plugins.load("scenarios", name, "scenario")()
        mine = dict(scenario.settings(plan.profile))
        for key, value in plan.settings.get(name, {}).items():
            if key not in mine:
                raise BadInput(f"{name} has no setting '{key}' (it has: {', '.join(mine)})")
            mine[key] = value
        nodes = min(plan.spec(s).nodes for s in plan.subjects)
        scenario.check(mine, nodes)
        for tool in mine.get("cross_check", ()):
            plugins.load("generators", tool, "generator")
        settings[name] = mine
    for name in plan.settings:
        if name not in scenarios:
            raise BadInput(f"settings for '{name}', which the plan doesn't run")
    return msgspec.structs.replace(
        plan,
        blocks=blocks,
        seed=plan.seed or random.SystemRandom().randrange(1, 2**31),
        scenarios=scenarios,
        settings=settings,
    )
