"""Keys that a client library reads from files only: in a folder that nobody else may read, and that a killed process's `clean`
finds.

The folder is held by a lock, which the kernel gives back with the process, so that what has no holder is a leftover.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from .errors import BadInput

_lock = threading.Lock()
_held: dict[Path, tuple[int, Path]] = {}  # the folder above → the process that made it, this process's folder


def own_folder(folder: Path) -> None:
    """Make a folder of coebench's state, or take it back: nobody else may look into it. It must be coebench's own, not one that
    a user named. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


def private_folder() -> Path:
    """This process's folder for secrets, below the user's state folder (COEBENCH_STATE); it is removed when the process ends.
    What a connection puts there it removes itself when it is closed. Raises BadInput if none can be made."""
    import tempfile  # here and below: `coebench --help` does not wait for what only a connection needs

    base = _base()
    with _lock:
        pid, folder = _held.get(base, (0, base))
        if pid != os.getpid() or not folder.is_dir():
            with _alone(base):
                folder = Path(tempfile.mkdtemp(prefix="process-", dir=base))
                holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(holder, fcntl.LOCK_EX)
            _held[base] = os.getpid(), folder
            atexit.register(_drop_own, os.getpid(), folder)
        return folder


def drop_private() -> int:
    """Remove the folders of processes that have ended; returns how many there were."""
    import shutil

    base = _base()
    if not base.is_dir():
        return 0
    gone = 0
    with _alone(base):
        for folder in base.glob("process-*"):
            try:
                holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:  # its process has just ended, and has removed it
                continue
            try:
                fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                os.close(holder)
            shutil.rmtree(folder, ignore_errors=True)
            gone += 1
    return gone


def _base() -> Path:
    import platformdirs

    return Path(os.environ.get("COEBENCH_STATE") or platformdirs.user_state_path("coebench")) / "private"


@contextlib.contextmanager
def _alone(base: Path) -> Iterator[None]:
    """One process at a time: a folder that was just made is not yet held."""
    try:
        base.mkdir(parents=True, exist_ok=True)
        base.chmod(0o700)
        fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise BadInput(f"{base}, where keys are kept, can't be used ({e.strerror}): set COEBENCH_STATE elsewhere") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _drop_own(pid: int, folder: Path) -> None:
    import shutil

    if pid == os.getpid():  # and no child of a fork
        shutil.rmtree(folder, ignore_errors=True)
