"""What a driver's `Watch` is made of: a thread that follows the engine, and a queue of changes that it fills."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from .clock import now
from .driver import Change
from .errors import EngineError
from .service import Instance


class FollowingWatch:
    """Runs `follow(watch)` in a thread until closed; it calls `snapshot` or `apply` with what the engine says.

    `snapshot` takes the whole list and finds out what changed, so that a follower which lost its stream need only list
    again: nothing is lost and nothing repeated. `on_close` must make a blocked `follow` return. `fallback`, `interval`: how
    changes are found where the engine pushes none, and the seconds between two looks; `poll` says the same later.
    """

    def __init__(
        self,
        follow: Callable[[FollowingWatch], None],
        on_close: Callable[[], None] = lambda: None,
        fallback: str = "",
        interval: float = 0.0,
    ) -> None:
        self.fallback = fallback
        self.interval = interval
        self.interruptions: queue.SimpleQueue[str] = queue.SimpleQueue()  # why the stream broke off, for who records it
        self.closed = threading.Event()
        self._on_close = on_close
        self._queue: queue.SimpleQueue[Change | EngineError | None] = queue.SimpleQueue()
        self._known: dict[str, Instance] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, args=(follow,), name="watch", daemon=True)
        self._thread.start()

    def _run(self, follow: Callable[[FollowingWatch], None]) -> None:
        try:
            follow(self)
        except EngineError as e:
            if not self.closed.is_set():
                self._queue.put(e)
        except Exception as e:
            if not self.closed.is_set():
                self._queue.put(EngineError("the watch ended", f"{type(e).__name__}: {e}"))

    # for the follower

    def poll(self, fallback: str, interval: float) -> None:
        """Say from now on that changes are found by looking every `interval` seconds: the engine was to push them and doesn't."""
        self.interval = interval
        self.fallback = fallback

    def snapshot(self, instances: Iterable[Instance]) -> bool:
        """All instances there are now. Whether anything is new."""
        seen = now()
        with self._lock:
            before = dict(self._known)
            current = {i.id: i for i in instances}
            for ident in [k for k in self._known if k not in current]:
                self._queue.put(Change("removed", self._known.pop(ident), seen))
            for instance in current.values():
                self._put(instance, seen)
            return before != self._known

    def apply(self, instance: Instance, removed: bool = False) -> None:
        """One instance as it is now, or as it last was."""
        seen = now()
        with self._lock:
            if not removed:
                self._put(instance, seen)
            elif self._known.pop(instance.id, None):
                self._queue.put(Change("removed", instance, seen))

    def interrupt(self, said: str) -> None:
        """The stream broke off and is begun again: changes may be seen late."""
        self.interruptions.put(said)

    def _put(self, instance: Instance, seen: float) -> None:
        old = self._known.get(instance.id)
        if old != instance:
            self._known[instance.id] = instance
            self._queue.put(Change("changed" if old else "added", instance, seen))

    # the port

    def next(self, timeout: float) -> Change | None:
        """The next change, or None after `timeout` seconds, or at once when the watch is closed. Raises EngineError."""
        try:
            item = self._queue.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None
        if item is None:  # closed: for this and every later call
            self._queue.put(None)
        if isinstance(item, EngineError):
            raise item
        return None if self.closed.is_set() else item

    def close(self) -> None:
        """End the stream; wakes who waits in `next`."""
        if not self.closed.is_set():
            self.closed.set()
            self._on_close()
            self._queue.put(None)
            self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
