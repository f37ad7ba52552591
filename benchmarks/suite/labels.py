"""The noise floor of an --aa run, told more finely than by the run itself: `python benchmarks/suite/labels.py RUN…`

Such a run has two columns of one thing. Which of a block's two trials is called A is a draw; so every way to name them is a
comparison of the thing with itself, on the times that were really measured. Of each row of the table all 2^(blocks - 1) ways are
compared, as a report would, and those counted that show a difference. Rows with a value that was not reached are left out.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from coebench.results import folder, stats


def labelled(run: Path) -> tuple[int, int, int]:
    """Rows, comparisons, and how many of these showed a difference."""
    rows = compared = different = 0
    result = folder.read_result(run)
    for metric in result.metrics if result else ():
        values = list(metric.values.values())
        if len(values) != 2 or any(v.censored for v in values):
            continue
        one, other = ({s.block: s.value for s in v.samples} for v in values)
        blocks = sorted(one.keys() & other.keys())
        if len(blocks) < 4:
            continue
        rows += 1
        for flips in itertools.product((False, True), repeat=len(blocks) - 1):
            swapped = dict(zip(blocks, (False, *flips), strict=True))
            a = stats.Sampled.of([(other if swapped[b] else one)[b] for b in blocks], block=blocks)
            b = stats.Sampled.of([(one if swapped[b] else other)[b] for b in blocks], block=blocks)
            compared += 1
            different += stats.compare(a, b, resamples=2000).distinguishable
    return rows, compared, different


def main() -> None:
    every = [0, 0, 0]
    for run in sys.argv[1:]:
        found = labelled(Path(run))
        every = [x + y for x, y in zip(every, found, strict=True)]
        print(_line(Path(run).name, *found))
    if len(sys.argv) > 2:
        print(_line("all", *every))


def _line(name: str, rows: int, compared: int, different: int) -> str:
    share = f"{100 * different / compared:.1f} %" if compared else "none"
    return f"{name}: {rows} rows, {compared} comparisons, {different} with a difference ({share})"


if __name__ == "__main__":
    main()
