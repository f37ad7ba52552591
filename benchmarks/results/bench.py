"""What reports cost: seconds and memory of each command on a run of 100 trials with 10 million requests' histograms.

    python benchmarks/results/bench.py [FOLDER]

Makes the run (big_run.py) where FOLDER has none; a temporary folder without one. Prints a table with the limit beside each
figure and ends with 1 if one is passed. Run it on an idle machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

WANTED_SECONDS, WANTED_MEMORY, WANTED_PAGE = 5.0, 300.0, 3.0  # s, MB, MB
FORMATS = ("terminal", "markdown", "json", "csv", "csv-samples", "openmetrics", "junit", "github", "html", "svg")


def cost(words: list[str], into: Path) -> tuple[float, float, int]:
    """Seconds, greatest resident memory in MB and exit code of a command, its output in `into`."""
    begun = time.monotonic()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "coebench", *words],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, str(into), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)],
    )
    _, status, used = os.wait4(pid, 0)
    return time.monotonic() - begun, used.ru_maxrss * 1024 / 1e6, os.waitstatus_to_exitcode(status)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        path = base / "big"
        if not path.exists():
            begun = time.monotonic()
            # In a process of its own: what this one has ever held would count as its children's memory.
            subprocess.run([sys.executable, str(Path(__file__).with_name("big_run.py")), str(base)], check=True, stdout=2)
            print(f"made the run in {time.monotonic() - begun:.0f} s")
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6
        out, result = Path(scratch, "out"), Path(scratch, "result.json")
        commands = {f"report --format {f}": ["report", str(path), "--format", f] for f in FORMATS}
        commands["derive"] = ["derive", str(path), "--output", str(result)]
        commands["verify"] = ["verify", str(path)]
        grid = Table(title=f"a run folder of {size:.0f} MB: 100 trials, 10 million requests")
        for head in ("command", f"s (< {WANTED_SECONDS:g})", f"MB (< {WANTED_MEMORY:g})", "output, MB"):
            grid.add_column(head, justify="left" if head == "command" else "right")
        bad = 0
        for name, words in commands.items():
            seconds, memory, code = cost(words, out)
            written = out.stat().st_size / 1e6
            held = name == "verify" or seconds < WANTED_SECONDS  # verify decodes and hashes everything: no limit was set
            held = held and memory < WANTED_MEMORY and code == 0 and not (name.endswith("html") and written >= WANTED_PAGE)
            bad += not held
            grid.add_row(name, f"{seconds:.2f}", f"{memory:.0f}", f"{written:.2f}", style="" if held else "red")
        Console().print(grid)
        return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
