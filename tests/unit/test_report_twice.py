"""Several runs in one report: each figure is there once and can be told from every other, by the format's own parser too."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from golden import FORMAT_1, FORMAT_2
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from coebench.cli import main as cli
from coebench.contract import BadInput, Better
from coebench.report.export import export
from coebench.report.openmetrics import OpenMetricsReporter
from coebench.results.model import BayResult, MetricResult, Result, RunInfo, TrialResult, Values

FORMATS = ("terminal", "markdown", "html", "github", "json", "csv", "csv-samples", "openmetrics", "junit")
NAMES = ('a "quoted" name', "back\\slash", "two\nlines", "käse\u2028", "")


def result(ident: str, metrics: Sequence[MetricResult]) -> Result:
    subjects = tuple(metrics[0].values)
    return Result(
        run=RunInfo(id=ident, started="", ended="2026-01-01T00:00:00+00:00", command=(), complete=True, profile="smoke"),
        bays={s: BayResult(coe=s, engine=s, version="1", notes=(), timeouts={}) for s in subjects},
        scenarios=(),
        metrics=tuple(metrics),
        trials=tuple(TrialResult(id=str(i), block=1, subject=s, scenario="x", status="ok") for i, s in enumerate(subjects)),
    )


def metric(name: str, value: float, unit: str = "s", subjects: Sequence[str] = NAMES, **factors: str) -> MetricResult:
    values = {s: Values(median=value, low=value, high=value, n=2) for s in subjects}
    return MetricResult(
        scenario="x", name=name, unit=unit, better=Better.LOWER, title=name, definition='"\\\n', factors=factors, values=values
    )


def read(*results: Result) -> dict[str, list[float]]:
    """Family → its values, as Prometheus' own parser reads them, which refuses a sample that is there twice."""
    out = io.StringIO()
    OpenMetricsReporter().render_all(results, out)
    return {f.name: [s.value for s in f.samples] for f in text_string_to_metric_families(out.getvalue())}


def test_runs_with_the_same_subjects_are_told_apart() -> None:
    found = read(result("a", [metric("m", 1.0)]), result("b", [metric("m", 2.0)]))
    assert sorted(found["coebench_x_m_seconds"]) == [1.0] * 15 + [2.0] * 15
    assert len(found["coebench_trials"]) == 10


def test_names_that_are_one_when_made_fit_are_told_apart() -> None:
    found = read(result("a", [metric("m.n", 1.0), metric("m_n", 2.0), metric("m-n", 3.0, **{"a.b": "1", "a-b": "2"})]))
    assert {n: set(v) for n, v in found.items() if n != "coebench_trials"} == {
        "coebench_x_m_n_seconds": {1.0},
        "coebench_x_m_n_2_seconds": {2.0},
        "coebench_x_m_n_3_seconds": {3.0},
    }
    one, other = (metric("m", v, **{"a.b": b, "a-b": c}) for v, b, c in ((1.0, "1", "2"), (2.0, "2", "2")))
    assert set(read(result("a", [one, other]))["coebench_x_m_seconds"]) == {1.0, 2.0}


def test_what_is_no_number_is_as_the_format_has_it() -> None:
    out = io.StringIO()
    OpenMetricsReporter().render(result("a", [metric(n, float(n), subjects=("s",)) for n in ("nan", "inf", "-inf")]), out)
    assert {line.split("}")[1].split()[0] for line in out.getvalue().splitlines() if line.startswith("coebench_x")} == {
        "NaN",
        "+Inf",
        "-Inf",
    }
    assert list(text_string_to_metric_families(out.getvalue()))


def test_real_runs_are_read() -> None:
    from coebench.results.model import decode

    results = [decode((folder / "result.json").read_bytes()) for folder in (FORMAT_1, FORMAT_2)]
    assert len(read(*results)) > 5


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_that_is_given_twice_is_refused(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(FORMAT_2, tmp_path / "copy")
    for other in (str(FORMAT_2), f"{FORMAT_2}/../{FORMAT_2.name}", str(copy)):
        monkeypatch.setattr(
            "sys.argv", ["coebench", "report", str(FORMAT_2), other, "--format", format, "-o", str(tmp_path / "o")]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2
        assert "is given twice" in line
        assert not (tmp_path / "o").exists()


def test_nor_is_it_exported_twice(tmp_path: Path) -> None:
    one = result("a", [metric("m", 1.0)])
    with pytest.raises(BadInput, match="run a is given twice"):
        export([one, msgspec.structs.replace(one)], [tmp_path, tmp_path], ["csv"], tmp_path / "out")
    with pytest.raises(BadInput, match="run a is given twice"):
        OpenMetricsReporter().render_all([one, one], io.StringIO())
