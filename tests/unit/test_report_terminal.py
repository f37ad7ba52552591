"""The terminal's table: nothing lost, nothing interpreted, at any width."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.console import Console
from synthetic import SCENARIOS, Synthetic

from coebench.report.table import table
from coebench.report.terminal import TerminalReporter
from coebench.results.derive import derive
from coebench.results.model import Result, RunInfo


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return derive(Synthetic(tmp_path_factory.mktemp("runs")).write(), SCENARIOS)


def shown(result, width=80):
    out = io.StringIO()
    TerminalReporter(width).render(result, out)
    return out.getvalue()


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 140, 240])
def test_fits_and_loses_nothing(result, width):
    text = shown(result, width)
    assert max(map(len, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    every = shown(result, 240)
    figures = re.findall(r"[\d.>]+–[\d.>]+\)", every.split("Median (")[0])
    for figure in figures:
        assert figure in text or figure in text.replace("\n", "").replace(" ", "")
    assert text.count("✓") == every.count("✓")


def test_80_columns_hold_three_subjects_side_by_side(result):
    lines = shown(result).splitlines()
    assert sum("Kubernetes" in line and "Docker Swarm" in line and "Mesos" in line for line in lines[:30]) >= 1


def test_what_a_reader_must_see(result):
    text = words(shown(result))
    assert "2.91 (2.56–>60.0)" in text and "2 of 5 timed out" in text
    assert "failed trials 1 of 5 0 of 5 0 of 5" in text
    assert "≥24.8 (22.6–25.4) ⁵" in text and "5 the generator was the limit" in text
    assert "4 Mesos: Marathon-compatible API of coebench, not Marathon" in text
    assert "k8s deploy, block 4 failed: kubelet ended: out of memory" in text
    assert "mesos deploy, blocks 2, 5 timeout: answers: not within 60 s" in text
    assert "node-monitor-grace-period 40s" in text and "dispatcher heartbeat 5s" in text
    assert "seed 7" in text and "5 blocks" in text and "3.1 % of one core" in text
    assert "the machine's load was 3.1" in text
    assert "engine says ready" in text


def test_best_is_marked_without_colour_and_only_where_it_is_real(result):
    lines = [line for line in shown(result).splitlines() if "✓" in line and "better than" not in line]
    assert len(lines) == sum(m.best is not None for m in result.metrics) > 0


def test_sentences(result):
    text = words(shown(result))
    assert re.search(
        r"All instances answer \(10 instances\): Docker Swarm 1\.\d\d× \(1\.\d\d–\d\.\d\d\) faster than Kubernetes; "
        r"Mesos is not distinguishable from Docker Swarm \(1\.\d\d×, 0\.\d\d–1\.\d\d\) "
        r"\(Kubernetes: 1 of 5 failed\)\.",
        text,
    )
    assert "no verdict on Docker Swarm against Mesos: the generator was the limit" in text


def test_one_trial_each_says_once_that_there_is_no_verdict(tmp_path):
    text = words(shown(derive(Synthetic(tmp_path, blocks=1, trouble=False).write(), SCENARIOS)))
    assert text.count("too few trials") == 1 and "5 are needed" in text
    assert "–" not in text.split("Notes")[0].replace("─", "")  # no interval of one trial


def test_colour_where_there_is_a_terminal_that_has_it(result):
    out = io.StringIO()
    TerminalReporter().print(result, Console(file=out, force_terminal=True, color_system="standard", width=100))
    assert "\x1b[1;32m" in out.getvalue()
    assert "\x1b" not in shown(result)


def test_ascii_where_there_is_no_more(result):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    TerminalReporter(80).render(result, out)
    out.flush()
    text = raw.getvalue().decode()
    assert " * " in text or " *\n" in text or "*  " in text
    assert ">=24.8" in text and "[5]" in text


def test_names_with_markup_and_control_are_printed_as_they_are(tmp_path):
    name = "[bold red]k8s[/]\x1b[31m\u202e:smile:"
    run = Synthetic(tmp_path, subjects={name: "k8s", "swarm": "swarm"}, effect={name: 2, "swarm": 1})
    run.trouble = False
    text = shown(derive(run.write(), SCENARIOS), 200)
    assert "[bold red]k8s[/] [31m :smile:" in text
    assert "\x1b" not in text and "\u202e" not in text


def test_a_claim_keeps_its_own_unit(result):
    metrics = [
        msgspec.structs.replace(
            m,
            unit="ms",
            values={
                s: msgspec.structs.replace(v, median=v.median and v.median * 1000, low=None, high=None)
                for s, v in m.values.items()
            },
        )
        if m.claim_of
        else m
        for m in result.metrics
    ]
    text = words(shown(msgspec.structs.replace(result, metrics=tuple(metrics)), 140))
    assert re.search(r"engine says ready, ms 14\d\d\b", text)


def test_subjects_without_a_bay_are_shown(result):
    text = shown(msgspec.structs.replace(result, bays={}))
    assert "1.62 (1.59–1.64)" in text and "faster than k8s" in words(text)


def test_many_subjects_are_paged(tmp_path):
    names = {f"{c}-{kind}": c for c in ("k8s", "swarm", "mesos") for kind in ("stock", "harmonised", "local-disk")}
    result = derive(Synthetic(tmp_path, subjects=names, effect=dict.fromkeys(names, 1.0)).write(), SCENARIOS)
    text = shown(result)
    assert max(map(len, text.splitlines())) <= 80
    for name in names:
        assert name in text
    # The same note of several columns is one footnote.
    assert words(text).count("Marathon-compatible API of coebench") == 1


def test_an_empty_run():
    assert "Nothing was measured." in shown(Result(run=RunInfo(id="r")))


def test_a_run_where_all_failed(tmp_path):
    from coebench.hooks import Outcome

    run = Synthetic(tmp_path)
    run.facts = lambda t: Outcome(status="failed", seconds=1.0, reason="no such image")
    text = words(shown(derive(run.write(), SCENARIOS)))
    assert "5 of 5" in text and "–" in text and "failed: no such image" in text


def test_long_lists_are_cut(tmp_path):
    from coebench.hooks import Outcome

    run = Synthetic(tmp_path, blocks=12)
    run.facts = lambda t: Outcome(status="failed", seconds=1.0, reason=f"trial {t.id} went wrong")
    text = words(shown(derive(run.write(), SCENARIOS)))
    assert "and 61 more" in text and text.count("went wrong") == 11


def test_the_folder_is_named_where_it_is_known(result):
    out = io.StringIO()
    TerminalReporter(200, folder="runs/20260102-quiet").render(result, out)
    assert "in runs/20260102-quiet" in words(out.getvalue())


def test_noise_floor_is_printed(tmp_path):
    run = Synthetic(tmp_path, subjects={"k8s-1": "k8s", "k8s-2": "k8s"}, effect={"k8s-1": 1, "k8s-2": 1}, trouble=False)
    text = words(shown(derive(run.write(), SCENARIOS)))
    assert "noise floor: of 12 comparisons of a thing with itself" in text


def test_censored_median_is_a_bound(result):
    m = next(m for m in result.metrics if m.name == "last" and m.factors["instances"] == 30)
    values = dict(m.values)
    v = values["mesos"]
    values["mesos"] = msgspec.structs.replace(v, median=None, above=60.0, censored=3)
    changed = msgspec.structs.replace(m, values=values)
    text = words(shown(msgspec.structs.replace(result, metrics=(changed,))))
    assert ">60" in text and "3 of 5 timed out" in text


@pytest.mark.parametrize("first", ["k8s", "mesos"])
def test_a_figure_is_told_as_a_multiple_of_the_baselines(tmp_path, first):
    """Whichever column comes first, and with one trial too; what has no known ratio has none."""
    others = [c for c in ("k8s", "swarm", "mesos") if c != first]
    run = Synthetic(tmp_path, subjects={c: c for c in (first, *others)}, trouble=False, effect={"k8s": 2, "swarm": 1, "mesos": 6})
    result = derive(run.write(), SCENARIOS)
    bays = {**result.bays, "swarm": msgspec.structs.replace(result.bays["swarm"], baseline=True)}
    laid = table(msgspec.structs.replace(result, bays=bays))
    rows = [r for s in laid.sections for r in s.rows if r.metric == "last" and not r.claim]
    assert rows
    for row in rows:
        (m,) = [m for m in result.metrics if m.name == "last" and not m.claim_of and m.factors == row.factors]
        assert row.cells["swarm"].over == ""
        for coe in ("k8s", "mesos"):
            wanted = m.values[coe].median / m.values["swarm"].median
            assert float(row.cells[coe].over.rstrip("×")) == pytest.approx(wanted, rel=0.06)
    assert not any(c.over for s in laid.sections for r in s.rows if r.claim for c in r.cells.values())
    assert "a baseline, never called best. 2× is twice" in words(shown(msgspec.structs.replace(result, bays=bays), 100))
    assert not any(c.over for s in table(result).sections for r in s.rows for c in r.cells.values())


def test_a_figure_at_the_generators_limit_is_no_multiple(result):
    bays = {**result.bays, "swarm": msgspec.structs.replace(result.bays["swarm"], baseline=True)}
    cells = [(r, c) for s in table(msgspec.structs.replace(result, bays=bays)).sections for r in s.rows for c in r.cells.values()]
    assert any(c.figure.startswith("≥") for _, c in cells)
    assert not any(c.over for _, c in cells if c.figure[:1] in ("≥", ">"))


def test_nothing_is_no_multiple_of_nothing(result):
    m = next(m for m in result.metrics if m.name == "last" and not m.claim_of)
    values = {s: msgspec.structs.replace(v, median=0.0) for s, v in m.values.items()}
    pairs = tuple(msgspec.structs.replace(r, ratio=1.0) for r in m.ratios)
    bays = {**result.bays, "swarm": msgspec.structs.replace(result.bays["swarm"], baseline=True)}
    changed = msgspec.structs.replace(result, metrics=(msgspec.structs.replace(m, values=values, ratios=pairs),), bays=bays)
    assert not any(c.over for s in table(changed).sections for r in s.rows for c in r.cells.values())
