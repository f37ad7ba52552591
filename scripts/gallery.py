"""The pictures of docs/gallery, made anew: python scripts/gallery.py [--live RUN] [--plots RUN…] (root, Debian 12: it runs
Debian's Chromium).

The page and its plots are of the run kept in docs/example-run. The live page is shown RUN, docs/example-run if none is given,
as it was recorded, up to the middle of its last load. Plots of scenarios that this run has not are of the RUNs of --plots, and
stay as they are without them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "browser"), str(ROOT / "tests" / "unit")]

from chromium import Chromium, tree  # noqa: E402

from coebench.report import html, pictures  # noqa: E402
from coebench.report.live.state import LiveState  # noqa: E402
from coebench.report.live.web import LiveWeb  # noqa: E402
from coebench.results import folder  # noqa: E402
from coebench.results.model import Result  # noqa: E402

RUN = ROOT / "docs" / "example-run"
OUT = ROOT / "docs" / "gallery"
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
    parser.add_argument("--only-plots", action="store_true", help="nothing but those of --plots")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    for run in options.plots:
        shown = folder.read_result(run)
        assert shown is not None, run
        plots(shown, run, OTHERS)
    if options.only_plots:
        return
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
