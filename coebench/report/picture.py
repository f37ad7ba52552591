"""The table as a picture."""

from __future__ import annotations

import io
import re

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from ..results.model import Result
from .table import table
from .terminal import TerminalReporter

# Text that passes WCAG AA on this ground, dim text too.
_THEME = TerminalTheme(
    (22, 27, 34),
    (214, 222, 230),
    [(22, 27, 34), (255, 123, 114), (86, 211, 100), (227, 179, 65)]
    + [(121, 192, 255), (210, 168, 255), (86, 212, 221), (214, 222, 230)],
    [(110, 118, 129), (255, 161, 152), (126, 231, 135), (242, 204, 96)]
    + [(165, 214, 255), (226, 197, 255), (118, 227, 234), (255, 255, 255)],
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
    return svg.replace("Fira Code", "Fira Code, DejaVu Sans Mono, Menlo, Consolas")
