"""The report's page without a browser: what it says, its size, and what it takes to make it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from everything import ALL, Everything, everything
from hdrh.histogram import HdrHistogram
from synthetic import SCENARIOS, Synthetic
from typer.testing import CliRunner

from coebench.cli.main import app
from coebench.contract import BadInput
from coebench.report import html, pictures
from coebench.results import derive, folder, model
from coebench.results.model import Result, RunInfo

COEBENCH = [sys.executable, "-m", "coebench"]


def test_it_holds_the_table_the_sentences_the_plots_and_how_it_was_measured(tmp_path: Path) -> None:
    result, observations = everything(tmp_path)
    page = html.page(result, observations)
    for text in (
        "Kubernetes, Docker Swarm and Mesos compared",
        "2 of 5 timed out",
        "kubelet ended: out of memory",
        "From the failure until all instances answer again.",
        "coebench compare k8s swarm mesos",
        "dispatcher heartbeat 5s",
        "Example 3.0 GHz",
    ):
        assert text in page, text
    for plot in ("heal-whole-matrix", "curve-offered", "update-timeline-loop-open-rate-200-0", "deploy-placement-10"):
        assert f'<figure id="{plot}"' in page, plot
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\((?!data:)""", page), "nothing from elsewhere"


def test_an_empty_run_and_one_that_broke_off_have_a_page(tmp_path: Path) -> None:
    assert "Nothing was measured." in html.page(Result(run=RunInfo(id="r")))
    path = Synthetic(tmp_path, blocks=3).write(stop_after=5)
    page = html.page(derive.derive(path, SCENARIOS), folder.observations(path))
    assert "This run is not complete" in page and "planned trials were never begun" in page and "<svg" in page


def test_what_became_of_the_gates_stands_at_the_top(tmp_path: Path) -> None:
    run = str(Synthetic(tmp_path).write())
    page = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["report", run, "--format", "html", "-o", str(page), "--fail-if", "swarm.deploy.first > 1ms"])
    assert done.exit_code == 3
    assert "<b>FAILED</b> swarm.deploy.first &gt; 1ms" in page.read_text().partition("<nav")[0]


def test_without_the_observations_the_trials_are_drawn(tmp_path: Path) -> None:
    result, _ = everything(tmp_path)
    page = html.page(result)
    assert 'id="heal-whole-matrix"' in page and 'id="deploy-last-trials"' in page and "timeline" not in page


def test_the_command_writes_a_page_and_pictures(tmp_path: Path) -> None:
    run = str(Synthetic(tmp_path).write())
    cli = CliRunner()
    page = tmp_path / "report.html"
    assert cli.invoke(app, ["report", run, "--format", "html", "-o", str(page)]).exit_code == 0
    assert page.read_text().startswith("<!doctype html>")
    shown = cli.invoke(app, ["report", run, "--format", "html"])
    assert shown.stdout == page.read_text(), "the same for the same run"
    for kind, magic in (("svg", b"<svg"), ("png", b"\x89PNG")):
        out = tmp_path / kind
        done = cli.invoke(app, ["report", run, "--format", kind, "-o", str(out)])
        assert done.exit_code == 0 and f"pictures in {out}" in done.stdout
        files = sorted(out.iterdir())
        assert len(files) >= 5 and all(f.suffix == f".{kind}" and f.read_bytes().startswith(magic) for f in files)
    dark = tmp_path / "dark"
    assert cli.invoke(app, ["report", run, "--format", "svg", "-o", str(dark), "--theme", "dark"]).exit_code == 0
    assert (dark / "bays-ready.svg").read_bytes() != (tmp_path / "svg/bays-ready.svg").read_bytes()


def test_several_runs_are_parts_of_one_page(tmp_path: Path) -> None:
    runs = [str(Synthetic(tmp_path, run=f"run-{i}", seed=i, blocks=2).write()) for i in (1, 2)]
    done = CliRunner().invoke(app, ["report", *runs, "--format", "html"])
    page = done.stdout
    assert done.exit_code == 0 and page.startswith("<!doctype html>") and page.count("<main>") == page.count("<!doctype") == 1
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and {"run-1", "run-2", "r1-s-1", "r2-s-1", "r1-bays-ready", "r2-bays-ready"} <= set(ids)
    assert set(re.findall(r'(?:href="#|labelledby=")([^"]+)"', page)) <= set(ids)
    assert "<title>2 runs</title>" in page and "from runs run-1, run-2." in page


def test_the_page_of_one_run_has_ids_of_its_own(tmp_path: Path) -> None:
    page = CliRunner().invoke(app, ["report", str(Synthetic(tmp_path).write()), "--format", "html"]).stdout
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and {"s-1", "notes", "environment", "method", "trials", "bays-ready"} <= set(ids)
    assert set(re.findall(r'(?:href="#|labelledby=")([^"]+)"', page)) <= set(ids)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--format", "png"], "give --output FOLDER"),
        (["--format", "svg", "-o", "RUN/manifest.json"], "can't write pictures into"),
        (["--format", "html", "-o", "/nowhere/x.html"], "can't write /nowhere/x.html: No such file"),
        (["--format", "html", "--theme", "pink"], "--theme is light or dark, not 'pink'"),
        (["RUN", "--format", "svg"], "one run at a time"),
        (["RUN", "--format", "png", "-o", "x"], "one run at a time"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, args: list[str], said: str) -> None:
    run = str(Synthetic(tmp_path, blocks=1).write())
    done = CliRunner().invoke(app, ["report", run, *(a.replace("RUN", run) for a in args)])
    assert isinstance(done.exception, BadInput)
    assert said in str(done.exception) and "\n" not in str(done.exception)


def test_a_png_has_the_letters_that_its_svg_has(tmp_path: Path) -> None:
    """A picture without a font would be the same with every text: the font must be found."""
    text = '<text x="5" y="20" font-family="sans-serif">{}</text>'
    one = f'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="30">{text}</svg>'
    assert pictures.png(one.format("abc")) != pictures.png(one.format("xyz")) != pictures.png(one.format(""))


class Large(Everything):
    """A hundred trials and more, with ten million requests in their histograms, second by second."""

    requests = 0
    made: ClassVar[dict[int, HdrHistogram]] = {}

    def _histogram(self, n: int) -> str:
        """Of n requests, each one another: no two seconds are the same, and none may be read only once for all."""
        if n not in self.made:
            self.made[n] = HdrHistogram(64, 60_000_000_000, 3)
            for v in np.exp(0.6 * self.rng.standard_normal(300)) * 1e6:
                self.made[n].record_value(int(v), max(1, n // 300))
        self.made[n].record_value(int(self.rng.integers(1_000_000, 50_000_000)))
        return str(self.made[n].encode().decode())

    def facts(self, t: Any) -> Any:
        service = f"web-{t.scenario}"
        self.observe("requested", t.id, service=service, instances=30)
        for i in range(30):
            for state in ("pending", "starting", "ready"):
                self.observe(
                    "instance", t.id, 0.01, service=service, id=f"i{i}", state=state, version="v1", claims={"x": self.at}
                )
            self.observe("answer", t.id, 0.01, service=service, instance=f"i{i}", kind="up", version="v1")
        for _ in range(30):
            n = 3600
            type(self).requests += n
            data = {"seconds": 1.0, "phase": "measured", "planned": n, "ok": n, "errors": {}, "raw": self._histogram(1)}
            self.observe("load.second", t.id, 1.0, loop="open", rate=3600.0, latency=self._histogram(n), **data)
        data = {"loop": "open", "rate": 3600.0, "planned": 108_000, "seconds": 30.0, "achieved_rps": 3600.0}
        self.observe("load", t.id, histogram=self._histogram(108_000), saturated="", **data)
        return super().facts(t)


# A process's greatest memory counts from before its exec: a child of the (large) test process would have its size. So a
# small process starts it.
MEASURED = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(status)
"""


def test_a_hundred_trials_and_ten_million_requests(tmp_path: Path) -> None:
    """The report in 5 s (of CPU: the machine has other work), the page below 3 MB, in 300 MB of memory."""
    run = Large(tmp_path, blocks=7)
    path = run.write()
    result = derive.derive(path, ALL)
    folder.write_atomic(path / folder.RESULT, model.encode(result))
    assert len(result.trials) >= 100 and Large.requests >= 10_000_000
    page = tmp_path / "report.html"
    command = [*COEBENCH, "report", str(path), "--format", "html", "-o", str(page)]
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cpu, memory = (float(v) for v in done.stdout.split()[-2:])
    assert page.stat().st_size < 3 << 20
    assert cpu < 5
    assert memory < 300 << 10
    print(f"{page.stat().st_size >> 10} KiB, {cpu:.1f} s, {memory / 1024:.0f} MiB")
