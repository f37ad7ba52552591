"""The logs of histograms, opened by the reader of HdrHistogram's own authors (Debian: libhdrhistogram-java and a Java)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from golden import FORMAT_2

from coebench.results import histograms

JAR = Path(os.environ.get("HDRHISTOGRAM_JAR", "/usr/share/java/hdrhistogram.jar"))
java = shutil.which("java")

pytestmark = pytest.mark.skipif(
    not (java and JAR.exists()), reason=f"no java, or no {JAR} (Debian: default-jre-headless, libhdrhistogram-java)"
)


def distribution(log: Path, out: Path) -> tuple[list[tuple[float, float]], int, float]:
    """What HistogramLogProcessor makes of a log: value (ns) at each percentile, how many values, and the greatest."""
    assert java
    words = ["-i", str(log), "-o", str(out), "-outputValueUnitRatio", "1"]
    command = [java, "-cp", str(JAR), "org.HdrHistogram.HistogramLogProcessor", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "xception" not in done.stderr, done.stderr
    text = out.with_name(out.name + ".hgrm").read_text()
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*\d", line)]
    summary = re.search(r"Max\s*=\s*([\d.]+), Total count\s*=\s*(\d+)", text)
    assert summary
    return [(float(value), 100 * float(share)) for value, share, *_ in rows], int(summary[2]), float(summary[1])


@pytest.mark.parametrize("name", sorted(p.name for p in (FORMAT_2 / "histograms").glob("b1.*.latency.hlog")))
def test_the_java_reader_finds_our_percentiles(name, tmp_path):
    log = FORMAT_2 / "histograms" / name
    [line] = [line for line in log.read_text().splitlines() if line[0] not in '#"']
    ours = histograms.decode(line.rsplit(",", 1)[1])
    rows, count, most = distribution(log, tmp_path / "out")
    assert count == ours.get_total_count() > 0
    assert most == ours.get_max_value()
    one = 100 / count  # the n-th of all values: Python's reader rounds to the nearest n, Java's rows go to the next
    for value, percentile in rows:
        low, high = (ours.get_value_at_percentile(min(100.0, max(0.0, percentile + e))) for e in (-one, one))
        assert low <= value <= high, percentile


def test_the_java_reader_adds_the_intervals_of_a_log(tmp_path):
    found = [line.rsplit(",", 1)[1] for p in sorted((FORMAT_2 / "histograms").glob("*.open.200.latency.hlog"))
             for line in p.read_text().splitlines() if line[0] not in '#"']  # fmt: skip
    log = tmp_path / "seconds.hlog"
    seconds = [histograms.Found("b1.x.serve", "open.seconds", 1000.0 + i, 1.0, text) for i, text in enumerate(found)]
    log.write_text(histograms.header("b1.x.serve", "open.seconds", 1000.0) + "".join(histograms.line(s, 1000.0) for s in seconds))
    ours = histograms.decode(found[0])
    for text in found[1:]:
        ours.add(histograms.decode(text))
    rows, count, _ = distribution(log, tmp_path / "out")
    assert len(found) > 1 and count == ours.get_total_count()
    assert {p: v for v, p in rows}[50.0] == ours.get_value_at_percentile(50)
    intervals = [line for line in (tmp_path / "out").read_text().splitlines() if re.match(r"\d", line)]
    assert [float(line.split(":")[0]) for line in intervals] == [i + 1.0 for i in range(len(found))]
