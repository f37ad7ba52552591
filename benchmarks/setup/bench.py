"""How long set-up and the building of the lab take, an older commit against this one, by turns.

    python benchmarks/setup/bench.py --old COMMIT [setup] [install] [--rounds 3]

Each commit is cloned. Each round makes a new virtual environment and, for `install`, builds the lab into an empty cache, once
with either commit; which is first alternates. Prints the seconds of each and the ratio new/old of each round. Wants root, an idle
machine and a mirror; both fetch through the same clients. Nothing here is a test: a busy machine proves nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINES = ("k8s", "swarm", "mesos")


def timed(command: list[str], folder: Path, **env: str) -> float:
    """Seconds that a command took; ends this program with its output if it fails."""
    begun = time.monotonic()
    p = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"{' '.join(command)} in {folder}: {p.stdout[-2000:]}{p.stderr[-2000:]}")
    return time.monotonic() - begun


def setup(clone: Path) -> float:
    shutil.rmtree(clone / ".venv", ignore_errors=True)
    return timed(["sh", "scripts/setup.sh", "python3", ".venv"], clone)


def install(clone: Path) -> float:
    with tempfile.TemporaryDirectory(dir=clone.parent) as folder:
        places = {"COEBENCH_CACHE": f"{folder}/cache", "COEBENCH_STATE": f"{folder}/state"}
        return timed([str(clone / ".venv/bin/coebench"), "lab", "install", *ENGINES], clone, **places)


STEPS = {"setup": setup, "install": install}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help="setup, install; both if none is named")
    parser.add_argument("--old", required=True, help="the commit to compare with")
    parser.add_argument("--new", default="HEAD", help="the commit that is compared (default: HEAD)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each step (default: 3)")
    given = parser.parse_args()
    if unknown := set(given.steps) - set(STEPS):
        parser.error(f"unknown step {', '.join(sorted(unknown))}: there are {', '.join(STEPS)}")
    with tempfile.TemporaryDirectory(prefix="coebench-setup-", dir=Path.home()) as folder:
        clones = {name: Path(folder, name) for name in ("old", "new")}
        for name, clone in clones.items():
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            subprocess.run(["git", "checkout", "--quiet", getattr(given, name)], cwd=clone, check=True)
            setup(clone)  # warms the page cache and pip's
        for step in given.steps or STEPS:
            took: dict[str, list[float]] = {"old": [], "new": []}
            for turn in range(given.rounds):
                for name in ("old", "new") if turn % 2 == 0 else ("new", "old"):
                    took[name].append(STEPS[step](clones[name]))
            ratios = [new / old for old, new in zip(took["old"], took["new"], strict=True)]
            for name, seconds in took.items():
                print(f"{step:8} {name}  " + "  ".join(f"{s:6.1f} s" for s in seconds))
            print(
                f"{step:8} new/old  median {statistics.median(ratios):.2f}  " + "  ".join(f"{r:.2f}" for r in ratios), flush=True
            )


if __name__ == "__main__":
    main()
