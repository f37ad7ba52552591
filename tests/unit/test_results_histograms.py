"""Logs of histograms, read back by the package hdrhistogram."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden import FORMAT_1
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from coebench.contract import Observation
from coebench.results import folder, histograms


def encoded(values: list[int]) -> str:
    h = HdrHistogram(1, 60_000_000_000, 3)
    for v in values:
        h.record_value(v)
    return h.encode().decode()


def intervals(file: Path) -> Iterator[HdrHistogram]:
    reader = HistogramLogReader(str(file), HdrHistogram(1, 60_000_000_000, 3))
    while (h := reader.get_next_interval_histogram()) is not None:
        yield h


def load(at: float = 1000.0, trial: str = "b1.x.serve", **data: object) -> Observation:
    return Observation(at=at, name="load", trial=trial, data=data)


def test_the_packages_reader_gives_back_what_was_observed(tmp_path):
    recorded = folder.read(FORMAT_1)
    assert folder.write_histograms(tmp_path, recorded.observations) == []
    loads = [o for o in recorded.observations if o.name == "load"]
    assert len(list((tmp_path / "histograms").iterdir())) == 2 * len(loads) == 16
    for o in loads:
        which = "closed" if o.data["loop"] == "closed" else "open.1000"
        for kind, percentiles in (("latency", "latency_ms"), ("raw", "raw_ms")):
            [h] = intervals(tmp_path / "histograms" / f"{o.trial}.{which}.{kind}.hlog")
            assert h.get_total_count() == o.data["ok"]
            assert h.get_value_at_percentile(99) / 1e6 == pytest.approx(o.data[percentiles]["p99"], rel=2e-3)
            assert h.get_start_time_stamp() / 1000 == pytest.approx(o.at - o.data["seconds"], abs=2e-3)
            assert (h.get_end_time_stamp() - h.get_start_time_stamp()) / 1000 == pytest.approx(o.data["seconds"], abs=2e-3)


def test_seconds_are_intervals_of_one_log(tmp_path):
    texts = [encoded([10_000 * (i + 1)] * (i + 1)) for i in range(5)]
    seconds = [{"at": 990.0 + i, "latency": t} for i, t in enumerate(texts)]
    folder.write_histograms(tmp_path, [load(loop="open", rate=50.0, seconds=5.0, bursts=seconds, histogram=encoded([1, 2]))])
    names = sorted(p.name for p in (tmp_path / "histograms").iterdir())
    assert names == ["b1.x.serve.open.50.bursts.latency.hlog", "b1.x.serve.open.50.latency.hlog"]
    read = list(intervals(tmp_path / "histograms" / names[0]))
    assert [h.get_total_count() for h in read] == [1, 2, 3, 4, 5]
    assert [h.get_start_time_stamp() for h in read] == [(990.0 + i) * 1000 for i in range(5)]


def test_loads_of_one_trial_are_kept_apart_and_repeats_are_intervals():
    text = encoded([5000])
    found = [
        load(at=10, loop="open", rate=100, seconds=1, histogram=text),
        load(at=20, loop="open", rate=200, seconds=1, histogram=text),
        load(at=30, loop="open", rate=200, seconds=1, histogram=text),
    ]
    logs, bad = histograms.logs(found)
    assert not bad
    counts = {name: sum(not line.startswith(("#", '"')) for line in text.splitlines()) for name, text in logs.items()}
    assert counts == {"b1.x.serve.open.100.latency.hlog": 1, "b1.x.serve.open.200.latency.hlog": 2}


def test_settings_and_discarded_loads_are_told_apart():
    text = encoded([5000])
    told = {"loop": "open", "rate": 100.0, "step": "curve", "histogram": text}
    found = [
        load(**told, factors={"connections": 24, "routing": "native"}),
        load(**told, factors={"connections": 48, "routing": "native"}, discarded="it was still warming up"),
    ]
    assert list(histograms.logs(found)[0]) == [
        "b1.x.serve.curve.open.100.connections-24.routing-native.latency.hlog",
        "b1.x.serve.curve.open.100.connections-48.routing-native.discarded.latency.hlog",
    ]


def test_a_histogram_that_is_none_costs_itself_alone(tmp_path):
    good = load(loop="closed", histogram=encoded([7]))
    bad = [load(loop="open", histogram=t) for t in ("HISTF", "HISTFAAA", "HISTF!!", encoded([7])[:-9])]
    told = folder.write_histograms(tmp_path, [*bad, good])
    assert len(told) == 4 and all("b1.x.serve: the histogram open.latency is no HdrHistogram" in t for t in told)
    assert [p.name for p in (tmp_path / "histograms").iterdir()] == ["b1.x.serve.closed.latency.hlog"]


@pytest.mark.parametrize("trial", ["../../etc/passwd", "a/b", "<b>\n", "", "…", "." * 9])
def test_a_name_can_not_lead_elsewhere(tmp_path, trial):
    folder.write_histograms(tmp_path / "r", [load(trial=trial, loop="../x", histogram=encoded([7]))]) if (
        (tmp_path / "r").mkdir() is None
    ) else None
    assert [p.parent for p in tmp_path.rglob("*.hlog")] == [tmp_path / "r" / "histograms"]


def test_other_texts_are_no_histograms():
    assert not list(histograms.find(load(histogram="", note="HIST", deep={"a": ["HISTF"], "b": [1, {"c": "x"}]})))


def test_the_percentile_distribution_is_of_the_plotters_form():
    text = histograms.distribution(histograms.decode(encoded([1_000_000 * i for i in range(1, 1001)])))
    head, _, *rows = text.splitlines()
    assert head.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    values = [float(r.split()[0]) for r in itertools.takewhile(lambda r: not r.startswith("#"), rows)]
    assert values[-1] == pytest.approx(1000, rel=1e-3) and values == sorted(values)
    assert sum(r.startswith("#[") for r in rows) == 3
