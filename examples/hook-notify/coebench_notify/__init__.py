"""Appends a line of JSON for each trial that ends to the file named by COEBENCH_NOTIFY; does nothing without it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from coebench.hooks import Outcome, TrialInfo, hookimpl


class Notify:
    """Made once a run. A hook must return quickly; one that raises is left out for the rest of the run, and that is said."""

    def __init__(self) -> None:
        name = os.environ.get("COEBENCH_NOTIFY")
        self._file = Path(name) if name else None

    @hookimpl
    def trial_ended(self, trial: TrialInfo, outcome: Outcome) -> None:
        if self._file:
            line = {"trial": trial.id, "status": outcome.status, "seconds": round(outcome.seconds, 3), "reason": outcome.reason}
            with self._file.open("a") as out:
                out.write(json.dumps(line) + "\n")
