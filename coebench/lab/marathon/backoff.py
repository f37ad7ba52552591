"""Backoff: how long an app that keeps failing waits before its next start."""

from __future__ import annotations

import time

from .apps import App


class Backoff:
    """One app's delay.  It grows with every failure and is forgotten when an instance outlives it."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._until = 0.0

    def failed(self, app: App) -> None:
        first, factor = float(app.spec["backoffSeconds"]), float(app.spec["backoffFactor"])
        self._delay = min(self._delay * factor if self._delay else first, float(app.spec["maxLaunchDelaySeconds"]))
        self._until = time.monotonic() + self._delay

    def outlived_by(self, seconds: float) -> bool:
        """Whether an instance that has run for so long shows that the trouble is over."""
        return seconds > max(self._delay, 1.0)

    def reset(self) -> None:
        self._delay = self._until = 0.0

    @property
    def left(self) -> float:
        """Seconds until the next start is allowed."""
        return max(0.0, self._until - time.monotonic())
