"""The table on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from ..contract import Observation
from ..results.model import Result
from . import rates
from .table import Cell, Column, Row, Section, Table, table
from .words import called_in, clean

PROSE = 100  # columns beyond which a line of prose is hard to read
LABEL_LEAST = 16  # columns that a row's label needs to be read
GAP = 2

_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_ASCII = str.maketrans({"✓": "*", "–": "-", "≥": ">=", "×": "x", "·": "|", "µ": "u", "±": "+-", "…": "...", "’": "'"})


class TerminalReporter:
    """Rich tables that fit the terminal: where not all columns do, each section is printed in several parts.

    `width`: columns, by default the terminal's, 80 where there is none. Colour only where `out` is a terminal that has it
    (and NO_COLOR isn't set), plain ASCII where it can't show more. `folder`: where the run folder lies, to be named.
    `brief`: the tables alone, for a look at a run that goes on.
    """

    name: ClassVar[str] = "terminal"

    def __init__(self, width: int | None = None, folder: str = "", brief: bool = False) -> None:
        self.width, self.folder, self.brief = width, folder, brief
        self._rates: Mapping[str, Mapping[str, tuple[str, rates.Rates]]] = {}

    def render(self, result: Result, out: TextIO) -> None:
        # Rich must neither interpret nor decorate anything that a run recorded: all of it is Text.
        console = Console(file=out, width=self.width, markup=False, emoji=False, highlight=False)
        if console.is_terminal:
            self.print(result, console)
            return
        with console.capture() as captured:
            self.print(result, console)
        out.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def render_run(self, result: Result, observations: Iterable[Observation], out: TextIO) -> None:
        """As `render`, with the rates of loads second by second under each scenario's table."""
        self._rates = rates.rates(result, observations)
        self.render(result, out)

    def render_all(self, results: Sequence[Result], out: TextIO) -> None:
        """One after the other; the last line of each names its run."""
        for result in results:
            self.render(result, out)

    def print(self, result: Result, console: Console) -> None:
        """As `render`, to a console."""
        called = called_in(result)
        lines = {clean(name): rates.lines(found, called) for name, found in self._rates.items()}
        setter = _Setter(ascii=console.options.ascii_only, width=console.width, rates=lines)
        shown = table(result, self.folder)
        if self.brief:
            for section in shown.sections:
                for part in setter.section(section, shown.columns):
                    console.print(part)
            return
        for part in setter.document(shown, empty=not result.metrics):
            console.print(part)


class _Setter:
    def __init__(self, *, ascii: bool, width: int, rates: Mapping[str, Sequence[rates.Line]] | None = None) -> None:
        self.ascii, self.width, self.prose = ascii, width, min(width, PROSE)
        self.rates = rates or {}

    def wrapped(self, text: Text, indent: int = 0) -> Constrain:
        return Constrain(Padding.indent(text, indent) if indent else text, self.prose)

    def text(self, text: str, style: str = "") -> Text:
        return Text(text.translate(_ASCII) if self.ascii else text, style)

    def marks(self, numbers: Sequence[int]) -> str:
        if not numbers:
            return ""
        said = ",".join(str(n) for n in numbers)
        return f" [{said}]" if self.ascii else " " + said.translate(_SUPERSCRIPT).replace(",", " ")

    def document(self, t: Table, empty: bool) -> Iterator[RenderableType]:
        yield Text()
        if empty:
            yield self.text("Nothing was measured.", "bold")
        for section in t.sections:
            yield from self.section(section, t.columns)
        for line in t.legend:
            yield self.wrapped(self.text(line, "dim"))
        if t.legend:
            yield Text()
        for heading, style, lines in (
            ("Notes", "", [(str(n), line) for n, line in t.footnotes]),
            ("Unstable (~)", "", t.unstable),
            ("Timeouts in force", "", t.timeouts),
            ("Trials that did not end well", "red", t.failures),
            ("Warnings", "yellow", [("!", line) for line in t.warnings]),
        ):
            if lines:
                yield self.text(heading, "bold")
                yield Constrain(self.listing(lines, style), self.prose)
                yield Text()
        for line in t.run:
            yield self.wrapped(self.text(line, "dim"))

    def section(self, section: Section, columns: tuple[Column, ...]) -> Iterator[RenderableType]:
        head = self.text(section.scenario, "bold")
        if section.question:
            head.append_text(self.text(f"  {section.question}"))
        if section.setting:
            head.append_text(self.text(f"  {section.setting}", "dim"))
        yield head
        shown = [c for c in columns if any(c.subject in row.cells for row in section.rows)]
        tight = len(list(self.pages(section, shown, GAP))) > 1 and len(list(self.pages(section, shown, 1))) == 1
        gap = 1 if tight else GAP
        for page in self.pages(section, shown, gap):
            yield self.grid(section, page, gap)
        if (lines := self.rates.get(section.scenario)) and not self.ascii:
            yield self.sparks(lines)
        for sentence in section.sentences:
            yield self.wrapped(self.text(sentence), 2)
        yield Text()

    def sparks(self, lines: Sequence[rates.Line]) -> RenderableType:
        """Blocks from zero, all of a scenario on one scale; plain ASCII has none."""
        grid = Grid.grid(padding=(0, 1, 0, 0))
        grid.add_column(overflow="fold")
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for line in lines:
            style = "red" if not line.subject else ""
            said = self.text(line.said if self.width >= 70 else "", "dim")
            grid.add_row(self.text(line.subject), self.text(line.blocks, style), said)
        return Padding(grid, (0, 0, 1, 2))

    def pages(self, section: Section, columns: Sequence[Column], gap: int) -> Iterator[list[Column]]:
        """As many columns at once as leave the labels room; at least one."""
        page: list[Column] = []
        room = self.width - LABEL_LEAST
        for column in columns:
            need = gap + max((line.cell_len for line in self.column(section, column)), default=0)
            if page and need > room:
                yield page
                page, room = [], self.width - LABEL_LEAST
            page.append(column)
            room -= need
        if page:
            yield page

    def column(self, section: Section, column: Column) -> Iterator[Text]:
        yield from self.header(column).split()
        figures = self.figures(section, column)
        for row in section.rows:
            if column.subject in row.cells:
                yield from self.cell(row, row.cells[column.subject], figures).split()

    def figures(self, section: Section, column: Column) -> int:
        """The width that figures with an interval are aligned to."""
        cells = (row.cells[column.subject] for row in section.rows if column.subject in row.cells)
        return max((self.text(c.figure).cell_len for c in cells if c.interval), default=0)

    def header(self, column: Column) -> Text:
        head = self.text(column.title, "bold")
        under = column.about + self.marks(column.notes)
        return head.append_text(self.text(f"\n{under}", "not bold dim")) if under.strip() else head

    def cell(self, row: Row, cell: Cell, figures: int) -> Text:
        style = "dim" if row.claim else "bold green" if cell.best else ""
        text = Text()  # without a style of its own, which all that follows would take on
        figure = self.text(cell.figure, style)
        if cell.interval:
            text.append(" " * (figures - figure.cell_len))
        text.append_text(figure)
        if cell.interval:
            text.append_text(self.text(f" ({cell.interval})", "" if cell.best else "dim"))
        if cell.over:
            text.append_text(self.text(f" {cell.over}", "dim"))
        if marks := ("✓" if cell.best else "") + ("~" if cell.unstable else ""):
            text.append_text(self.text(f" {marks}", style))
        text.append_text(self.text(self.marks(cell.notes), style))
        if cell.trouble:
            text.append_text(self.text(f"\n{cell.trouble}" if cell.figure else cell.trouble, "red"))
        return text

    def grid(self, section: Section, columns: Sequence[Column], gap: int) -> Grid:
        # The box puts one character between columns; the padding makes up the rest of the gap.
        grid = Grid(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False, expand=False)
        if self.ascii:
            grid.box = box.ASCII2
        grid.add_column(Text(""), min_width=min(LABEL_LEAST, self.width // 2), overflow="fold")
        for column in columns:
            # What does not fit is left to the labels, which are words and wrap well.
            grid.add_column(self.header(column), no_wrap=len(columns) > 1, overflow="fold")
        widths = {c.subject: self.figures(section, c) for c in columns}
        for row in section.rows:
            label = self.text(row.label, "dim" if row.claim else "")
            if row.unit and row.unit != "1":
                label.append_text(self.text(f", {row.unit}", "dim"))
            cells = [
                self.cell(row, row.cells[c.subject], widths[c.subject]) if c.subject in row.cells else Text() for c in columns
            ]
            grid.add_row(Padding(label, (0, 0, 0, 2 * row.indent)), *cells)
        return grid

    def listing(self, lines: Sequence[tuple[str, str]], style: str) -> Grid | Padding:
        """Texts by what they are about: beside it where that is short, else after it."""
        heads = [self.text(head, style) for head, _ in lines]
        if max(h.cell_len for h in heads) <= max(3, self.width // 3):
            grid = Grid.grid(padding=(0, 1, 0, 0))
            grid.add_column(no_wrap=True)
            grid.add_column(overflow="fold")
            for head, (_, line) in zip(heads, lines, strict=True):
                grid.add_row(head, self.text(line))
            return Padding.indent(grid, 2)
        texts = [h.append(": ").append_text(self.text(line)) for h, (_, line) in zip(heads, lines, strict=True)]
        return Padding.indent(Text("\n").join(texts), 2)
