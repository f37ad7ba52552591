"""The files of a run, wherever they lie: in a folder, or in a .zip or .tar archive of one, which is read as it is.

Nothing is unpacked to a disk, so a hostile archive has no path to write to; of links nothing is followed.
"""

from __future__ import annotations

import contextlib
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ..contract import BadInput

MANIFEST = "manifest.json"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")

# What reading a cut or altered archive raises, besides OSError.
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)


def why(error: BaseException) -> str:
    """What such an exception says, without the path that an OSError repeats; some say nothing but their kind."""
    said = error.strerror if isinstance(error, OSError) else ""
    return said or str(error) or type(error).__name__


class Files:
    """`names`: paths of the run's files, relative to its folder, with '/', sorted. `where`: the folder or archive."""

    def __init__(self, where: Path, names: tuple[str, ...], opener: Callable[[str], IO[bytes]]) -> None:
        self.where = where
        self.names = names
        self._opener = opener

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def open(self, name: str) -> IO[bytes]:
        """Raises FileNotFoundError if there is no such file, OSError or one of DAMAGE if it can't be read."""
        if name not in self.names:
            raise FileNotFoundError(name)
        return self._opener(name)

    def read(self, name: str) -> bytes:
        """As `open`, the whole of it."""
        with self.open(name) as f:
            return f.read()


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[Files]:
    """The files of the run at `path`. Raises BadInput if there is no run, or more than one, or a broken archive."""
    path = Path(path)
    if path.is_dir():
        yield _folder(path)
        return
    if not is_archive(path):
        raise BadInput(f"{path} is not a run folder: it holds no {MANIFEST}")
    with contextlib.ExitStack() as stack:
        try:
            files = _zip(path, stack) if zipfile.is_zipfile(path) else _tar(path, stack)
        except FileNotFoundError:
            raise BadInput(f"{path} is not a run folder: there is nothing of that name") from None
        except OSError as e:
            raise BadInput(f"can't read {path}: {e.strerror or e}") from None
        except DAMAGE as e:
            raise BadInput(f"{path} is a damaged archive, or none: {e or type(e).__name__}") from None
        yield files


def is_archive(path: Path) -> bool:
    """Whether a path's name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def _folder(path: Path) -> Files:
    # A link out of the folder would make a checksum of something that a copy doesn't have.
    found = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    names = tuple(p.relative_to(path).as_posix() for p in found)
    return Files(path, names, lambda name: (path / name).open("rb"))


def _zip(path: Path, stack: contextlib.ExitStack) -> Files:
    archive = stack.enter_context(zipfile.ZipFile(path))
    members = {i.filename: i for i in archive.infolist() if not i.is_dir()}
    base, names = _run_in(path, members)
    return Files(path, names, lambda name: archive.open(members[base + name]))


def _tar(path: Path, stack: contextlib.ExitStack) -> Files:
    archive = stack.enter_context(tarfile.open(path))  # noqa: SIM115
    members = {i.name.removeprefix("./"): i for i in archive if i.isfile()}
    base, names = _run_in(path, members)

    def opener(name: str) -> IO[bytes]:
        file = archive.extractfile(members[base + name])
        assert file is not None  # files alone are in `members`
        return file

    return Files(path, names, opener)


def _run_in(
    path: Path, members: dict[str, object] | dict[str, zipfile.ZipInfo] | dict[str, tarfile.TarInfo]
) -> tuple[str, tuple[str, ...]]:
    """Where in an archive the run is: at its top, or in the one folder that has a manifest."""
    manifests = [PurePosixPath(n) for n in members if PurePosixPath(n).name == MANIFEST]
    depth = min((len(m.parts) for m in manifests), default=0)
    at = sorted(m for m in manifests if len(m.parts) == depth)
    if not at:
        raise BadInput(f"{path} is not a run: it holds no {MANIFEST}")
    if len(at) > 1:
        raise BadInput(f"{path} holds {len(at)} runs ({at[0].parent}, {at[1].parent}, …): pack each into an archive of its own")
    base = "" if depth == 1 else f"{at[0].parent}/"
    return base, tuple(sorted(n[len(base) :] for n in members if n.startswith(base)))
