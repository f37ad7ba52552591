"""What a run tells the outside, as pluggy hooks: the recorder, the progress display and every exporter listen here.

A trial's code never prints and never writes a file. A hook that raises is reported and left out from then on; it can't
end a run (the recorder alone can: a run that isn't recorded is not worth having). Hooks are called one at a time, under a
lock, from whichever thread made the observation; they must return quickly.

    from coebench.hooks import hookimpl

    class Mine:
        @hookimpl
        def observed(self, observation): ...

An entry point of the group `coebench.hooks` that names such a class is registered with every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import pluggy

from .contract import Observation

if TYPE_CHECKING:
    from .results.model import Result

PROJECT = "coebench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class TrialInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which trial: one scenario on one bay of one subject in one block."""

    id: str  # "b2.swarm.deploy"
    block: int  # from 1
    subject: str  # the column
    coe: str
    scenario: str
    bay: str
    position: int  # place in the whole run's order, from 1
    of: int  # trials in the plan


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a trial ended. `status`: "ok", "failed" (with `reason`), "timeout" (a phase's limit: samples are censored),
    "skipped" (the driver can't do it, with `reason`), "interrupted"."""

    status: str
    seconds: float
    reason: str = ""
    evidence: str = ""  # tail of a log
    flag: str = ""  # what a reader must know of a trial that is ok all the same: its bay was not as before


class Hooks:
    """The specifications."""

    @hookspec
    def run_started(self, run: str, folder: str, manifest: Mapping[str, Any]) -> None:
        """The plan is fixed, nothing is created yet. `folder` is the run folder's path."""

    @hookspec
    def trial_started(self, trial: TrialInfo) -> None:
        """The bay is up and at its baseline."""

    @hookspec
    def observed(self, observation: Observation) -> None:
        """A fact, as it happened. `observation.trial` is a trial's id, a bay's name, or empty."""

    @hookspec
    def trial_ended(self, trial: TrialInfo, outcome: Outcome) -> None:
        """Also for trials that could not begin."""

    @hookspec
    def run_ended(self, run: str, result: Result) -> None:
        """All is cleaned up and derived; `result` is what every report is made from."""


def manager() -> pluggy.PluginManager:
    """A manager that knows the specifications and has no plug-in yet."""
    pm = pluggy.PluginManager(PROJECT)
    pm.add_hookspecs(Hooks)
    return pm
