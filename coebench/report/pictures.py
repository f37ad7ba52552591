"""One picture a plot, for a blog: SVG, and PNG drawn from the same SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..contract import BadInput, Observation
from ..results.folder import write_atomic
from ..results.model import Result
from . import plots
from .plots import svg
from .words import clean

ZOOM = 2.0  # pixels of a PNG by unit of its SVG: sharp on screens with many
KINDS = ("svg", "png")


def pictures(result: Result, observations: Iterable[Observation], kind: str, theme: str = "light") -> Iterator[tuple[str, bytes]]:
    """(file name, content) of every plot, and of the table for "svg". `theme`: "light" or "dark".

    Raises BadInput if `kind` needs a package that is not installed.
    """
    if kind == "png":
        _resvg()
    run = result.run
    footer = " · ".join(clean(w) for w in (f"coebench {run.version}", f"run {run.id}", run.host.get("cpu")) if w)
    for figure in plots.all_figures(plots.source(result, observations)):
        text = svg.draw(figure, svg.BLOG, theme=theme, footer=footer)
        yield f"{figure.slug}.{kind}", png(text) if kind == "png" else text.encode()
    if kind == "svg":
        from .picture import picture

        yield "table.svg", picture(result).encode()


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Put files into a folder, which is made. Returns their paths. Raises BadInput if that can't be."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files:
            write_atomic(folder / name, content)
            written.append(folder / name)
    except OSError as e:
        raise BadInput(f"can't write pictures into {folder}: {e.strerror}") from None
    return written


def png(text: str) -> bytes:
    """A picture as PNG. The font comes with the package, so that it looks the same on every machine."""
    import font_source_sans_pro as font

    files = [str(Path(font.__file__).parent / "files" / f"SourceSansPro-{w}.ttf") for w in ("Regular", "Semibold")]
    drawn: bytes = _resvg().svg_to_bytes(
        svg_string=text, zoom=ZOOM, skip_system_fonts=True, font_files=files, sans_serif_family="Source Sans Pro"
    )
    return bytes(drawn)


def _resvg() -> Any:
    try:
        import font_source_sans_pro  # noqa: F401
        import resvg_py
    except ModuleNotFoundError as e:
        raise BadInput(f"PNG needs the Python package {e.name}, which is not installed (pip install 'coebench[png]')") from None
    return resvg_py
