"""A run: all trials of one comparison, in the plan's order; whatever happens, what was seen is kept and the bays go."""

from __future__ import annotations

import contextlib
import resource
import secrets
import signal
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pluggy

from .. import __version__, machine, plugins
from ..contract import (
    BadInput,
    Bay,
    BayFailed,
    Capability,
    CoebenchError,
    Driver,
    HoldingPort,
    Observation,
    Observe,
    PhaseTimeout,
    Provisioner,
    Scenario,
    TimeoutsGiven,
    ToolsWanted,
    Unsupported,
    Workload,
    now,
)
from ..hooks import Outcome, TrialInfo, manager
from ..load.prober import BayProber
from ..results import derive as deriving
from ..results import folder as folders
from ..results.model import Result
from ..signals import endings
from . import fit
from .baseline import Baseline
from .bays import TrialBays, clean
from .connecting import connect
from .journal import FileJournal, JournaledDriver
from .plan import Plan, Subject, scenarios_of
from .stopping import Stopping
from .trial import TrialRun

PROBER_TIMEOUT = 90.0
SLUG = 24  # characters of a subject's name; names of bays, and so of folders and hosts, are made of it


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP: the run ends, tidily, at once."""


class Run:
    """One run of a plan. `plugin` objects listen to its hooks."""

    def __init__(self, plan: Plan, base: Path, command: list[str], listeners: list[object], say: Callable[[str], None]) -> None:
        self.plan = plan
        self.id = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
        self.command = command
        self._base = base
        self._say = say
        self._listeners = listeners
        self._lock = threading.Lock()
        self._telling = self._interrupted = False
        self._up: set[str] = set()  # bays that were asked for and are not known to be gone
        self._slugs = _slugs([s.name for s in plan.subjects])
        self._hooks: pluggy.PluginManager = manager()
        self._cpu: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        names = scenarios_of(plan)
        self.scenarios: dict[str, Scenario] = {n: plugins.load("scenarios", n, "scenario")() for n in names}
        self.workload: Workload = plugins.load("workloads", plan.workload, "workload")
        self._loadgen: Workload = plugins.load("workloads", "loadgen", "workload")
        self.provisioner: Provisioner = plugins.load("provisioners", plan.provisioner, "provisioner")()
        self._drivers = {s.coe: plugins.load("drivers", s.coe, "COE") for s in plan.subjects}

    def execute(self) -> Result:
        """Run the plan. Raises BadInput before anything is created; after that every trouble is in the result."""
        provisioner = self.provisioner
        if not isinstance(provisioner, HoldingPort):
            return self._execute()
        provisioner.free()  # first: what another run has up is not left over
        try:
            return self._execute()
        finally:
            provisioner.release()

    def _execute(self) -> Result:
        plan = self.plan
        for subject in plan.subjects:
            self.provisioner.check(plan.spec(subject))
        fit.check(plan, self.scenarios, self.provisioner, self.workload)
        if left := self.provisioner.leftovers():
            raise BadInput(
                f"up, or left by an earlier run: {', '.join(left[:3])}; {clean(plan.provisioner)} takes all of it away"
            )
        self.provisioner.prepare(tuple(dict.fromkeys(s.coe for s in plan.subjects)), self._say)
        self.folder = folders.create(self._base, self.id)
        self._journal = FileJournal(self.folder / "journal.jsonl")
        recorder = folders.Recorder(self.folder)
        self._hooks.register(recorder)
        for listener in self._listeners:
            self._hooks.register(listener)
        for name in plugins.names("hooks"):
            self._hooks.register(plugins.load("hooks", name, "hook")())
        order = plan.order()
        self._infos = self._trials(order)
        self._call("run_started", run=self.id, folder=str(self.folder), manifest=self._manifest())
        begun, cpu = time.monotonic(), _cpu()
        interrupted = False
        try:
            with self._signals():
                self._blocks(order)
        except Interrupted:
            interrupted = True
        finally:
            for name in sorted(self._up):  # a second signal came while the first was met
                self._delete(None, name, self._observe(name))
        wall = time.monotonic() - begun
        self._observe("")(
            "harness.cpu",
            cores=(_cpu() - cpu) / wall,
            wall=wall,
            by_scenario={name: c / w for name, (c, w) in self._cpu.items() if w},
        )
        self._journal.close()
        result = deriving.derive(self.folder, self.scenarios)
        self._call("run_ended", run=self.id, result=result)
        recorder.close()
        if interrupted:
            raise Interrupted
        return result

    def _blocks(self, order: tuple[tuple[int, Subject], ...]) -> None:
        """Block by block, until the plan's end or until there is enough."""
        stopping = Stopping(self.plan)
        for block in range(1, self.plan.blocks + 1):
            for b, subject in order:
                if b == block:
                    self._bay(block, subject)
            if reason := stopping.reason(block, lambda: deriving.derive(self.folder, self.scenarios)):
                left = [i.id for i in self._infos if i.block > block]
                self._observe("")("run.stopped", block=block, reason=reason, left_out=left)
                return

    # one bay after the other

    def _bay(self, block: int, subject: Subject) -> None:
        """All scenarios of one subject in one block: on one bay, unless a failed trial makes a new one needful."""
        waiting = [i for i in self._infos if i.block == block and i.subject == subject.name]
        for info in [i for i in waiting if getattr(self.scenarios[i.scenario], "makes_bays", False)]:
            waiting.remove(info)
            self._own_bays(info, subject)
        attempt = 0
        while waiting:
            name = f"{self.id}-b{block}-{self._slugs[subject.name]}" + (f"-{attempt}" if attempt else "")
            attempt += 1
            waiting = self._on_bay(name, subject, waiting)

    def _on_bay(self, name: str, subject: Subject, waiting: list[TrialInfo]) -> list[TrialInfo]:
        """Run trials on a new bay of this name until one fails; returns those that need another bay."""
        observe = self._observe(name)
        waiting = [msgspec.structs.replace(i, bay=name) for i in waiting]
        spec = self.plan.spec(subject)
        observe("bay.creating", subject=subject.name, coe=subject.coe)
        bay: Bay | None = None
        begun = time.monotonic()
        try:
            self._up.add(name)
            bay = self.provisioner.create(name, spec, self._journal, observe)
            with self.provisioner.network(bay):
                driver = connect(self._drivers[subject.coe], self.provisioner.access(bay))
                try:
                    engine = driver.info()
                    observe("bay.ready", subject=subject.name, bay=msgspec.to_builtins(bay), engine=msgspec.to_builtins(engine))
                    journaled: Any = JournaledDriver(driver, self._journal, self.provisioner.name, name)
                    prober = BayProber(journaled, self._loadgen, self._runs_tools())
                    try:
                        prober.start(PROBER_TIMEOUT)
                        offset, uncertainty = prober.offset()
                        observe("prober.ready", offset=offset, uncertainty=uncertainty, generators=list(prober.generators()))
                        baseline = Baseline(journaled)
                        while waiting:
                            info = waiting.pop(0)
                            outcome = self._trial(info, bay, journaled, prober, baseline, last=not waiting)
                            if outcome.status not in ("ok", "skipped") or outcome.flag:
                                break
                    finally:
                        prober.close()
                finally:
                    driver.close()
        except Exception as e:  # whatever it is, it must not cost the other subjects' trials
            self._broken(waiting, bay, name, e, time.monotonic() - begun)
            waiting = []
        finally:
            self._delete(bay, name, observe)
        return waiting

    def _own_bays(self, info: TrialInfo, subject: Subject) -> None:
        """A trial of a scenario that makes its bays itself."""
        prefix = f"{self.id}-b{info.block}-{self._slugs[subject.name]}"
        bays = TrialBays(self.provisioner, prefix, self.plan.spec(subject), self._journal)
        nothing: Any = None
        try:
            outcome = self._trial(msgspec.structs.replace(info, bay=prefix), nothing, nothing, nothing, None, bays)
            for name, label in bays.wrong(outcome.status in ("failed", "timeout")):
                self._logs(name, f"{info.id}/{label}")
        finally:
            with _patient():
                bays.close(self._observe(info.id))

    def _broken(self, waiting: list[TrialInfo], bay: Bay | None, name: str, error: Exception, seconds: float) -> None:
        """A bay that did not become ready, or whose engine is gone: its trials failed, each for that reason."""
        expected = isinstance(error, CoebenchError | OSError)
        evidence = getattr(error, "evidence", "") if expected else "".join(traceback.format_exception(error, limit=-6))
        reason = f"bay: {error}" if expected else f"bay: {type(error).__name__}: {error}"
        self._logs(bay or name, name)
        for info in waiting:
            self._call("trial_started", trial=info)
            outcome = Outcome(status="failed", seconds=seconds, reason=reason, evidence=evidence)
            self._call("trial_ended", trial=info, outcome=outcome)

    def _trial(
        self,
        info: TrialInfo,
        bay: Bay,
        driver: Any,
        prober: BayProber,
        baseline: Baseline | None,
        bays: TrialBays | None = None,
        last: bool = False,
    ) -> Outcome:
        """`last`: the bay is deleted next, so nothing has to wait until it is as it was."""
        scenario = self.scenarios[info.scenario]
        observe = self._observe(info.id)
        begun, cpu = time.monotonic(), _cpu()
        status, reason, evidence = "ok", "", ""
        try:
            self._call("trial_started", trial=info)
            lacking = "" if bays else _lacking(scenario, driver)
            if lacking:
                status, reason = "skipped", lacking
            else:
                trial = TrialRun(
                    info.id,
                    bay,
                    driver,
                    prober,
                    self.workload,
                    self.plan.settings[info.scenario],
                    observe,
                    (lambda: None) if bays else lambda: self._alive(bay),
                    seed=self.plan.seed,
                    provisioner=self.provisioner,
                    bays=bays,
                    tools=self._loadgen,
                    last=last,
                    journal=self._journal,
                )
                scenario.run(trial)
        except PhaseTimeout as e:
            status, reason = "timeout", str(e)
        except Unsupported as e:
            status, reason = "skipped", str(e)
        except Interrupted:
            self._call("trial_ended", trial=info, outcome=Outcome(status="interrupted", seconds=time.monotonic() - begun))
            raise
        except CoebenchError as e:
            status, reason, evidence = "failed", str(e), getattr(e, "evidence", "")
        except Exception as e:  # a bug in a driver or scenario must not cost the other trials
            status, reason, evidence = "failed", f"{type(e).__name__}: {e}", traceback.format_exc(limit=-6)
        if status in ("failed", "timeout") and not evidence and not bays:
            try:
                self._alive(bay)
            except BayFailed as e:  # the engine's end explains the rest
                reason, evidence = f"{e}; then {reason}", e.evidence
        if status in ("failed", "timeout") and not bays:
            self._logs(bay, info.id)
        seconds = time.monotonic() - begun
        self._cpu[info.scenario][0] += _cpu() - cpu
        self._cpu[info.scenario][1] += seconds
        flag = ""
        if status in ("ok", "skipped") and baseline and not last and (said := baseline.differences()):
            flag = f"the bay did not return to its baseline: {said}; what follows gets a new one"
            observe("bay.unclean", what=said)
        outcome = Outcome(status=status, seconds=seconds, reason=reason, evidence=evidence, flag=flag)
        self._call("trial_ended", trial=info, outcome=outcome)
        return outcome

    def _runs_tools(self) -> bool:
        """Whether a scenario of this run starts programs beside the prober; in all other runs the prober refuses to."""
        return any(isinstance(s, ToolsWanted) and s.runs_tools(self.plan.settings[n]) for n, s in self.scenarios.items())

    def _alive(self, bay: Bay) -> None:
        self.provisioner.describe(bay)

    def _logs(self, bay: Bay | str, name: str) -> None:
        with contextlib.suppress(Exception):  # of a client library too: logs are worth no trial
            self.provisioner.save_logs(bay, self.folder / folders.LOGS / name)

    def _delete(self, bay: Bay | None, name: str, observe: Observe) -> None:
        """The bay goes, whatever comes meanwhile and whether or not it can be told: a disk that is full keeps no bay up."""

        def tell(name: str, *, at: float | None = None, **data: Any) -> None:
            with contextlib.suppress(Exception):
                observe(name, at=at, **data)

        with _patient():
            tell("bay.deleting")
            try:
                self.provisioner.delete(bay or name, self._journal, tell)
            except Exception as e:  # of a client library too
                # The results stand; what is left is said, and `clean` finds it.
                told = e if isinstance(e, CoebenchError | OSError) else f"{type(e).__name__}: {e}"
                tell("warning", text=f"clean-up of bay {name} failed: {told}; run {clean(self.plan.provisioner)}")
            self._up.discard(name)
        tell("bay.deleted")

    # telling

    def _observe(self, trial: str) -> Observe:
        def observe(name: str, *, at: float | None = None, **data: Any) -> None:
            self._call("observed", observation=Observation(at=now() if at is None else at, name=name, trial=trial, data=data))

        return observe

    def _call(self, hook: str, **kw: Any) -> None:
        """Tell all listeners, each by itself: one that raises is left out from then on. The recorder alone may end a run.

        A signal that comes meanwhile counts when all are told: no fact reaches one listener and not the next.
        """
        main = threading.current_thread() is threading.main_thread()
        if main:
            self._telling = True
        try:
            self._tell(hook, kw)
        finally:
            if main:
                self._telling = False
        if main and self._interrupted:
            self._interrupted = False
            raise Interrupted

    def _tell(self, hook: str, kw: Mapping[str, Any]) -> None:
        with self._lock:
            for plugin in list(self._hooks.get_plugins()):
                others = [p for p in self._hooks.get_plugins() if p is not plugin]
                caller = self._hooks.subset_hook_caller(hook, others)
                try:
                    caller(**kw)
                except Exception as e:
                    if isinstance(plugin, folders.Recorder):
                        raise
                    self._hooks.unregister(plugin)
                    self._say(f"{type(plugin).__name__} failed in {hook} and is left out from now on: {type(e).__name__}: {e}")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP raise Interrupted in the main thread, but not while listeners are being told of a fact."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def came(number: int, frame: object) -> None:
            if self._telling:
                self._interrupted = True
            else:
                raise Interrupted

        old = {s: signal.signal(s, came) for s in endings()}
        try:
            yield
        finally:
            for s, handler in old.items():
                signal.signal(s, handler)

    def _trials(self, order: tuple[tuple[int, Subject], ...]) -> list[TrialInfo]:
        total = len(order) * len(self.scenarios)
        infos: list[TrialInfo] = []
        for block, subject in order:
            for scenario in self.scenarios:
                infos.append(
                    TrialInfo(
                        id=f"b{block}.{self._slugs[subject.name]}.{scenario}",
                        block=block,
                        subject=subject.name,
                        coe=subject.coe,
                        scenario=scenario,
                        bay="",
                        position=len(infos) + 1,
                        of=total,
                    )
                )
        return infos

    def _manifest(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "schema": folders.RUN_SCHEMA,
            "run": self.id,
            "version": __version__,
            "started": now(),
            "command": self.command,
            "seed": plan.seed,
            "profile": plan.profile,
            "blocks": plan.blocks,
            "host": machine.facts(),
            "subjects": [msgspec.to_builtins(s) for s in plan.subjects],
            "plan": msgspec.to_builtins(plan),
            "timeouts": self._timeouts(),
            "order": [i.id for i in self._infos],
        }

    def _timeouts(self) -> dict[str, dict[str, str]]:
        """Subject → the timeouts that its bays will have, as far as the provisioner knows before it makes one."""
        if not isinstance(self.provisioner, TimeoutsGiven):
            return {}
        return {s.name: dict(self.provisioner.timeouts(self.plan.spec(s))) for s in self.plan.subjects}


def _lacking(scenario: Scenario, driver: Driver) -> str:
    """Why a driver can't do a scenario; empty if it can."""
    have = driver.capabilities()
    for need in sorted(scenario.needs):
        support = have.get(Capability(need))
        if support is None or not support.ok:
            return f"{driver.title} lacks '{need}': {support.reason if support else 'its driver does not say'}"
    return ""


def _slugs(names: Sequence[str]) -> Mapping[str, str]:
    """For each subject's name a word that can be part of a bay's or trial's name; no two have the same."""
    found: dict[str, str] = {}
    for name in names:
        whole = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "subject"
        word, n = whole[:SLUG], 1
        while word in found.values():
            n += 1
            word = f"{whole[: SLUG - 1 - len(str(n))]}-{n}"
        found[name] = word
    return found


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Clean-up is not interrupted: a signal that comes meanwhile counts when it is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    old = {s: signal.signal(s, lambda number, frame: came.append(number)) for s in endings()}
    try:
        yield
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)
        if came:
            raise Interrupted
