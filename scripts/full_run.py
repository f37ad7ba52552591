"""docs/full-run.md and the results on the pages of docs/scenarios, made of a run of all scenarios.

    python scripts/full_run.py RUN [RUN…] [--note TEXT]

RUN is a run folder, as of `compare k8s swarm mesos --profile full --trials 1`; of several, each page shows the last that have its
scenario on all subjects together. A page has its result between two comments, `<!-- result -->` and `<!-- /result -->`; without
them it stays as it is.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from coebench.report.markdown import MarkdownReporter
from coebench.report.words import seconds
from coebench.results import folder
from coebench.results.model import Result

ROOT = Path(__file__).parents[1]
WHOLE = ROOT / "docs" / "full-run.md"
PAGES = ROOT / "docs" / "scenarios"
# Of scenarios that have very many rows, the metrics that a page shows; all are in the whole.
CHOSEN: dict[str, tuple[str, ...]] = {
    "operations": ("seen", "claimed", "timed_out"),
    "serve": (
        *("saturation", "slo_rate", "slo_low", "slo_high", "slo_agreed", "offered", "latency_p50", "latency_p99", "latency_p999"),
        *("curve_achieved", "curve_errors", "curve_p50", "curve_p99"),
    ),
    "idle": ("cpu", "memory", "instance_cpu", "instance_memory", "latency_p50", "latency_p99"),
    "heal": (
        *("failed", "good_rate", "first_error", "last_error", "noticed", "full_capacity", "full_ready", "lost_capacity"),
        *("settled", "duplicates", "duplicate_time", "orphans"),
    ),
}
PART = re.compile(r"(?<=<!-- result -->\n).*?(?=<!-- /result -->)", re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--note", default="", help="what a reader of the whole is to know first")
    given = parser.parse_args()
    results = []
    for run in given.runs:
        result = folder.read_result(run)
        if result is None:
            sys.exit(f"{run} has no result: is it over?")
        results.append(result)
    WHOLE.write_text(whole(results, given.note))
    for name in dict.fromkeys(s.name for r in results for s in r.scenarios):
        page = PAGES / f"{name}.md"
        if page.exists() and (found := PART.search(text := page.read_text())):
            told = "\n\n".join(shown(r, name) for r in last(results, name))
            page.write_text(f"{text[: found.start()]}\n{told}\n\n{text[found.end() :]}")
            print(page.relative_to(ROOT))


def last(results: Sequence[Result], scenario: str) -> list[Result]:
    """The last results that have a scenario on all of its subjects together, in the order given."""
    having = {id(r): {t.subject for t in r.trials if t.scenario == scenario} for r in results}
    wanted = set().union(*having.values())
    found: list[Result] = []
    for result in reversed(results):
        if having[id(result)] and wanted:
            found.insert(0, result)
            wanted -= having[id(result)]
    return found


def whole(results: Sequence[Result], note: str) -> str:
    """All of each run, as `report --format markdown` has it."""
    out = [
        "<!-- Made by scripts/full_run.py: edit that. -->",
        "# A whole run of all scenarios",
        "",
        "Every scenario once on each engine: what the tables look like, and orders of magnitude. One trial has no interval, so",
        "nothing here is called better, and nothing is to be quoted. [How to read a result](reading-results.md).",
        "",
        *([note, ""] if note else []),
    ]
    for result in results:
        out += [f"## {called(result)}", "", f"{result.run.started[:10]}, {seconds(result.run.seconds)}.", ""]
        out += [*times(result), "", markdown(result), ""]
    return "\n".join(out).rstrip() + "\n"


def times(result: Result) -> Iterator[str]:
    """How long each scenario took on each subject."""
    subjects = list(dict.fromkeys(t.subject for t in result.trials))
    yield "| what a trial took | " + " | ".join(subjects) + " |"
    yield "|:--|" + "--:|" * len(subjects)
    for name in dict.fromkeys(s.name for s in result.scenarios):
        took = {t.subject: seconds(t.seconds) for t in result.trials if t.scenario == name}
        yield f"| `{name}` | " + " | ".join(took.get(s, "–") for s in subjects) + " |"


def shown(result: Result, scenario: str) -> str:
    """One scenario's table and sentences, with the footnotes that it uses."""
    chosen = CHOSEN.get(scenario)
    mine = [m for m in result.metrics if m.scenario == scenario and (not chosen or m.name in chosen)]
    part = msgspec.structs.replace(
        result,
        metrics=tuple(mine),
        trials=tuple(t for t in result.trials if t.scenario == scenario),
        scenarios=tuple(s for s in result.scenarios if s.name == scenario),
        warnings=(),
    )
    text = markdown(part)
    said = text.partition("\n<sub>")[0]  # before the legend
    table = said.partition("\n\n")[2].strip()
    used = {n for marks in re.findall(r"<sup>([\d, ]+)</sup>", table) for n in marks.split(", ")}
    notes = [line for line in text.splitlines() if (n := re.match(r"(\d+)\. ", line)) and n[1] in used]
    left = " Some of its rows are left out." if chosen else ""
    about = f"One trial of each column, of [{called(result)}](../full-run.md), on the project's machine of 2 cores.{left}"
    ended = [f"{t.subject}: {t.status}: {t.reason}" for t in part.trials if t.status != "ok"]
    return "\n\n".join([about, table, *(["\n".join(notes)] if notes else []), *ended])


def called(result: Result) -> str:
    """Its command, as a person would type it."""
    words = [Path(result.run.command[0]).name, *result.run.command[1:]]
    if "--runs" in words:  # where the run folder went is nobody's matter
        del words[(i := words.index("--runs")) : i + 2]
    return f"`{' '.join(words)}`"


def markdown(result: Result) -> str:
    out = io.StringIO()
    MarkdownReporter().render(result, out)
    return out.getvalue().strip()


if __name__ == "__main__":
    main()
