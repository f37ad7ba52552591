"""Every other format: what a program of its kind reads is what the result says, names with markup in them included."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from golden import FORMAT_1, FORMAT_2
from synthetic import SCENARIOS, Synthetic
from typer.testing import CliRunner

from coebench import plugins
from coebench.cli.main import app
from coebench.contract import BadInput, Better
from coebench.results import flat, folder
from coebench.results.derive import derive
from coebench.results.model import BayResult, Gate, MetricResult, Result, RunInfo, SampleValue, ScenarioInfo, TrialResult, Values

HOSTILE = "<script>alert(1)</script>|*_`[x](http://e.vil)\x1b[31m\x00\n\"'&;=1+1\u202e,%"
FORMATS = ("csv", "csv-samples", "github", "json", "junit", "markdown", "openmetrics", "terminal")


def hostile() -> Result:
    values = Values(
        median=1.0, low=0.5, high=2.0, n=2, unstable=HOSTILE, samples=(SampleValue(trial=HOSTILE, block=1, value=1.0),)
    )
    m = MetricResult(
        scenario=HOSTILE, name=HOSTILE, unit=HOSTILE, better=Better.LOWER, title=HOSTILE, definition=HOSTILE,
        factors={HOSTILE: HOSTILE}, values={HOSTILE: values},
    )  # fmt: skip
    trial = TrialResult(id=HOSTILE, block=1, subject=HOSTILE, scenario=HOSTILE, status="failed", reason=HOSTILE, evidence=HOSTILE)
    return Result(
        run=RunInfo(id=HOSTILE, started=HOSTILE, ended=HOSTILE, command=(HOSTILE,), complete=False, profile=HOSTILE),
        bays={HOSTILE: BayResult(coe=HOSTILE, engine=HOSTILE, version=HOSTILE, notes=(HOSTILE,), timeouts={HOSTILE: HOSTILE})},
        scenarios=(ScenarioInfo(name=HOSTILE, question=HOSTILE),),
        metrics=(m,),
        trials=(trial,),
        warnings=(HOSTILE,),
        gates=(Gate(text=HOSTILE, passed=False, reason=HOSTILE),),
    )


def rendered(format: str, *results: Result) -> str:
    out = io.StringIO()
    reporter = plugins.load("reporters", format, "format")()
    if len(results) == 1:
        reporter.render(results[0], out)
    else:
        reporter.render_all(results, out)
    return out.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Result:
    return derive(Synthetic(tmp_path_factory.mktemp("run")).write(), SCENARIOS)


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_run_is_reported(format, tmp_path):
    path = folder.create(tmp_path, "r")
    recorder = folder.Recorder(path)
    recorder.run_started("r", str(path), {"run": "r", "started": 1.0})
    recorder.close()
    assert rendered(format, derive(path, SCENARIOS))


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_that_broke_off_is_reported(format, tmp_path):
    assert rendered(format, derive(Synthetic(tmp_path).write(stop_after=7), SCENARIOS))


@pytest.mark.parametrize("format", FORMATS)
def test_several_runs_of_different_scenarios(format, made):
    other = msgspec.structs.replace(
        made,
        run=msgspec.structs.replace(made.run, id="20260102-030406-loud-crane"),
        metrics=tuple(m for m in made.metrics if m.scenario == "serve"),
    )
    assert rendered(format, made, other)


@pytest.mark.parametrize("format", ["github", "markdown"])
def test_markdown_escapes_what_a_run_says(format):
    text = rendered(format, hostile())
    assert "<script" not in text and "\x1b" not in text and "\x00" not in text and "http://" not in text
    assert "[x](" not in text
    tables = [line for line in text.splitlines() if line.startswith("|") and "script" in line]
    assert tables and all(len(re.findall(r"(?<!\\)\|", line)) in (3, 4) for line in tables)


def test_csv_is_read_back(made):
    rows = list(csv.DictReader(io.StringIO(rendered("csv", made))))
    cells = [(m, s, v) for m in made.metrics for s, v in m.values.items()]
    assert len(rows) == len(cells)
    for r, (m, s, v) in zip(rows, cells, strict=True):
        assert (r["scenario"], r["metric"], r["subject"], int(r["n"])) == (m.scenario, m.name, s, v.n)
        assert r["median"] == ("" if v.median is None else repr(v.median))
        assert r["factor.instances"] == str(m.factors.get("instances", ""))
        assert r["best"] == ("true" if m.best == s else "false")
    samples = list(csv.DictReader(io.StringIO(rendered("csv-samples", made))))
    assert len(samples) == sum(v.n for _, _, v in cells)
    assert sum(r["censored"] == "true" for r in samples) == 2


def test_csv_of_hostile_names_has_one_line_a_row_for_a_reader_and_no_formula():
    for format in ("csv", "csv-samples"):
        head, *rows = csv.reader(io.StringIO(rendered(format, hostile())))
        assert len(rows) == 1 and len(rows[0]) == len(head)
    formula = msgspec.structs.replace(hostile(), run=RunInfo(id="=HYPERLINK(1)"))
    [r] = csv.DictReader(io.StringIO(rendered("csv", formula)))
    assert r["run"] == "'=HYPERLINK(1)"


def junit(*results: Result) -> ET.Element:
    return ET.fromstring(rendered("junit", *results))


def test_junit_counts_gates_and_trials(made):
    gated = msgspec.structs.replace(made, gates=(Gate(text="a > 1", passed=False, reason="a is 2"), Gate(text="b", passed=True)))
    root = junit(gated)
    cases = root.findall("testsuite/testcase")
    assert int(root.get("tests", "")) == len(cases) == len(made.trials) + 2
    bad = [t for t in made.trials if t.status in ("failed", "timeout")]
    assert int(root.get("failures", "")) == len(bad) + 1 == len(root.findall(".//failure"))
    assert root.find(".//failure").get("message") == "a is 2"  # type: ignore[union-attr]
    assert any(f.text == "OOM\n" for f in root.findall(".//failure"))
    assert not root.findall(".//error")


def test_junit_calls_an_incomplete_run_an_error(tmp_path):
    root = junit(derive(Synthetic(tmp_path).write(stop_after=7), SCENARIOS))
    said = [e.get("message", "") for e in root.findall(".//error")]
    assert int(root.get("errors", "")) == len(said) == 2
    assert any("planned trials were never begun" in s for s in said)


def test_junit_of_hostile_names_is_well_formed():
    root = junit(hostile())
    assert root.find("testsuite/testcase").get("name", "").startswith("<script>")  # type: ignore[union-attr]


LINE = re.compile(r'([a-zA-Z_:][\w:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\} (\S+)( \d+\.\d+)?')


@pytest.mark.parametrize("which", ["made", "hostile", "both"])
def test_openmetrics_is_of_the_specifications_form(which, made):
    results = {"made": [made], "hostile": [hostile()], "both": [made, hostile()]}[which]
    *lines, last = rendered("openmetrics", *results).split("\n")[:-1]
    assert last == "# EOF"
    families: list[str] = []
    series = set()
    for line in lines:
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
            assert line.split()[3] == "gauge"
        elif line.startswith("# UNIT "):
            assert line.split()[2].endswith(f"_{line.split()[3]}")
        elif not line.startswith("# HELP "):
            m = LINE.fullmatch(line)
            assert m, line
            assert m[1] == families[-1]  # families are not interleaved
            assert (m[1], m[2]) not in series
            series.add((m[1], m[2]))
            float(m[3])
    assert len(families) == len(set(families))


def test_openmetrics_is_in_base_units(made):
    text = rendered("openmetrics", made)
    p99 = next(m for m in made.metrics if m.name == "p99")
    assert p99.unit == "ms" and p99.values["swarm"].median is not None
    found = re.search(r'coebench_serve_p99_seconds\{[^}]*subject="swarm"[^}]*bound="median"\} (\S+)', text)
    assert found and float(found[1]) == pytest.approx(p99.values["swarm"].median / 1000)


def test_github_has_the_verdict_on_top(made):
    text = rendered("github", msgspec.structs.replace(made, gates=(Gate(text="a > 1", passed=False, reason="a is 2"),)))
    assert text.startswith("## ❌ coebench: 1 of 1 gates failed, ")
    assert "| ❌ | a &gt; 1 | a is 2 |" in text and text.count("<details") == text.count("</details>") == 1
    assert rendered("github", made).startswith("## ⚠️ coebench: ")


def export(*words: str):
    return CliRunner().invoke(app, ["export", *words])


def test_export_writes_what_it_says(tmp_path):
    done = export(str(FORMAT_1), str(FORMAT_2), "--to", str(tmp_path / "e"), "--format", "csv,openmetrics,hgrm")
    assert done.exit_code == 0, done.output
    assert sorted(map(Path, done.stdout.split())) == sorted((tmp_path / "e").iterdir())
    trials = list(csv.DictReader((tmp_path / "e/trials.csv").open()))
    assert len({r["run"] for r in trials}) == 2 and len(trials) == 16
    loads = [o for o in folder.read(FORMAT_2).observations if o.name == "load" and ".swarm." in o.trial]
    closed = sum(o.data["ok"] for o in loads if o.data["loop"] == "closed")
    rows = (tmp_path / "e/20261122-163029-1176.swarm.serve.closed.latency.hgrm").read_text().splitlines()
    last = [r.split() for r in rows if r and not r.startswith(("#", " Value", "Value"))][-1]
    assert int(last[2]) == closed  # of both trials


def test_parquet_holds_what_csv_holds(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    done = export(str(FORMAT_2), "--to", str(tmp_path), "--format", "parquet")
    assert done.exit_code == 0, done.output
    result = folder.read_result(FORMAT_2)
    assert result is not None
    for kind in flat.KINDS:
        assert pq.read_table(tmp_path / f"{kind}.parquet").to_pylist() == list(flat.rows(kind, [result]))


def test_export_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    done = export(str(FORMAT_2), "--to", str(tmp_path / "e"), "--format", "csv,parquet")
    assert isinstance(done.exception, BadInput) and "pip install 'coebench[parquet]'" in str(done.exception)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("words", "says"), [(["--format", "xls"], "unknown format 'xls'"), (["--to", "/dev/null/x"], "can't write")]
)
def test_export_refuses(words, says):
    done = export(str(FORMAT_2), *words)
    assert isinstance(done.exception, BadInput) and says in str(done.exception)
