"""The signals that ask a process to end."""

from __future__ import annotations

import signal


def endings() -> tuple[signal.Signals, ...]:
    """Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed; not that for a process that was started to outlive it (nohup)."""
    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hangup)
