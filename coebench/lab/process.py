"""Processes that outlive us: named by pid and start time, ended through a pidfd, so that a reused pid is never hit."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..signals import endings


class Process(msgspec.Struct, frozen=True):
    """A process of this boot. `started` is field 22 of /proc/PID/stat, in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now. Raises ProcessLookupError."""
        started = _started(pid)
        if started is None:
            raise ProcessLookupError(pid)
        return cls(pid, started)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _started(self.pid) == self.started

    def child(self) -> Process | None:
        """Its first child: pid 1 of the namespace that an `unshare --fork` made."""
        with contextlib.suppress(OSError, ProcessLookupError):
            words = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            if words and self.alive:
                return Process.of(int(words[0]))
        return None

    def kill(self) -> None:
        """SIGKILL; no error if it is gone."""
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(self.pid)
            try:
                if self.alive:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)

    def wait(self, timeout: float) -> bool:
        """Wait until it is dead (reaped or a zombie). Whether it is."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return True
        try:
            if not self.alive:
                return True
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(timeout * 1000):
                return False
        finally:
            os.close(fd)
        with contextlib.suppress(OSError):
            os.waitpid(self.pid, os.WNOHANG)  # if it was ours, it is a zombie now
        return True


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


@contextlib.contextmanager
def ended_tidily() -> Iterator[None]:
    """While this lasts, SIGTERM and SIGHUP do what Ctrl-C does. Who has a handler of their own keeps it."""
    mine = [s for s in endings() if signal.getsignal(s) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread() or not mine:
        yield
        return

    def came(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for s in mine:
        signal.signal(s, came)
    try:
        yield
    finally:
        for s in mine:
            signal.signal(s, signal.SIG_DFL)


def kill_all(processes: list[Process], timeout: float = 10.0) -> list[Process]:
    """Kill and wait; returns those that would not end."""
    for p in processes:
        p.kill()
    deadline = time.monotonic() + timeout
    return [p for p in processes if not p.wait(max(0.0, deadline - time.monotonic()))]
