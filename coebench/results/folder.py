"""The run folder: everything that a run saw, as files that can be copied, read and derived again.

    manifest.json        what was to be done, with what, where; written before anything is created
    observations.jsonl   every fact, one JSON object a line, in the order in which it was told
    trials.jsonl         the beginning and the end of every trial
    result.json          what `derive` makes of these three
    logs/                logs of the engines and of failed trials
    histograms/          HdrHistogram logs

The three inputs are only ever appended to, so a run that is killed leaves all but at most its last line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..contract import BadInput, Observation, now
from ..hooks import Outcome, TrialInfo, hookimpl
from .model import SCHEMA, Result, decode, encode

T = TypeVar("T")

RUN_SCHEMA = "coebench.run/1"

MANIFEST = "manifest.json"
OBSERVATIONS = "observations.jsonl"
TRIALS = "trials.jsonl"
RESULT = "result.json"
LOGS = "logs"
HISTOGRAMS = "histograms"


class TrialLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of trials.jsonl: a trial began (`outcome` is not there) or ended. `at`: seconds since the epoch."""

    at: float
    trial: TrialInfo
    outcome: Outcome | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder as read. `warnings` name what is missing or damaged, each a sentence."""

    path: Path
    manifest: Mapping[str, Any]
    observations: tuple[Observation, ...]
    trials: tuple[TrialLine, ...]
    warnings: tuple[str, ...] = ()


def create(base: Path | str, run: str) -> Path:
    """Make the folder of a run below `base` and return its path.

    Raises BadInput if the name can't be a folder's, if it is taken, or if `base` can't be written to.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run):
        raise BadInput(f"{run!r} can't be a run's name: letters, digits, '.', '_' and '-' only")
    path = Path(base) / run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        (path / LOGS).mkdir()
        (path / HISTOGRAMS).mkdir()
    except OSError as e:
        if isinstance(e, FileExistsError) and path.parent.is_dir():
            raise BadInput(f"{path} is there already: a run is never written over; give another name") from None
        raise BadInput(f"can't make the run folder {path}: {e.strerror}") from None
    return path


class Recorder:
    """The plug-in that keeps the record. Lines reach the system as they happen, the disk when a trial ends.

    It is called before all others: pluggy ends a call at the first plug-in that raises, and no fact may be lost by that.
    """

    def __init__(self, folder: Path | str, clock: Callable[[], float] = now) -> None:
        """`folder`: as `create` made it. `clock`: seconds since the epoch."""
        self.path = Path(folder)
        self._clock = clock
        self._encoder = msgspec.json.Encoder(enc_hook=str)  # a path or an address in `data` must not lose the fact
        self._observations = _appender(self.path / OBSERVATIONS)
        self._trials = _appender(self.path / TRIALS)

    @hookimpl(tryfirst=True)
    def run_started(self, run: str, folder: str, manifest: Mapping[str, Any]) -> None:
        text = msgspec.json.format(self._encoder.encode({"schema": RUN_SCHEMA, **manifest}), indent=2)
        write_atomic(self.path / MANIFEST, text + b"\n")

    @hookimpl(tryfirst=True)
    def observed(self, observation: Observation) -> None:
        self._append(self._observations, observation)

    @hookimpl(tryfirst=True)
    def trial_started(self, trial: TrialInfo) -> None:
        self._append(self._trials, TrialLine(at=self._clock(), trial=trial))

    @hookimpl(tryfirst=True)
    def trial_ended(self, trial: TrialInfo, outcome: Outcome) -> None:
        self._append(self._trials, TrialLine(at=self._clock(), trial=trial, outcome=outcome))
        os.fsync(self._observations)
        os.fsync(self._trials)

    @hookimpl(tryfirst=True)
    def run_ended(self, run: str, result: Result) -> None:
        write_atomic(self.path / RESULT, encode(result))
        self.close()

    def close(self) -> None:
        """Bring everything to disk. Safe to call twice; nothing can be recorded after it."""
        for name in ("_observations", "_trials"):
            fd = getattr(self, name)
            if fd >= 0:
                os.fsync(fd)
                os.close(fd)
                setattr(self, name, -1)

    def _append(self, fd: int, value: object) -> None:
        line = memoryview(self._encoder.encode(value) + b"\n")
        while line:  # a full disk or a signal may take only a part
            line = line[os.write(fd, line) :]


def _appender(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one and never a part."""
    part = path.with_name(f".{path.name}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def read(folder: Path | str) -> Recorded:
    """Everything that a folder holds, also one of a run that was killed.

    Raises BadInput if it is no run folder, if it was written by a newer coebench, or if its manifest can't be read.
    """
    path = Path(folder)
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path} is not a run folder: it holds no {MANIFEST}") from None
    except OSError as e:
        raise BadInput(f"can't read {path / MANIFEST}: {e.strerror}") from None
    except msgspec.DecodeError as e:
        raise BadInput(f"{path / MANIFEST} is damaged: {e}") from None
    if not isinstance(manifest, dict):
        raise BadInput(f"{path / MANIFEST} is damaged: not an object")
    check_schema(manifest.get("schema"), RUN_SCHEMA, path / MANIFEST)
    warnings: list[str] = []
    observations = tuple(_lines(path / OBSERVATIONS, Observation, warnings))
    trials = tuple(_lines(path / TRIALS, TrialLine, warnings))
    return Recorded(path=path, manifest=manifest, observations=observations, trials=trials, warnings=tuple(warnings))


def read_result(path: Path | str) -> Result | None:
    """The result that a run left: of a run folder, or of a file that `--json` wrote. None if a folder has none, or a
    damaged one, and so has to be derived. Raises BadInput for a newer schema, and for a file that is no result."""
    path = Path(path)
    file = path / RESULT if path.is_dir() else path
    try:
        data = file.read_bytes()
        schema = msgspec.json.decode(data, type=_Schema).schema
        check_schema(schema, SCHEMA, file)
        return decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        if path.is_dir():
            return None
        raise BadInput(f"{file} is not a result of coebench: {e}") from None
    except OSError as e:
        if path.is_dir():
            return None
        raise BadInput(f"can't read {file}: {e.strerror}") from None


class _Schema(msgspec.Struct):
    schema: str


def check_schema(found: object, known: str, where: Path) -> None:
    """Raise BadInput if `found` isn't `known` or an older version of it."""
    kind, _, latest = known.partition("/")
    m = re.fullmatch(re.escape(kind) + r"/(\d+)", found) if isinstance(found, str) else None
    if m is None:
        raise BadInput(f"{where} is not of coebench: its schema is {found!r}, not {known!r}")
    if int(m[1]) > int(latest):
        raise BadInput(f"{where} was written by a newer coebench ({found}; this one reads up to {known}): upgrade coebench")


def _lines(path: Path, type: type[T], warnings: list[str]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(type)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        warnings.append(f"{path.name} is missing: the run ended before it saw anything, or the folder isn't whole.")
        return
    with file:
        for number, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as e:
                if not line.endswith(b"\n"):
                    warnings.append(
                        f"{path.name} breaks off in line {number}: the run was killed while it wrote; the rest is used."
                    )
                elif line.strip():
                    warnings.append(f"{path.name}, line {number} is damaged and left out: {e}.")
