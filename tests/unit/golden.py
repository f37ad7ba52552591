"""Golden runs: real ones, kept small, that every later coebench has to read."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
FORMAT_1 = DATA / "format-1"  # Swarm and Mesos, 2 blocks, of the run in docs/example-run
FORMAT_2 = DATA / "format-2"  # Swarm and Mesos, 2 blocks of a short load, recorded for this
