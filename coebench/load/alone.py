"""`coebench loadgen run`: one load from this machine, by the program itself; whether it was the limit is judged here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..signals import endings
from . import calibrate, saturation


def run(program: Path, words: Sequence[str], tell: Callable[[str], None]) -> int:
    """The load, its text or its JSON object with `saturated` in it; returns the program's exit code.

    The program prints its text itself and hands the figures over beside it, so that both are of one load.
    """
    as_json = "--json" in words
    ours, theirs = os.pipe()
    with open(ours, "rb") as facts:
        command = [str(program), "run", f"--facts={theirs}", *words]
        process = subprocess.Popen(command, pass_fds=(theirs,), stdout=subprocess.DEVNULL if as_json else None)
        os.close(theirs)
        with _handed_on(process):
            said = facts.read()
            code = process.wait()
    if not said:
        return code if code >= 0 else 128 - code
    done: dict[str, Any] = json.loads(said)
    done["saturated"] = why = limit(done, program)
    if as_json:
        tell(json.dumps(done, separators=(",", ":")))
    elif why:
        tell(f"  The generator was at its limit, so the figures are lower bounds: {why}")
    return code


def limit(done: Mapping[str, Any], program: Path) -> str:
    """Why the figures of a `done` event of this machine's generator are lower bounds; empty if nothing says so."""
    open_loop = done["mode"] == "open"
    return saturation.reason(done, open_loop) or calibrate.compared(program, done["achieved_rps"], open_loop, done["threads"])


@contextlib.contextmanager
def _handed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A signal to end is the program's to obey: it tells its figures first. An interrupt of a terminal it has had itself."""
    before: dict[signal.Signals, Any] = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    for number in endings():
        if number != signal.SIGINT:
            before[number] = signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
