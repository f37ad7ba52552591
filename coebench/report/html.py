"""The page: one file with everything in it, which opens offline and asks nothing of anyone."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TextIO

from ..contract import Observation
from ..results.model import BayResult, Result
from . import plots, words
from .plots import Figure, style, svg
from .table import Column, Section, table
from .words import clean

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
INCOMPLETE = "This run is not complete: the page shows what there is, the notes say what is missing."
OPEN = 4  # metrics of a scenario whose pictures are seen at once; those of the others are folded
LONG = 4000  # characters of a failed trial's evidence that are shown


class Plot(NamedTuple):
    """A figure, drawn for a screen and for a phone."""

    figure: Figure
    wide: str
    narrow: str
    full: bool = False


class _Scenario(NamedTuple):
    name: str
    question: str
    table: Section | None
    columns: Sequence[Column]
    plots: Sequence[Plot]
    folded: Sequence[Plot]
    more: str  # what the folded ones are of, for the line that opens them


class HtmlReporter:
    """`coebench report RUN --format html -o report.html`. Without a run folder, the plots that a result alone can fill."""

    name: ClassVar[str] = "html"

    def render(self, result: Result, out: TextIO) -> None:
        self.render_run(result, (), out)

    def render_run(self, result: Result, observations: Iterable[Observation], out: TextIO) -> None:
        out.write(page(result, observations))

    def render_runs(self, runs: Iterable[tuple[Result, Iterable[Observation]]], out: TextIO) -> None:
        """One page, a part a run."""
        out.write(pages(runs))


def page(result: Result, observations: Iterable[Observation] = ()) -> str:
    """The whole document. Every text of the run is escaped where it stands; what a plot draws is escaped as it is drawn."""
    return pages([(result, observations)])


def pages(runs: Iterable[tuple[Result, Iterable[Observation]]]) -> str:
    """The document of several runs, one after the other. Nothing is compared between them: that is `coebench diff`."""
    found = list(runs)
    many = len(found) > 1
    parts = [_run(r, observations, f"r{i}-" if many else "") for i, (r, observations) in enumerate(found, 1)]
    first = found[0][0]
    ids = [clean(r.run.id) for r, _ in found]
    title = f"{len(found)} runs" if many else f"{_title(first)} · {table(first).title}"
    return render("report.html", parts=parts, ids=ids, title=title, version=clean(first.run.version))


def _title(result: Result) -> str:
    called = words.called_in(result)
    return f"{words.listing(list(called.values()))} compared" if called else "An empty run"


def _run(result: Result, observations: Iterable[Observation], prefix: str) -> str:
    """One run's part. `prefix`: what its ids begin with, so that those of two runs differ."""
    t = table(result)
    source = plots.source(result, observations)
    drawn: dict[str, list[Plot]] = {}
    for figure in plots.all_figures(source):
        drawn.setdefault(figure.scenario, []).append(draw(figure))
    tables = {s.scenario: s for s in t.sections}
    names = [clean(s.name) for s in result.scenarios] or list(tables)
    questions = {clean(s.name): clean(s.question) for s in result.scenarios}
    sections = [
        _Scenario(
            name=name,
            question=questions.get(name, ""),
            table=tables.get(name),
            columns=[c for c in t.columns if name in tables and any(c.subject in r.cells for r in tables[name].rows)],
            **_folded(drawn.get(name, [])),
        )
        for name in dict.fromkeys([*names, *tables])
        if name in tables or name in drawn
    ]
    called = words.called_in(result)
    bays = [(called[s], b) for s, b in result.bays.items()]
    definitions = {(m.scenario, m.name): m for m in result.metrics if m.definition}
    return render(
        "report_run.html",
        prefix=prefix,
        title=_title(result),
        started=clean(result.run.started)[:16].replace("T", " ") + " UTC" if result.run.started else "",
        t=t,
        run=result.run,
        incomplete="" if result.run.complete else INCOMPLETE,
        gates=[(g.passed, clean(g.text), clean(g.reason)) for g in result.gates],
        sections=sections,
        warnings=[("", w) for w in t.warnings],
        bays=[{"name": name} for name, _ in bays],
        facts=_facts(bays),
        bay_plots=drawn.get("", []),
        machine=[(clean(k), clean(v)) for k, v in result.run.host.items()],
        command=clean(" ".join(result.run.command)),
        definitions=list(definitions.values()),
        trials=[
            {
                "id": clean(tr.id),
                "status": tr.status,
                "took": words.seconds(tr.seconds),
                "reason": clean(tr.reason),
                "evidence": "\n".join(map(clean, tr.evidence[-LONG:].splitlines())),
            }
            for tr in result.trials
        ],
    )


def _folded(drawn: list[Plot]) -> dict[str, Any]:
    """Of a scenario's plots those that are seen at once, and those of further metrics, which only repeat the table."""
    metrics = list(dict.fromkeys(p.figure.metric for p in drawn if p.figure.metric))
    later = metrics[OPEN:] if len(metrics) > OPEN + 1 else []
    folded = [p for p in drawn if p.figure.metric in later]
    return {
        "plots": [p for p in drawn if p.figure.metric not in later],
        "folded": folded,
        "more": "; ".join(dict.fromkeys(p.figure.title.removeprefix(f"{p.figure.scenario}: ") for p in folded)),
    }


def draw(figure: Figure) -> Plot:
    """Both widths. Many panels beside each other need the page's whole width."""
    full = figure.columns >= 3
    return Plot(figure, svg.draw(figure, 900 if full else svg.WIDE), svg.draw(figure, svg.NARROW), full)


def render(template: str, **values: Any) -> str:
    """A template of this package with the look of all pages. Everything is escaped but what a template calls safe."""
    env, css = _look()
    return env.get_template(template).render(css=css, **values)


@functools.cache  # the live page asks every second
def _look() -> tuple[jinja2.Environment, str]:
    """Where templates come from, and the look of all pages."""
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["code"] = _code
    css = env.get_template("page.css").render(light=style.variables("light"), dark=style.variables("dark"), plots=style.rules())
    return env, css


def _code(text: str) -> Any:
    """A text with its `words of code` set as such; everything else of it is escaped."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _facts(bays: Sequence[tuple[str, BayResult]]) -> list[tuple[str, list[str]]]:
    """What stood behind each column, a row each, without the rows that none of them has."""

    def pairs(values: Mapping[str, Any]) -> str:
        return ", ".join(f"{k} {v}" for k, v in values.items())

    rows = [
        ("engine", [f"{b.engine} {b.version}" for _, b in bays]),
        ("components", [pairs(b.components) for _, b in bays]),
        ("hosts", [f"{b.controls} control, {b.nodes} nodes" if b.nodes else "" for _, b in bays]),
        ("each host", [_host(b) for _, b in bays]),
        ("network", [b.network for _, b in bays]),
        ("provisioner", [b.provisioner for _, b in bays]),
        ("options", [pairs(b.options) for _, b in bays]),
        ("timeouts", [b.timeout_profile for _, b in bays]),
    ]
    return [(label, [clean(c) for c in cells]) for label, cells in rows if any(c.strip() for c in cells)]


def _host(b: BayResult) -> str:
    if not b.hosts:
        return ""
    host = b.hosts[0]
    parts = [f"{host.memory / 2**30:.3g} GiB"] if host.memory else []
    return ", ".join([*parts, f"{host.cpu:g} CPU" if host.cpu else "CPU by weight"])
