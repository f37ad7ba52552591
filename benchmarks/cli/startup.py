"""How long commands that do nothing else take to begin: the median and the best of N starts, warm, in milliseconds.

    python benchmarks/cli/startup.py [N]

Bounds: `--help` 200 ms, `drivers list` 300 ms. Exit code 1 if a median is above its bound. Wants an idle machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

BOUNDS = {("--help",): 200.0, ("drivers", "list"): 300.0}


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    program = str(Path(sys.executable).parent / "coebench")
    late = False
    for words, bound in BOUNDS.items():
        taken = []
        for turn in range(count + 2):
            begun = time.perf_counter()
            subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL)
            if turn >= 2:  # the first ones warm the caches
                taken.append((time.perf_counter() - begun) * 1e3)
        median = statistics.median(taken)
        late = late or median > bound
        print(
            f"coebench {' '.join(words):<14} median {median:4.0f} ms, best {min(taken):4.0f} ms, of {count} (bound {bound:.0f})"
        )
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
