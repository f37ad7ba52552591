"""What other programs read of a golden run is, to the byte, what it was: a change here is a change for them.

`python tests/unit/test_report_golden.py` writes the files anew, for a change that is meant. They are made of the run's own
result.json, so that new metrics of a scenario leave them as they are.
"""

from __future__ import annotations

import io
import re

import pytest
from golden import DATA, FORMAT_2

from coebench import plugins
from coebench.results import folder
from coebench.results.histograms import decode, distribution

FILES = {"csv": "format-2.csv", "csv-samples": "format-2-samples.csv", "openmetrics": "format-2.om", "junit": "format-2.xml"}


def rendered(format: str) -> str:
    result = folder.read_result(FORMAT_2)
    assert result is not None
    out = io.StringIO()
    plugins.load("reporters", format, "format")().render(result, out)
    return out.getvalue()


@pytest.mark.parametrize("format", FILES)
def test_formats_for_programs_are_what_they_were(format):
    assert rendered(format) == (DATA / FILES[format]).read_text()


def test_the_figures_of_the_prose_are_those_of_the_record():
    """The markdown's cells against the result's own numbers: words may change, figures may not."""
    result = folder.read_result(FORMAT_2)
    assert result is not None
    rows = {m.title: m for m in result.metrics if not m.factors or len(m.factors) == 1}
    checked = 0
    for line in rendered("markdown").splitlines():
        cells = [re.sub(r"<[^>]+>|[*✓~]|&emsp;", "", c).strip() for c in line.strip("|").split("|")]
        title, _, unit = cells[0].rpartition(", ")
        factor = {"s": 1.0, "ms": 1.0, "1/s": 1.0}.get(unit)
        if title in rows and rows[title].unit == unit and factor:
            for subject, cell in zip(rows[title].values, cells[1:], strict=False):
                median = rows[title].values[subject].median
                assert median is not None and float(cell.split(" ")[0]) == pytest.approx(median, rel=0.05)
                checked += 1
    assert checked >= 10


def test_a_percentile_distribution_of_the_golden_run():
    texts = [o.data["histogram"] for o in folder.read(FORMAT_2).observations if o.name == "load"]
    merged = decode(texts[0])
    for t in texts[1:]:
        merged.add(decode(t))
    rows = [line.split() for line in distribution(merged).splitlines() if re.match(r"\s+\d", line)]
    assert int(rows[-1][2]) == merged.get_total_count() and float(rows[-1][0]) == pytest.approx(
        merged.get_max_value() / 1e6, rel=1e-3
    )


if __name__ == "__main__":
    for name, file in FILES.items():
        (DATA / file).write_text(rendered(name))
