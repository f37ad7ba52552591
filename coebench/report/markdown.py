"""The table for a README, a blog or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, TextIO

from ..results.model import Result
from . import published
from .table import Cell, Column, Row, Section, table
from .words import clean


class MarkdownReporter:
    """GitHub-flavoured Markdown: a table by scenario, its sentences, footnotes as numbered links, the run at the end."""

    name: ClassVar[str] = "markdown"

    def render(self, result: Result, out: TextIO) -> None:
        out.write("\n".join(self.lines(result)) + "\n")

    def render_all(self, results: Sequence[Result], out: TextIO) -> None:
        """One after the other, each under its name."""
        for result in results:
            out.write(f"## {escape(clean(result.run.id))}\n\n")
            self.render(result, out)
            out.write("\n")

    def lines(self, result: Result) -> Iterator[str]:
        t = table(result)
        if not t.sections:
            yield "Nothing was measured."
            yield ""
        others: list[tuple[int, str, published.Source]] = []
        engines = [c.title + c.about for c in t.columns]
        for section in t.sections:
            placed = published.place(section.scenario, section.rows, engines, len(t.footnotes) + len(others) + 1)
            others += placed.notes
            yield from _section(section, t.columns, placed)
        for line in t.legend:
            yield f"<sub>{escape(line)}</sub><br>"
        if t.legend:
            yield ""
        for number, text in t.footnotes:
            yield f"{number}. {escape(text)}"
        for number, text, source in others:
            about = f"{escape(text)}. {escape(source.about)}. [{escape(source.name)}]({source.url})"
            yield f"{number}. *Published elsewhere, not measured here.* {about}"
        if t.footnotes or others:
            yield ""
        for heading, named in (
            ("Unstable (~)", t.unstable),
            ("Timeouts in force", t.timeouts),
            ("Trials that did not end well", t.failures),
        ):
            yield from _listing(heading, [f"{escape(who)}: {escape(text)}" for who, text in named])
        yield from _listing("Warnings", [escape(w) for w in t.warnings])
        for line in t.run:
            yield f"<sub>{escape(line)}</sub><br>"


def _listing(heading: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"**{escape(heading)}**"
        yield ""
        yield from (f"- {line}" for line in lines)
        yield ""


def _section(section: Section, columns: Sequence[Column], placed: published.Placed) -> Iterator[str]:
    question = f": {escape(section.question)}" if section.question else ""
    yield f"### {escape(section.scenario)}{question}"
    yield ""
    if section.setting:
        yield f"All with {escape(section.setting)}."
        yield ""
    shown = [c for c in columns if any(c.subject in row.cells for row in section.rows)]
    heads = [f"{escape(c.title)}<br><sub>{escape(c.about)}</sub>{_marks(c.notes)}" for c in shown]
    if placed.rows:
        heads.append("*published elsewhere*<br><sub>other versions and machines</sub>")
    yield "| | " + " | ".join(heads) + " |"
    yield "|:--|" + ":--|" * len(heads)
    for i, row in enumerate(section.rows):
        cells = [_cell(row, row.cells[c.subject]) if c.subject in row.cells else "" for c in shown]
        if placed.rows:
            cells.append("<br>".join(f"*{escape(published.said(f))}*{_marks([n])}" for f, n in placed.rows.get(i, ())))
        yield f"| {_label(row)} | " + " | ".join(cells) + " |"
    yield ""
    for sentence in section.sentences:
        yield escape(sentence) + "  "
    if section.sentences:
        yield ""


def _label(row: Row) -> str:
    unit = f", {escape(row.unit)}" if row.unit and row.unit != "1" else ""
    label = f"{escape(row.label)}{unit}"
    if row.claim:
        label = f"<sub>{label}</sub>"
    elif not row.cells:
        label = f"**{label}**"
    return "&emsp;" * row.indent + label


def _cell(row: Row, cell: Cell) -> str:
    interval = f" ({escape(cell.interval)})" if cell.interval else ""
    over = f" <sub>{cell.over}</sub>" if cell.over else ""
    text = f"{escape(cell.figure)}{interval}{over}{' ~' if cell.unstable else ''}"
    if cell.best:
        text = f"**{text} ✓**"
    text += _marks(cell.notes)
    if cell.trouble:
        text += ("<br>" if text else "") + escape(cell.trouble)
    return f"<sub>{text}</sub>" if row.claim else text


def _marks(numbers: Sequence[int]) -> str:
    return f" <sup>{', '.join(str(n) for n in numbers)}</sup>" if numbers else ""


def escape(text: str) -> str:
    """Text that Markdown and HTML show as it is, also within a table."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)
    return re.sub(r"(?i)\b(https?|ftp|www)(:|\.)", r"\1<span></span>\2", text)  # no link that a run has made up
