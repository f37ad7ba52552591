"""`coebench`: the commands and what becomes of errors."""

from __future__ import annotations

import errno
import io
import sys

import typer

from . import bay, compare, doctor, driver, drivers, explain, images, lab, loadgen, results
from .quick import QuickGroup

app = typer.Typer(
    name="coebench",
    cls=QuickGroup,
    help="The same workload on Kubernetes, Docker Swarm and Mesos, measured the same way, in one table.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's takes longer to import than all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compare")(compare.compare)
app.command("plan")(compare.plan)
app.command("report")(compare.report)
app.command("derive")(results.derive)
app.command("verify")(results.verify)
app.command("diff")(results.diff)
app.command("history")(results.history)
app.command("export")(results.export)
app.command("explain")(explain.explain)
app.command("doctor")(doctor.doctor)
app.command("clean")(doctor.clean)
app.add_typer(drivers.app, name="drivers")
app.add_typer(driver.app, name="driver")
app.add_typer(images.app, name="images")
app.add_typer(lab.app, name="lab")
app.add_typer(bay.app, name="bay")
app.add_typer(loadgen.app, name="loadgen")


def _version(value: bool) -> None:
    if value:
        from .. import __version__

        typer.echo(f"coebench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and end."),
) -> None:
    """The same workload on Kubernetes, Docker Swarm and Mesos, measured the same way, in one table."""


def _no_room(e: Exception) -> str:
    """What to do about a disk that is full or read-only; empty for all other errors."""
    if not isinstance(e, OSError) or e.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return ""
    where = e.filename or "a file"
    mend = "name a folder that can be written" if e.errno == errno.EROFS else "make room there, or name a folder on another disk"
    return f"{where}: {e.strerror}; {mend} (--runs, --output, COEBENCH_CACHE, COEBENCH_STATE)"


def _shown(text: str) -> str:
    """Without what a terminal would obey: an engine, a file or a name may have put it there."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def _encode_output() -> None:
    """Files and pipes get UTF-8 whatever the locale or PYTHONIOENCODING says: XML, JSON and pages say that they are. A terminal
    gets its own encoding, with a ? for what it can't show."""
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper) or out.closed:
        return  # none, or another program's
    if out.isatty():
        out.reconfigure(errors="replace")
    else:
        out.reconfigure(encoding="utf-8", errors="replace")


def main() -> None:
    """Exit codes: 0 all measured, 1 some trial failed, 2 bad input, 3 a gate failed, 130 interrupted."""
    _encode_output()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as e:
        from ..contract import BadInput, CoebenchError  # needed for an error only: `--help` does not wait for it

        if told := _no_room(e):
            print(f"coebench: {_shown(told)}", file=sys.stderr)
            sys.exit(2)
        if not isinstance(e, CoebenchError):
            raise
        print(f"coebench: {_shown(str(e))}", file=sys.stderr)
        if evidence := getattr(e, "evidence", ""):
            print(_shown(evidence), file=sys.stderr)
        sys.exit(2 if isinstance(e, BadInput) else 1)
