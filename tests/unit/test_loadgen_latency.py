"""Latencies as the generator tells them: none beyond the greatest that was seen, long ones as they are, the longest marked."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import SOURCES

from coebench.load import hdr

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="the generator is built from C and there is no gcc")

# Records the values that it is given, in ns, and prints what the generator tells of them.
DRIVER = """
#include "histogram.h"
#include "json.h"
#include "report.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct load_total total = {.targets = NULL};
    struct load_spec spec = {.connections = 1};
    struct part *parts = must_calloc(PHASES, sizeof *parts);
    struct json j = {0};

    for (int i = 1; i < argc; i++) {
        histogram_record(&parts[MEASURED].latency, atoll(argv[i]));
        histogram_record(&parts[MEASURED].raw, atoll(argv[i]));
    }
    total.parts = parts;
    json_event(&j, "done");
    report_total(&j, &spec, &total);
    json_end(&j);
    fwrite(j.out.data, 1, j.out.len, stdout);
    report_text(stdout, &spec, &total);
    return 0;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("histogram")
    (folder / "driver.c").write_text(DRIVER)
    sources = [str(p) for p in SOURCES.glob("*.c") if p.name != "main.c" and not p.name.startswith("fuzz_")]
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-pthread", f"-I{SOURCES}", "driver.c", *sources, "-o", "driver", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "driver"


def told(driver: Path, *values: float) -> tuple[dict[str, Any], str]:
    p = subprocess.run([driver, *(str(int(v)) for v in values)], capture_output=True, text=True, check=True)
    line, _, text = p.stdout.partition("\n")
    return json.loads(line), text


@pytest.mark.parametrize("values", [[1], [64], [271_800], [271_800] * 7, [1_000_000, 1_000_001], [65e9], [1, 65e9], [9e12, 8e12]])
def test_no_mean_and_no_percentile_is_beyond_the_maximum(driver: Path, values: list[float]) -> None:
    said, _ = told(driver, *values)
    latency = said["latency_ms"]
    greatest = latency["max"]
    assert greatest == min(max(values), hdr.HIGHEST) / 1e6
    assert min(values) / 1e6 <= latency["mean"] + 1e-9 or latency["mean"] == hdr.HIGHEST / 1e6
    assert all(v <= greatest for v in latency.values())


def test_what_takes_longer_than_a_minute_is_told_as_it_is(driver: Path) -> None:
    said, text = told(driver, 65e9)
    assert said["latency_ms"] == dict.fromkeys(("p50", "p90", "p99", "p99.9", "max", "mean"), 65_000.0)
    assert said["beyond_range"] == {"highest_ms": 3_600_000, "latency": 0, "raw": 0, "lag": 0}
    assert "≥" not in text
    counts = hdr.decode(said["latency"])
    assert int(counts.sum()) == 1
    assert hdr.percentile(counts, 50) == pytest.approx(65e9, rel=1e-3)
    assert HdrHistogram.decode(said["latency"].encode()).get_max_value() == pytest.approx(65e9, rel=1e-3)


def test_what_is_beyond_the_range_is_counted_and_marked(driver: Path) -> None:
    said, text = told(driver, 1e6, 5e12, 6e12)
    assert said["beyond_range"] == {"highest_ms": 3_600_000, "latency": 2, "raw": 2, "lag": 0}
    assert said["latency_ms"]["max"] == 3_600_000
    assert "≥3600000.000" in text
    assert "2 latencies are beyond 3600 s: ≥ marks lower bounds" in text
    assert hdr.beyond(hdr.decode(said["latency"])) == 2


def test_histograms_of_earlier_generators_are_added_to_those_of_today() -> None:
    earlier = HdrHistogram(hdr.LOWEST, 60_000_000_000, hdr.DIGITS)
    for value in (1_000_000, 60_000_000_000):
        earlier.record_value(value)
    today = hdr.empty()
    np.add.at(today, hdr.slots_of([1_000_000, 65_000_000_000]), 1)
    assert int((hdr.decode(earlier.encode().decode()) + today)[hdr.slots_of(1_000_000)]) == 2
    packed = zlib.decompress(base64.b64decode(earlier.encode())[8:])
    assert int.from_bytes(packed[24:32], "big") == 60_000_000_000
