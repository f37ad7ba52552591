"""The summary of a job on GitHub (and GitLab, which sets the same Markdown): gates first, then the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from ..results.model import Result
from .markdown import MarkdownReporter, escape
from .words import clean, seconds


class GithubReporter(MarkdownReporter):
    """`coebench report RUN --format github >> $GITHUB_STEP_SUMMARY`: Markdown with the verdict on top, the rest folded."""

    name: ClassVar[str] = "github"

    def lines(self, result: Result) -> Iterator[str]:
        failed = [g for g in result.gates if not g.passed]
        ended = [t for t in result.trials if t.status in ("ok", "skipped")]
        sign = "❌" if failed else "✅" if result.measured else "⚠️"
        what = f"{len(failed)} of {len(result.gates)} gates failed, " if result.gates else ""
        missing = "" if result.run.complete else ", the run is incomplete"
        yield (
            f"## {sign} coebench: {what}{len(ended)} of {len(result.run.order) or len(result.trials)} trials measured{missing}"
            f" ({seconds(result.run.seconds)})"
        )
        yield ""
        if result.gates:
            yield "| | fails if | found |"
            yield "|:--|:--|:--|"
            for g in result.gates:
                found = clean(g.reason)
                found = found if len(found) < 300 else f"{found[:300]}…"
                yield f"| {'✅' if g.passed else '❌'} | {escape(clean(g.text))} | {escape(found)} |"
            yield ""
        # Folded where there is a verdict above it already.
        yield "<details open><summary>Figures</summary>" if not failed else "<details><summary>Figures</summary>"
        yield ""
        yield from super().lines(result)
        yield ""
        yield "</details>"
