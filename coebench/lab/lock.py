"""One run at a time: who holds the lab."""

from __future__ import annotations

import fcntl
import json
import os
import time
from types import TracebackType

from ..contract import BadInput, own_folder
from . import paths

LOOK = 0.2  # seconds that `free` of another process may hold it, at the very most


class Lock:
    """Held until closed or until the process ends, however it ends: the kernel gives it back."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def take(what: str) -> Lock:
    """Take the lab for this process. Raises BadInput that tells who has it."""
    fd = _locked(fcntl.LOCK_EX)
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps({"pid": os.getpid(), "what": what, "since": time.time()}).encode(), 0)
    return Lock(fd)


def free() -> None:
    """Raises BadInput that tells who has the lab, if anybody has."""
    os.close(_locked(fcntl.LOCK_SH))


def _locked(kind: int) -> int:
    file = paths.state() / "lock"
    try:
        own_folder(file.parent)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        mend = "run the command with sudo" if os.geteuid() else "set COEBENCH_STATE to a folder that can be written"
        raise BadInput(f"the lab's lock, {file}, can't be opened ({e.strerror}): {mend}") from None
    patience = time.monotonic() + LOOK
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() < patience:  # somebody may only be looking whether it is free
                time.sleep(0.01)
                continue
            holder = os.pread(fd, 4096, 0).decode(errors="replace")
            os.close(fd)
            raise BadInput(f"the lab is in use: {_tell(holder)}; wait for it to end, or end it") from None


def _tell(holder: str) -> str:
    try:
        h = json.loads(holder)
        since = time.strftime("%H:%M:%S", time.localtime(h["since"]))
        return f"coebench {h['what']}, process {h['pid']}, since {since}"
    except (ValueError, KeyError, TypeError):
        return "by another coebench"
