"""A scenario: one question put to a bay. Written against the ports alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from .bay import Bay, NodeFault
from .bays import Bays
from .capability import Capability
from .driver import Driver
from .metric import Metric, Sample
from .observation import Observation, Observe
from .prober import Prober
from .registry import ImageRegistry
from .service import Instance, Workload
from .usage import Usage


class Trial(Protocol):
    """What a scenario is given: one bay, one driver, one prober, for one repetition."""

    id: str
    seed: int  # of all that is drawn in this trial (pauses): from the plan's seed and the trial's id
    bay: Bay
    driver: Driver
    prober: Prober
    workload: Workload
    bays: Bays  # for scenarios that make their bays themselves (`makes_bays`): they have this, but no bay, driver or prober
    tools: Workload  # what the prober runs in: its image has haproxy, iperf3 and sockperf too, for services of a scenario's own
    settings: Mapping[str, Any]  # the scenario's settings for this run (`Scenario.settings` with the plan's changes)
    observe: Observe

    def phase(self, name: str, timeout: float) -> AbstractContextManager[Deadline]:
        """A named part of the trial with a time limit: observed when it begins and ends, shown as progress.

        A PhaseTimeout that leaves it is observed as such and ends the trial; the samples are censored.
        """

    def remove(self, service: str) -> None:
        """Remove a service and wait until nothing of it is listed any more: the bay is at its baseline again."""

    def leave(self, service: str) -> None:
        """Remove a service at the trial's end: as `remove`, but nothing is waited for where the bay is deleted next."""

    def fail(self, host: str, fault: NodeFault) -> None:
        """Make a host fail; returns when it has. The scenario heals it before it returns. Raises Unsupported."""

    def heal(self, host: str) -> None:
        """Undo `fail`."""

    def end(self, instance: Instance) -> tuple[float, str]:
        """End one instance's processes, behind its engine's back where that can be done; returns when, on the harness's
        clock, and how it was done. Raises Unsupported, EngineError."""

    def usage(self) -> tuple[Usage, ...]:
        """What the processes of the bay's hosts have used so far. Raises Unsupported where the provisioner can't tell."""

    def registry(self) -> AbstractContextManager[ImageRegistry]:
        """While entered, a registry that the bay's engine pulls from. Raises Unsupported where there can be none."""


class Deadline(Protocol):
    """The time that is left of a phase."""

    def left(self) -> float:
        """Seconds left. Raises PhaseTimeout when none are."""

    def waiting_for(self, what: str) -> None:
        """What the timeout's message will name."""


class Scenario(Protocol):
    """One question. `run` asks and observes; `derive` turns the recorded observations, and nothing else, into samples.

    More attributes may be there. `makes_bays = True`: its trials are given no bay but make their own (`Trial.bays`).
    `unspoilt = True`: it wants a bay in which nothing has happened, and comes first where the order is not the user's.
    `spoils = True`: it restarts engine processes or wears the bay, and comes last there.
    `published`: sentences of what others published for the same question, with their source, shown below the table.
    `short`: short names for gates, and what each stands for: `{"cut": "full_capacity[fault=cut]"}`; `|` parts values.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    needs: ClassVar[frozenset[Capability]]

    def settings(self, profile: str) -> Mapping[str, Any]:
        """The settings of a profile ("smoke", "default", "full"), by name: what a plan file may change."""

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        """Raise BadInput if the settings make no sense or can't fit a bay of that size."""

    def run(self, trial: Trial) -> None:
        """Put the question once."""

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        """The samples that one trial's observations show; a failed trial's too, as far as it got."""
