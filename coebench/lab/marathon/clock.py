"""Time as Marathon writes it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def stamp(seconds: float | None = None) -> str:
    """``2024-05-01T12:00:00.123Z``, of now or of seconds since the epoch.  Sorts as the times do."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()


def after(earlier: str | None) -> str:
    """Now, but in any case later than ``earlier``: versions of an app have to differ."""
    now = stamp()
    return now if earlier is None or now > earlier else stamp(seconds(earlier) + 0.001)
