"""The run folder: everything that a run saw, as files that can be copied, read and derived again.

    manifest.json        what was to be done, with what, where; written before anything is created
    observations.jsonl   every fact, one JSON object a line, in the order in which it was told
    trials.jsonl         the beginning and the end of every trial
    result.json          what `derive` makes of these three
    logs/                logs of the engines and of failed trials
    histograms/          HdrHistogram logs, made from the observations
    SHA256SUMS           of all files, written last; `sha256sum -c` reads it

The three inputs are only ever appended to, so a run that is killed leaves all but at most its last line. docs/format.md
is the format's own description; a change of it raises RUN_FORMAT.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..contract import BadInput, Observation, now
from ..hooks import Outcome, TrialInfo, hookimpl
from . import files, histograms
from .files import MANIFEST, Files
from .model import SCHEMA, Result, decode, encode

T = TypeVar("T")

# 1: as 2, without histograms and checksums.
RUN_FORMAT = 2
RUN_SCHEMA = f"coebench.run/{RUN_FORMAT}"

OBSERVATIONS = "observations.jsonl"
TRIALS = "trials.jsonl"
RESULT = "result.json"
LOGS = "logs"
HISTOGRAMS = "histograms"
SUMS = "SHA256SUMS"
JOURNAL = "journal.jsonl"


class TrialLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of trials.jsonl: a trial began (`outcome` is not there) or ended. `at`: seconds since the epoch."""

    at: float
    trial: TrialInfo
    outcome: Outcome | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A run as read. `path`: its folder or archive. `warnings` name what is missing or damaged, each a sentence."""

    path: Path
    format: int = RUN_FORMAT
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
        text = msgspec.json.format(self._encoder.encode({**manifest, "schema": RUN_SCHEMA}), indent=2)
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
        with contextlib.suppress(BadInput):  # a manifest that somebody else has broken meanwhile
            write_histograms(self.path, read(self.path).observations)
        seal(self.path)

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
    # A name of its own, that nobody has put a link at: the folder may be a stranger's.
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_histograms(folder: Path, observations: Iterable[Observation]) -> list[str]:
    """Write the logs of these observations into a run folder, in place of those there. What could not be is returned."""
    logs, bad = histograms.logs(observations)
    (folder / HISTOGRAMS).mkdir(exist_ok=True)
    if (folder / HISTOGRAMS).is_symlink():
        raise BadInput(f"{folder / HISTOGRAMS} is a link, and what it leads to is not written to: remove it")
    for old in (folder / HISTOGRAMS).glob(f"*{histograms.SUFFIX}"):
        if old.name not in logs:
            old.unlink()
    for name, text in logs.items():
        write_atomic(folder / HISTOGRAMS / name, text.encode())
    return bad


def seal(folder: Path, only: Callable[[str], bool] = lambda name: True) -> None:
    """Write down the checksums of a run folder's files; with `only`, of those, and all others stay as they are written."""
    with files.opened(folder) as run:
        sums = {n: s for n, s in read_sums(run)[0].items() if not only(n)}
        sums |= {n: digest(run, n) for n in run.names if only(n) and summed(n)}
    write_atomic(folder / SUMS, "".join(f"{sums[n]}  {n}\n" for n in sorted(sums)).encode())


def summed(name: str) -> bool:
    """Whether a file has a checksum: all but their list, the journal, which no figure comes from, and unfinished ones."""
    return name not in (SUMS, JOURNAL) and "\n" not in name and not name.rpartition("/")[2].startswith(".")


def digest(run: Files, name: str) -> str:
    """SHA-256 of a file, in hex. Raises what reading it raises."""
    with run.open(name) as f:
        return hashlib.file_digest(f, "sha256").hexdigest()  # type: ignore[arg-type]


def read_sums(run: Files) -> tuple[dict[str, str], list[str]]:
    """File name → SHA-256 in hex, as written down, and the lines that are none. Empty where nothing is written."""
    if SUMS not in run:
        return {}, []
    sums, bad = {}, []
    for line in run.read(SUMS).decode(errors="replace").splitlines():
        if m := re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line):
            sums[m[2]] = m[1]
        elif line.strip():
            bad.append(line)
    return sums, bad


def read(path: Path | str) -> Recorded:
    """Everything that a run recorded, also one that was killed. `path`: a run folder, or an archive of one.

    Raises BadInput if it is no run, if it was written by a newer coebench, or if its manifest can't be read.
    """
    with files.opened(path) as run:
        return read_files(run)


def read_files(run: Files) -> Recorded:
    """As `read`, of what is open already."""
    manifest, format = read_manifest(run)
    warnings: list[str] = []
    observations = tuple(_lines(run, OBSERVATIONS, Observation, warnings))
    trials = tuple(_lines(run, TRIALS, TrialLine, warnings))
    return Recorded(
        path=run.where,
        format=format,
        manifest=manifest,
        observations=observations,
        trials=trials,
        warnings=tuple(warnings),
    )


def observations(path: Path | str) -> Iterator[Observation]:
    """The observations of a run folder or archive one by one, for who need not hold them all; damaged lines are passed over."""
    with files.opened(path) as run:
        yield from _lines(run, OBSERVATIONS, Observation, [])


def read_manifest(run: Files) -> tuple[dict[str, Any], int]:
    """The manifest and the number of its format, which is RUN_FORMAT or an older one. Raises BadInput."""
    where = run.where / MANIFEST
    try:
        manifest = msgspec.json.decode(run.read(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{run.where} is not a run folder: it holds no {MANIFEST}") from None
    except OSError as e:
        raise BadInput(f"can't read {where}: {e.strerror or e}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, *files.DAMAGE) as e:
        raise BadInput(f"{where} is damaged: {e}") from None
    if not isinstance(manifest, dict):
        raise BadInput(f"{where} is damaged: not an object")
    return manifest, check_schema(manifest.get("schema"), RUN_SCHEMA, where)


def read_result(path: Path | str) -> Result | None:
    """The result that a run left: of a run folder or archive, or of a file that `--json` wrote. None if a run has none, or a
    damaged one, and so has to be derived. Raises BadInput for a newer schema, and for a file that is no result."""
    path = Path(path)
    if path.is_dir() or files.is_archive(path):
        with files.opened(path) as run:
            try:
                return _result(run.read(RESULT), path / RESULT)
            except (msgspec.MsgspecError, UnicodeDecodeError, OSError, *files.DAMAGE):
                return None
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is no regular file")
        return _result(path.read_bytes(), path)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise BadInput(f"{path} is not a result of coebench: {e}") from None
    except OSError as e:
        raise BadInput(f"can't read {path}: {e.strerror}") from None


def _result(data: bytes, where: Path) -> Result:
    check_schema(msgspec.json.decode(data, type=_Schema).schema, SCHEMA, where)
    return decode(data)


class _Schema(msgspec.Struct):
    schema: str


def check_schema(found: object, known: str, where: Path) -> int:
    """The number of the version. Raises BadInput if `found` isn't `known` or an older version of it."""
    kind, _, latest = known.partition("/")
    m = re.fullmatch(re.escape(kind) + r"/(\d+)", found) if isinstance(found, str) else None
    if m is None:
        raise BadInput(f"{where} is not of coebench: its schema is {found!r}, not {known!r}")
    if int(m[1]) > int(latest):
        raise BadInput(f"{where} was written by a newer coebench ({found}; this one reads up to {known}): upgrade coebench")
    return int(m[1])


def _lines(run: Files, name: str, type: type[T], warnings: list[str]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(type)
    try:
        file = run.open(name)
    except FileNotFoundError:
        warnings.append(f"{name} is missing: the run ended before it saw anything, or the folder isn't whole.")
        return
    except (OSError, *files.DAMAGE) as e:
        warnings.append(f"{name} can't be read: {files.why(e)}.")
        return
    number = 0
    with file:
        try:
            for number, line in enumerate(files.lines(file), 1):
                try:
                    yield decoder.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as e:
                    if not line.endswith(b"\n"):
                        warnings.append(
                            f"{name} breaks off in line {number}: the run was killed while it wrote; the rest is used."
                        )
                    elif line.strip():
                        warnings.append(f"{name}, line {number} is damaged and left out: {e}.")
        except (OSError, *files.DAMAGE) as e:
            warnings.append(f"{name} can't be read beyond line {number}: {files.why(e)}; what comes before is used.")
