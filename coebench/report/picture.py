"""The table as a picture."""

from __future__ import annotations

import io
import re
from typing import ClassVar, TextIO

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from ..results.model import Result
from .table import table
from .terminal import TerminalReporter


def _rgb(code: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


# All of it passes WCAG AA on this ground (4.5 : 1), also dim text, which is drawn half-way to the ground.
_THEME = TerminalTheme(
    background=(22, 27, 34),
    foreground=(240, 246, 252),
    normal=[_rgb(c) for c in ("161b22", "ff7b72", "56d364", "e3b341", "79c0ff", "d2a8ff", "56d4dd", "d6dee6")],
    bright=[_rgb(c) for c in ("6e7681", "ffa198", "7ee787", "f2cc60", "a5d6ff", "e2c5ff", "76e3ea", "ffffff")],
)


def picture(result: Result, width: int = 100, title: str = "") -> str:
    """The terminal's table as an SVG document, `width` characters wide; the same for the same result.

    It names no font from elsewhere: it looks the same offline, and showing it asks nothing of anyone.
    """
    console = Console(
        file=io.StringIO(),
        record=True,
        width=width,
        force_terminal=True,
        color_system="truecolor",
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        no_color=False,
    )
    TerminalReporter().print(result, console)
    svg = console.export_svg(title=title or table(result).title, theme=_THEME, unique_id="coebench")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "Fira Code, DejaVu Sans Mono, Menlo, Consolas").replace("arial", "arial, sans-serif")


class SvgReporter:
    """The picture as a report of its own: `coebench report RUN --format svg > table.svg`."""

    name: ClassVar[str] = "svg"

    def render(self, result: Result, out: TextIO) -> None:
        out.write(picture(result))
