"""Where a report goes: to standard output, into a file, or as pictures into a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..contract import BadInput

if TYPE_CHECKING:
    from ..contract import Observation
    from ..results.model import Result


def check(runs: int, format: str, output: Path | None, theme: str) -> None:
    """Raise BadInput for what can't be written, before anything is read."""
    if theme not in ("light", "dark"):
        raise BadInput(f"--theme is light or dark, not '{theme}'")
    if format == "png" and output is None:
        raise BadInput("png writes a picture of each plot: give --output FOLDER")
    if format == "html" and output is None and sys.stdout.isatty():
        raise BadInput("html is a page, not a text for a terminal: give --output FILE")
    if runs > 1 and (_pictures(format, output) or not _takes_several(format)):
        raise BadInput(f"--format {format} takes one run at a time")


def _takes_several(format: str) -> bool:
    from .. import plugins
    from ..report import RunsReporter

    reporter = plugins.load("reporters", format, "format")()
    return hasattr(reporter, "render_all") or isinstance(reporter, RunsReporter)


def write(runs: Sequence[Path], results: Sequence[Result], format: str, output: Path | None, theme: str) -> None:
    """Write what `check` has let pass. Raises BadInput if a run is there twice, or a file can't be written."""
    from ..report import distinct

    distinct(results)
    if output is None:
        render(results, runs, format, sys.stdout)
    elif _pictures(format, output):
        from ..report import pictures

        written = pictures.write(output, pictures.pictures(results[0], _observations(runs[0]), format, theme))
        print(f"{len(written)} pictures in {output}")
    else:
        try:
            with output.open("w", encoding="utf-8") as file:
                render(results, runs, format, file)
        except OSError as e:
            raise BadInput(f"can't write {output}: {e.strerror}") from None


def render(results: Sequence[Result], runs: Sequence[Path], format: str, out: TextIO) -> None:
    """Set results in a format. `runs`: where they were read, for formats that show what was recorded; none if nowhere."""
    from .. import plugins
    from ..report import RunReporter, RunsReporter

    reporter = plugins.load("reporters", format, "format")()
    if len(results) > 1 and runs and isinstance(reporter, RunsReporter):
        reporter.render_runs(zip(results, map(_observations, runs), strict=True), out)
    elif len(results) > 1:
        if not hasattr(reporter, "render_all"):
            raise BadInput(f"--format {format} takes one run at a time")
        reporter.render_all(results, out)
    elif runs and isinstance(reporter, RunReporter):
        reporter.render_run(results[0], _observations(runs[0]), out)
    else:
        reporter.render(results[0], out)
    out.flush()


def _pictures(format: str, output: Path | None) -> bool:
    """The table alone is what svg gives on standard output."""
    return format == "png" or (format == "svg" and output is not None)


def _observations(run: Path) -> Iterator[Observation]:
    """What a run folder or an archive of one recorded; nothing of a result alone."""
    from ..results import files, folder

    return folder.observations(run) if run.is_dir() or files.is_archive(run) else iter(())
