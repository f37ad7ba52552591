"""Artefacts that are built once: keyed by their recipe, built beside, moved into place whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..contract import BadInput
from . import paths

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Artefact:
    """A folder in the cache. `key` must change with anything that the content depends on.

    `build` gets a work folder (kept when it fails, so that a second attempt goes on where the first stopped) and the
    folder to fill.
    """

    name: str
    key: str
    build: Callable[[Path, Path, Say], None]

    @property
    def path(self) -> Path:
        return paths.cache() / f"{self.name}-{self.key}"

    @property
    def ready(self) -> bool:
        return self.path.is_dir()

    def ensure(self, say: Say) -> Path:
        """Build unless it is there. Two processes may ask at once: the second waits and finds it done."""
        if self.ready:
            self._used()
            return self.path
        with locked(paths.cache() / f"{self.name}.lock", say, f"another coebench is building {self.name}: waiting"):
            if self.ready:
                return self.path
            work = paths.cache() / "work" / f"{self.name}-{self.key}"
            out = paths.cache() / "work" / f"{self.name}-{self.key}.out"
            remove(out)
            work.mkdir(parents=True, exist_ok=True)
            out.mkdir()
            try:
                self.build(work, out, say)
            except OSError as e:
                if e.errno not in FULL:
                    raise
                raise BadInput(
                    f"building {self.name} stopped: {e.filename or work}: {e.strerror}; make room, or set COEBENCH_CACHE "
                    "elsewhere; the next call goes on from here"
                ) from e
            out.chmod(0o755)
            os.replace(out, self.path)
            remove(work)
        self._used()
        return self.path

    def _used(self) -> None:
        """Leave a mark of this use, for `prune`; beside the artefact, which may be below a mounted overlay."""
        with contextlib.suppress(OSError):  # a cache that is read-only serves as well
            (paths.cache() / f"{self.path.name}{_USED}").touch()


_USED = ".used"


def prune(days: float, now: float) -> dict[str, int]:
    """Remove what no coebench has used for so many days; `now` in seconds since the epoch. Only while no bay is up, since
    bays stand on artefacts. Returns the bytes that each removed artefact held (what others share by hard link counts, too)."""
    gone: dict[str, int] = {}
    folder = paths.cache()
    for artefact in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (artefact.is_dir() and re.search(r"-[0-9a-f]{12}$", artefact.name)):
            continue
        mark = folder / f"{artefact.name}{_USED}"
        used = (mark if mark.exists() else artefact).stat().st_mtime
        if now - used >= days * 86400:
            gone[artefact.name] = sum(p.lstat().st_blocks * 512 for p in artefact.rglob("*"))
            remove(artefact)
            mark.unlink(missing_ok=True)
    return gone


def key(*parts: str | bytes) -> str:
    """Twelve hexadecimal digits of all parts."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "big") + data)
    return h.hexdigest()[:12]


HIGH = 100  # the least descriptor that a child inherits: mmdebstrap gives its own to dash, which knows those below 10 alone
_held: set[int] = set()
_holding = threading.Lock()


@contextlib.contextmanager
def held() -> Iterator[tuple[int, ...]]:
    """The descriptors of all locks that this process holds, none of which is let go meanwhile. A program that builds inherits
    them (`pass_fds`): should we be killed and it not, nobody else builds in the same folder beside it."""
    with _holding:
        yield tuple(_held)


@contextlib.contextmanager
def locked(path: Path, say: Say, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; says `waiting` if that takes another process's end. Raises BadInput if none can."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = open(path, "a")  # noqa: SIM115 - closed by the with below
    except OSError as e:
        raise BadInput(f"{path.parent} can't be written ({e.strerror}): set COEBENCH_CACHE to a folder that can") from None
    with opened as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            fcntl.flock(f, fcntl.LOCK_EX)
        high = fcntl.fcntl(f, fcntl.F_DUPFD_CLOEXEC, HIGH)
        with _holding:
            _held.add(high)
        try:
            yield
        finally:
            with _holding:
                _held.discard(high)
            fcntl.flock(f, fcntl.LOCK_UN)  # for a child, too, that inherited it for another lock's sake
            os.close(high)


def share(source: str | Path, target: str | Path) -> None:
    """Make one file two by a hard link; a copy where there can be none, as between two file systems."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as e:
        if e.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def remove(path: Path) -> None:
    """Delete a tree that may hold device nodes and read-only folders; no error if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
