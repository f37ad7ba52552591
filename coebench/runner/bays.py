"""Bays for a scenario that makes them itself: named for the trial, and deleted at its end whatever became of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ..contract import Bay, BayFailed, BaySpec, CoebenchError, Journal, Observe, Provisioner, Unsupported, UpgradingPort

AT_ONCE = 20  # bays that are deleted at the same time


def clean(provisioner: str) -> str:
    """The command that takes away what is left of a provisioner's bays."""
    return "coebench clean" if provisioner == "lab" else f"coebench clean --provisioner {provisioner}"


class TrialBays:
    """The contract's Bays."""

    def __init__(self, provisioner: Provisioner, prefix: str, spec: BaySpec, journal: Journal) -> None:
        self._provisioner = provisioner
        self._prefix = prefix
        self._spec = spec
        self._journal = journal
        self._lock = threading.Lock()
        self._there: set[str] = set()
        self._wrong: set[str] = set()  # of which a step failed
        self._closed = False

    def create(self, label: str, nodes: int, observe: Observe) -> Bay:
        name = f"{self._prefix}-{label}"
        with self._lock:
            if self._closed:
                raise BayFailed(f"bay {name}: its trial has ended")
            self._there.add(name)
        with self._step(name, observe):
            return self._provisioner.create(name, msgspec.structs.replace(self._spec, nodes=nodes), self._journal, observe)

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        with self._step(bay.name, observe):
            return self._provisioner.resize(bay, nodes, observe)

    def replace_node(self, bay: Bay, node: str, observe: Observe) -> Bay:
        with self._step(bay.name, observe):
            return self._provisioner.replace_node(bay, node, observe)

    def refuses(self) -> Mapping[str, str]:
        if isinstance(self._provisioner, UpgradingPort):
            return self._provisioner.refuses(self._spec)
        return {"upgrade": f"the provisioner '{self._provisioner.name}' upgrades no bays"}

    def upgrade(self, bay: Bay, observe: Observe) -> Bay:
        if not isinstance(self._provisioner, UpgradingPort):
            raise Unsupported("upgrading a bay", f"the provisioner '{self._provisioner.name}' can't")
        with self._step(bay.name, observe):
            return self._provisioner.upgraded(bay, observe)

    def delete(self, bay: Bay, observe: Observe) -> None:
        with self._step(bay.name, observe):
            self._provisioner.delete(bay, self._journal, observe)
        with self._lock:
            self._there.discard(bay.name)

    @contextlib.contextmanager
    def _step(self, name: str, observe: Observe) -> Iterator[None]:
        """One step of a bay's life. One that ends after the trial was given up may have made again what `close` took away."""
        try:
            yield
        except Unsupported:
            raise
        except Exception:
            with self._lock:
                self._wrong.add(name)
            raise
        finally:
            if self._closed:
                self._delete(name, observe)

    def wrong(self, every: bool) -> list[tuple[str, str]]:
        """Of the bays that are there still those of which a step failed, or `every` one: name and label. Their logs are worth
        keeping; not before the trial's end, since what that costs would be measured with the other bays."""
        with self._lock:
            names = sorted(self._there if every else self._there & self._wrong)
        return [(name, name.removeprefix(f"{self._prefix}-")) for name in names]

    def close(self, observe: Observe) -> None:
        """Delete what is there still; those that are just being made go too."""
        with self._lock:
            self._closed = True
            names = sorted(self._there)
        if names:
            with ThreadPoolExecutor(min(len(names), AT_ONCE), thread_name_prefix="closing") as pool:
                list(pool.map(self._delete, names, [observe] * len(names)))

    def _delete(self, name: str, observe: Observe) -> None:
        try:
            self._provisioner.delete(name, self._journal, observe)
            with self._lock:
                self._there.discard(name)
        except Exception as e:  # of a client library too: it is told, and the other bays go
            told = e if isinstance(e, CoebenchError | OSError) else f"{type(e).__name__}: {e}"
            observe("warning", text=f"clean-up of bay {name} failed: {told}; run {clean(self._provisioner.name)}")
