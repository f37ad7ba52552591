"""The provisioner `existing`: a bay is what is there already, and it is left as it was found."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import platformdirs

from ... import plugins
from ...contract import (
    Access,
    BadInput,
    Bay,
    BayFailed,
    BaySpec,
    CoebenchError,
    Driver,
    EngineError,
    EngineInfo,
    Host,
    InstanceState,
    Journal,
    Leaves,
    NodeFault,
    Observe,
    Resource,
    Right,
    Role,
    Unsupported,
    own_folder,
)
from . import kubeconfig, options, rights

GONE = 120.0  # seconds that coebench's services may take to go
AGAIN = 20.0  # seconds for which a clean-up that an engine refuses is tried again
HOOK = 120.0  # seconds that a node's command may take
FAULTS = (NodeFault.CRASH, NodeFault.CUT)  # what a node's command is asked for
NOTE = "an existing cluster: its settings, its size and what else runs on it are its own"

INSECURE = "its API server's certificate is not checked: the kubeconfig says insecure-skip-tls-verify"


class ExistingProvisioner:
    """Gives bays that exist. Each is written down in the user's state folder while coebench has something there."""

    name: ClassVar[str] = "existing"

    def __init__(self) -> None:
        self.strict = True  # False: for a driver that is being written, whose every method may fail
        self._specs: list[BaySpec] = []
        self._open: dict[str, Driver] = {}  # bay → a connection to look at it with
        self._access: dict[str, Access] = {}
        self._notes: dict[str, tuple[Path, bool]] = {}  # bay → where it is written down, and whether it was before

    def check(self, spec: BaySpec) -> None:
        """Options, files and certificates; nothing is connected yet."""
        options.access(spec.coe, _by(spec.coe), spec.options)
        if spec.timeouts != "stock":
            raise BadInput(f"an existing bay's timeouts are its own: '{spec.timeouts}' can't be had, leave timeouts out")
        if spec not in self._specs:
            self._specs.append(spec)

    def prepare(self, coes: tuple[str, ...], say: Callable[[str], None]) -> None:
        """Ask for the rights of each bay first. Raises BadInput with those that are lacking."""
        for spec in self._specs if self.strict else ():
            lacking = [r for r in self.rights(spec) if r.needed and not r.ok]
            if lacking:
                told = "; ".join(f"{r.what} ({r.said})" if r.said else r.what for r in lacking[:4])
                more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
                raise BadInput(f"{spec.coe}: not allowed: {told}{more}; coebench doctor --provisioner existing lists all rights")

    def rights(self, spec: BaySpec) -> tuple[Right, ...]:
        """Each right that a bay's access has or lacks. Raises BadInput for options that can't do."""
        driver = plugins.load("drivers", spec.coe, "COE")
        return rights.of(driver, options.access(spec.coe, _by(spec.coe), spec.options))

    def create(self, name: str, spec: BaySpec, journal: Journal, observe: Observe) -> Bay:
        """Connect. What coebench left there before is taken away first; BayFailed if it stays."""
        access = options.access(spec.coe, _by(spec.coe), spec.options)
        journal.creating(Resource(kind="bay", id=name, provisioner=self.name))
        file = _file(spec)
        self._notes[name] = (file, file.exists())
        own_folder(file.parent)
        file.write_bytes(msgspec.json.encode(spec))
        driver: Driver = plugins.load("drivers", spec.coe, "COE").connect(access)
        self._open[name], self._access[name] = driver, access
        observe("bay.api")
        with self._forgiving():
            _empty(driver)
        info = EngineInfo(engine=driver.title, version="?")
        with self._forgiving():
            info = driver.info()
        try:
            nodes = tuple(Host(name=n.name, role=Role.NODE, address=n.address) for n in driver.nodes())
            notes: tuple[str, ...] = (NOTE,)
        except EngineError as e:
            nodes, notes = (), (NOTE, f"its nodes can't be listed ({e.said or e})")
        if access.kubeconfig and kubeconfig.insecure(access.kubeconfig):
            notes = (*notes, INSECURE)
        observe("bay.nodes")
        return Bay(
            name=name,
            spec=spec,
            provisioner=self.name,
            hosts=nodes,
            engine=info.engine,
            version=info.version,
            components=info.components,
            notes=notes,
        )

    def describe(self, bay: Bay) -> Bay:
        """As it was: what runs there is its owner's to watch. Raises BayFailed if its API is gone."""
        try:
            self._driver(bay.name).services()
        except CoebenchError as e:
            raise BayFailed(f"the API of {bay.spec.coe} does not answer: {e}") from e
        return bay

    def access(self, bay: Bay) -> Access:
        return self._access[bay.name]

    def network(self, bay: Bay) -> AbstractContextManager[None]:
        """None of its own: what a bay's access and its nodes' addresses lead to has to be reached from here."""
        return contextlib.nullcontext()

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        raise Unsupported("resizing", "an existing cluster's size is its owner's")

    def replace_node(self, bay: Bay, node: str, observe: Observe) -> Bay:
        raise Unsupported("replacing a node", "an existing cluster's nodes are its owner's")

    def fail_node(self, bay: Bay, node: str, fault: NodeFault, observe: Observe) -> None:
        """By the user's own command, or not at all."""
        if bay.spec.options.get("fail-node-cmd") and fault not in FAULTS:
            raise Unsupported(f"fault {fault.value}", f"--fail-node-cmd is for {' and '.join(FAULTS)} of a whole node")
        self._hook(bay, "fail-node-cmd", node, fault.value)
        observe("node.failed", node=node, fault=fault.value)

    def heal_node(self, bay: Bay, node: str, observe: Observe) -> None:
        self._hook(bay, "heal-node-cmd", node, "")
        observe("node.healed", node=node)

    def _hook(self, bay: Bay, which: str, node: str, fault: str) -> None:
        given = bay.spec.options.get(which)
        if not given:
            raise Unsupported("failing a node", f"an existing cluster's nodes are left alone unless --{which} is given")
        host = next((h for h in bay.hosts if h.name == node), None)
        if host is None:
            raise BadInput(f"the bay has no node '{node}' (it has {', '.join(h.name for h in bay.hosts)})")
        filled = {"{node}": node, "{address}": host.address, "{fault}": fault}
        words = [_fill(word, filled) for word in shlex.split(given)]
        try:
            p = subprocess.run(words, capture_output=True, text=True, timeout=HOOK, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise EngineError(f"{which} for {node}", str(e)) from e
        if p.returncode:
            raise EngineError(f"{which} for {node} ended with status {p.returncode}", p.stderr or p.stdout)

    def save_logs(self, bay: Bay | str, folder: Path) -> None:
        """The engines' logs are on machines that only their owner sees."""

    def delete(self, bay: Bay | str, journal: Journal, observe: Observe) -> None:
        """Take away what coebench has there, and nothing else."""
        name = bay if isinstance(bay, str) else bay.name
        driver = self._open.pop(name, None)
        self._access.pop(name, None)
        file, before = self._notes.pop(name, (None, False))
        if driver is not None:
            try:
                with self._forgiving():
                    _emptied(driver)
                    _leave(driver)
            finally:
                driver.close()
        # Emptied, or never reached and so as it was: what an earlier clean-up could not take away is still written down.
        if file and (driver is not None or not before):
            file.unlink(missing_ok=True)
        journal.gone(Resource(kind="bay", id=name, provisioner=self.name))

    def leftovers(self) -> tuple[str, ...]:
        return tuple(f"services on {_told(spec)}" for _, spec in _written())

    def clean(self) -> tuple[str, ...]:
        """Raises what connecting raises: what can't be reached stays written down."""
        removed = []
        for file, spec in _written():
            access = options.access(spec.coe, _by(spec.coe), spec.options)
            driver: Driver = plugins.load("drivers", spec.coe, "COE").connect(access)
            with contextlib.closing(driver):
                found = _empty(driver)
                _leave(driver)
            file.unlink(missing_ok=True)
            removed += [f"service {s} on {_told(spec)}" for s in found] or [f"all trace of coebench on {_told(spec)}"]
        return tuple(removed)

    def _forgiving(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self.strict else contextlib.suppress(EngineError)

    def _driver(self, name: str) -> Driver:
        if name not in self._open:
            raise BayFailed(f"bay {name} is not connected")
        return self._open[name]


def _by(coe: str) -> str:
    """What a driver is reached by, as its class says: "kubeconfig", "docker", or a URL."""
    return str(getattr(plugins.load("drivers", coe, "COE"), "access_by", "url"))


def _empty(driver: Driver) -> tuple[str, ...]:
    """Remove coebench's services and wait until nothing of them is listed. Raises BayFailed if some stay."""
    found = driver.services()
    for service in found:
        driver.remove(service)
    deadline = time.monotonic() + GONE
    left: Any = found
    while left:
        left = [s for s in found if s in driver.services() or any(_there(i.state) for i in driver.instances(s))]
        if left and time.monotonic() > deadline:
            raise BayFailed(f"services of an earlier run do not go: {', '.join(left)}")
        if left:
            time.sleep(0.1)
    return found


def _emptied(driver: Driver) -> None:
    """The same at a run's end, where one refused answer or broken connection must not leave services behind: asked again, for
    a while. Raises what came last."""
    deadline = time.monotonic() + AGAIN
    while True:
        try:
            _empty(driver)
            return
        except EngineError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _leave(driver: Driver) -> None:
    if isinstance(driver, Leaves):
        driver.leave()


def _there(state: InstanceState) -> bool:
    return state not in (InstanceState.ENDED, InstanceState.LOST)


def _state() -> Path:
    return Path(os.environ.get("COEBENCH_STATE") or platformdirs.user_state_path("coebench")) / "existing"


def _file(spec: BaySpec) -> Path:
    """Where it is written down that coebench has something there: one file for a place, however often it is used."""
    named = msgspec.json.encode({"coe": spec.coe, "options": dict(sorted(spec.options.items()))})
    return _state() / f"{spec.coe}-{hashlib.sha256(named).hexdigest()[:12]}.json"


def _written() -> list[tuple[Path, BaySpec]]:
    found = []
    for file in sorted(_state().glob("*.json")) if _state().is_dir() else ():
        with contextlib.suppress(msgspec.DecodeError, OSError):
            found.append((file, msgspec.json.decode(file.read_bytes(), type=BaySpec)))
    return found


def _told(spec: BaySpec) -> str:
    shown = ", ".join(f"{k}={v}" for k, v in spec.options.items() if k in ("kubeconfig", "context", "url", "in-cluster"))
    return f"{spec.coe} ({shown})" if shown else spec.coe


def _fill(word: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        word = word.replace(key, value)
    return word
