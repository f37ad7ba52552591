"""What the docs show of the run in docs/example-run, made anew.

    python scripts/gallery.py --texts                     README's table, docs/gallery/table.svg, docs/gallery.md; needs nothing
    python scripts/gallery.py [--live RUN] [--plots RUN…] these and the pictures of docs/gallery (root, Debian 12: it runs
                                                          Debian's Chromium)

tests/unit/test_gallery.py says when the texts are no longer those of the run. The page and its plots are of the run kept in
docs/example-run. The live page is shown RUN, docs/example-run if none is given, as it was recorded, up to the middle of its last
load. Plots of scenarios that this run has not are of the RUNs of --plots, and stay as they are without them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "browser"), str(ROOT / "tests" / "unit")]

from coebench.cli.main import app  # noqa: E402
from coebench.report import html, pictures  # noqa: E402
from coebench.report.live.state import LiveState  # noqa: E402
from coebench.report.live.terminal import table  # noqa: E402
from coebench.report.live.web import LiveWeb  # noqa: E402
from coebench.results import folder  # noqa: E402
from coebench.results.model import Result  # noqa: E402

RUN = ROOT / "docs" / "example-run"
OUT = ROOT / "docs" / "gallery"
README = ROOT / "README.md"
SAMPLES = ROOT / "docs" / "gallery.md"
WIDE = 118  # characters of a sample's line; what is longer ends with …
GATES = ("swarm.deploy.all_answer[instances=10] > 5s", "k8s.serve.latency_p99 > 1us")  # one that passes, one that fails
PLOTS = ("deploy-placement-10", "serve-latency-loop-open-rate-1000-0", "deploy-all-answer-trials")
OTHERS = (
    "update-under-load-timeline-service-update-surge",
    "heal-full-capacity-matrix",
    "heal-timeline-service-heal-cut",
    "placement-placement-6",
    "serve-offered",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=Path, default=RUN)
    parser.add_argument("--plots", type=Path, nargs="*", default=[])
    parser.add_argument("--texts", action="store_true", help="what needs no browser")
    parser.add_argument("--only-plots", action="store_true", help="nothing but those of --plots")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    if options.texts:
        texts()
        return
    for run in options.plots:
        shown = folder.read_result(run)
        assert shown is not None, run
        plots(shown, run, OTHERS)
    if options.only_plots:
        return
    from chromium import Chromium, tree  # only here: it wants Debian's

    texts()
    result = folder.read_result(RUN)
    assert result is not None
    page = html.page(result, folder.observations(RUN))
    with Chromium(tree().ensure(print), network=True) as browser:
        for name, width, dark, height in (("page-1400", 1400, False, 1700), ("page-400-dark", 400, True, 1700)):
            browser.show(width, dark=dark)
            browser.content(page)
            save(f"{name}.webp", browser.picture(clip=(0, height), kind="webp"))
        for name, width, dark in (("live-1400-dark", 1400, True), ("live-400", 400, False)):
            web = LiveWeb(replayed(options.live), 0)
            browser.show(width, dark=dark)
            browser.open(web.url)
            save(f"{name}.webp", browser.picture(kind="webp"))
            web.close()
    plots(result, RUN, PLOTS)


def texts() -> None:
    """README's table, its picture, and the page of samples."""
    save("table.svg", said("report", str(RUN), "--format", "svg").encode())
    README.write_text(readme(README.read_text()))
    SAMPLES.write_text(samples())
    print(f"{README}, {SAMPLES}")


def said(*words: str) -> str:
    """What a command prints on standard output; one that ends with a gate's 3 is as good as any."""
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "NO_COLOR": "1", "FORCE_COLOR": None})
    assert done.exit_code in (0, 3), done.output
    return done.stdout.replace(str(ROOT) + "/", "")


def readme(text: str) -> str:
    """README with the run's tables as they are now: from its first table to its last footnote, which is all but the details of
    trials that scatter, timeouts and the machine."""
    made = said("report", str(RUN), "--format", "markdown").partition("\n\n**Unstable")[0]
    tables = re.compile(r"^### .*?(?=\n\n\*\*Before you quote it\.\*\*)", re.M | re.S)
    assert len(tables.findall(text)) == 1, "README has no place for the tables"
    return tables.sub(lambda _: made, text)


def samples() -> str:
    """docs/gallery.md."""
    run = "docs/example-run"
    gates = [w for g in GATES for w in ("--fail-if", g)]
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(ROOT):
        parts = [part(Path(scratch) / "blocks" / f"block-{b}", (b,)) for b in range(1, 6)]
        before, after = part(Path(scratch) / "1-2", (1, 2)), part(Path(scratch) / "3-5", (3, 4, 5))
        diffed = said("diff", str(before), str(after))
        past = said("history", str(parts[0].parent), "--metric", "*.deploy.all_answer[instances=10]")
        past = past.replace(str(parts[0].parent), "runs")
        sections = [
            ("The table in a terminal", "report RUN", "", shown("report", run, lines=24), "text"),
            ("Markdown", "report RUN --format markdown", "[README](../README.md) has it.", "", ""),
            (
                "The page, and pictures of its plots",
                "report RUN --format html -o report.html",
                "[Pages, pictures, live](reports.md) has both, and the live page.",
                "",
                "",
            ),
            (
                "A summary for GitHub",
                f"report RUN --format github {' '.join(w if w.startswith('--') else repr(w) for w in gates)}",
                "The first gate holds, the second is there to show one that doesn't: the exit code is 3.",
                shown("report", run, "--format", "github", *gates, lines=8),
                "markdown",
            ),
            ("JUnit XML", "report RUN --format junit", "With the same gates.", junit(run, gates), "xml"),
            ("CSV", "report RUN --format csv", "A line a figure.", shown("report", run, "--format", "csv", lines=4), "text"),
            (
                "CSV of single trials",
                "report RUN --format csv-samples",
                "A line a trial's value.",
                shown("report", run, "--format", "csv-samples", lines=4),
                "text",
            ),
            (
                "OpenMetrics",
                "report RUN --format openmetrics",
                "",
                shown("report", run, "--format", "openmetrics", lines=7),
                "text",
            ),
            (
                "Two runs beside each other",
                "diff before after",
                "No second run is kept here. These two are parts of the one: its first two blocks and its last three,\n"
                "taken as runs of their own. Nothing differed between them but the time, and with so few trials no\n"
                "difference can be told.",
                head(diffed, 16),
                "text",
            ),
            (
                "Many runs",
                "history runs --metric '*.deploy.all_answer[instances=10]'",
                "Its five blocks, each taken as a run of one trial of each.",
                head(past, 30),
                "text",
            ),
            (
                "A run as it happens, in the terminal",
                "compare k8s swarm mesos --live",
                "In colour, where there is any; while the run's last load was sent.",
                live(),
                "text",
            ),
        ]
    out = [
        "<!-- Made by scripts/gallery.py --texts: edit that. -->",
        "# A sample of each output",
        "",
        "All are of the run in [docs/example-run](example-run), cut where they are long. `RUN` stands for a run folder.",
        "",
    ]
    for title, command, about, text, language in sections:
        out += [f"## {title}", "", "```", f"coebench {command}", "```", ""]
        out += [about, ""] if about else []
        out += [f"```{language}", text, "```", ""] if text else []
    return "\n".join(out).rstrip() + "\n"


def shown(*words: str, lines: int) -> str:
    return head(said(*words), lines)


def head(text: str, lines: int) -> str:
    """The first lines of a text, none wider than WIDE."""
    every = [line.rstrip() for line in re.sub(r"^\s*\n", "", text.rstrip()).splitlines()]
    cut = [line if len(line) <= WIDE else f"{line[: WIDE - 1]}…" for line in every[:lines]]
    return "\n".join([*cut, *["…"] * (len(every) > lines)])


def junit(run: str, gates: Sequence[str]) -> str:
    """The gates and the first trials: cases that failed have a line of their own."""
    return shown("report", run, "--format", "junit", *gates, lines=9)


def live() -> str:
    out = io.StringIO()
    Console(file=out, width=100, color_system=None, force_terminal=False).print(table(replayed(RUN), width=100))
    return head(out.getvalue(), 20)


def part(where: Path, blocks: Sequence[int]) -> Path:
    """Some blocks of the example run as a run of their own."""
    recorded = folder.read(RUN)
    lines = [line for line in recorded.trials if line.trial.block in blocks]
    ids = {line.trial.id for line in lines}
    of = ids | {line.trial.bay for line in lines} | {""}
    order = [i for i in recorded.manifest["order"] if i in ids]
    own = {"run": where.name, "blocks": len(blocks), "order": order, "started": lines[0].at}
    where.mkdir(parents=True)
    (where / "manifest.json").write_bytes(msgspec.json.encode({**recorded.manifest, **own}))
    encode = msgspec.json.Encoder().encode_lines
    (where / "observations.jsonl").write_bytes(encode([o for o in recorded.observations if o.trial in of]))
    (where / "trials.jsonl").write_bytes(encode(lines))
    return where


def plots(result: Result, run: Path, wanted: tuple[str, ...]) -> None:
    """Of a run's plots those whose names begin so."""
    for name, content in pictures.pictures(result, folder.observations(run), "svg"):
        if found := next((w for w in wanted if name.startswith(w)), None):
            save(f"{found}.svg", content)


def replayed(run: Path) -> LiveState:
    """What followers of a run knew when the last load but one second was over."""
    recorded = folder.read(run)
    facts = [(o.at, "observed", {"observation": o}) for o in recorded.observations]
    for line in recorded.trials:
        about = {"trial": line.trial} | ({"outcome": line.outcome} if line.outcome else {})
        facts.append((line.at, "trial_ended" if line.outcome else "trial_started", about))
    facts.sort(key=lambda f: f[0])
    loads = [f[0] for f in facts if f[1] == "observed" and f[2]["observation"].name in ("load", "load.second")]
    end = loads[-3] if len(loads) > 3 else facts[-1][0]
    at = facts[0][0]
    state = LiveState(clock=lambda: at)
    state.run_started(run=str(recorded.manifest.get("run", "")), folder=str(run), manifest=recorded.manifest)
    for at, hook, about in facts:
        if at > end:
            break
        getattr(state, hook)(**about)
    return state


def save(name: str, content: bytes) -> None:
    (OUT / name).write_bytes(content)
    print(f"{OUT / name}: {len(content) >> 10} KiB")


if __name__ == "__main__":
    main()
