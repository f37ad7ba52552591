"""`coebench images`: what nodes must have, and how clusters that are not the lab's get it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..images import Image, Registry

app = typer.Typer(help="The workloads' images: build, list, push to a registry.", no_args_is_help=True)

From = Annotated[
    Path | None, typer.Option("--from", help="A folder with archives that `images build` wrote; built here if not given.")
]
User = Annotated[str, typer.Option(help="Of the registry; what `docker login` left if not given.")]
PasswordFile = Annotated[
    Path | None, typer.Option(help="A file that holds the user's password; else COEBENCH_REGISTRY_PASSWORD.")
]
Ca = Annotated[Path | None, typer.Option(help="Certificates to trust (PEM).")]
Plain = Annotated[bool, typer.Option("--plain-http", help="The registry has no TLS.")]


@app.command()
def build(to: Annotated[Path, typer.Option(help="The folder to write NAME:TAG.tar into.")] = Path("images")) -> None:
    """Build the images into archives that `docker load` and `ctr images import` take. Needs what the lab needs."""
    to.mkdir(parents=True, exist_ok=True)
    for file in _archives(None):
        shutil.copyfile(file, to / file.name)
        typer.echo(f"{to / file.name}")


@app.command("list")
def list_(
    registry: Annotated[
        str, typer.Argument(help="HOST:PORT/PREFIX: say what it has of them.", show_default=False, metavar="[REGISTRY]")
    ] = "",
    source: From = None,
    user: User = "",
    password_file: PasswordFile = None,
    ca: Ca = None,
    plain_http: Plain = False,
) -> None:
    """List the images that nodes must have: name, size, digest, and whether a registry has just that.

    Exit code: 1 if a registry is named and lacks one.
    """
    images = _images(source)
    there = _registry(registry, user, password_file, ca, plain_http) if registry else None
    lacking = False
    for image in images:
        line = f"{image.name}:{image.tag:<4} {image.size / 1e6:6.1f} MB  {image.digest[:23]}"
        if there:
            has = there.digest(image.name, image.tag)
            lacking = lacking or has != image.digest
            line += "  there" if has == image.digest else f"  another ({has[:23]})" if has else "  not there"
        typer.echo(line)
    raise typer.Exit(1 if lacking else 0)


@app.command()
def push(
    registry: Annotated[str, typer.Argument(help="HOST:PORT/PREFIX.", metavar="REGISTRY")],
    source: From = None,
    user: User = "",
    password_file: PasswordFile = None,
    ca: Ca = None,
    plain_http: Plain = False,
) -> None:
    """Bring the images to a registry; what it has already is not sent again."""
    there = _registry(registry, user, password_file, ca, plain_http)
    for image in _images(source):
        typer.echo(f"{there.push(image)}  {image.digest[:23]}")
    typer.echo(f"bays take them from there by --option images={there.where.option}")


def _registry(text: str, user: str, password_file: Path | None, ca: Path | None, plain: bool) -> Registry:
    from ..contract import BadInput
    from ..images import Registry, Where

    password = os.environ.get("COEBENCH_REGISTRY_PASSWORD", "")
    if password_file:
        try:
            password = password_file.read_text().strip()
        except OSError as e:
            raise BadInput(f"can't read the password in {password_file}: {e.strerror}") from None
    if user and not password:
        raise BadInput(f"no password for {user}: give --password-file, or set COEBENCH_REGISTRY_PASSWORD")
    return Registry(Where.of(text, plain), user, password, ca)


def _archives(folder: Path | None) -> list[Path]:
    """The archives, built where no folder of them is named. Raises BadInput."""
    from ..contract import BadInput

    if folder is None:
        from ..lab import images, install, trees

        install.check_machine()

        def say(text: str) -> None:
            typer.echo(text, err=True)

        parts = [images.artefact(w, trees.host_tree(), trees.build_tree()) for _, w in sorted(install.workloads().items())]
        return [file for part in parts for file in sorted(part.ensure(say).glob("*.tar"))]
    found = sorted(folder.glob("*.tar")) if folder.is_dir() else []
    if not found:
        raise BadInput(f"{folder} has no archives (coebench images build --to {folder} writes them)")
    return found


def _images(folder: Path | None) -> list[Image]:
    from ..images import read

    return [image for file in _archives(folder) for image in read(file)]
