"""The files of a run, wherever they lie: in a folder, or in a .zip or .tar archive of one, which is read as it is.

Nothing is unpacked to a disk, so a hostile archive has no path to write to; of links nothing is followed.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from ..contract import BadInput

MANIFEST = "manifest.json"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")

# What an archive may unpack to: runs are packed to a third, at most to a tenth. More is no run but a way to fill a memory.
LEAST_UNPACKED = 64 << 20  # bytes, of a small one
TIMES_PACKED = 50
LONGEST_LINE = 64 << 20  # bytes: a second of 100,000 failed requests has 8 MiB

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


class Budget:
    """Bytes that may still be unpacked from an archive."""

    def __init__(self, packed: int) -> None:
        self._most = self._left = max(LEAST_UNPACKED, TIMES_PACKED * packed)

    def spend(self, count: int) -> None:
        """Raises ValueError when there is no more."""
        self._left -= count
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {self._most >> 20} MiB, {TIMES_PACKED} times its size")


class Bounded(io.RawIOBase):
    """A member of an archive, read within a budget."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), 1 << 16))
        self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def lines(file: IO[bytes]) -> Iterator[bytes]:
    """Its lines with their ends. Raises ValueError for one that is longer than any that coebench writes."""
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise ValueError(f"a line is longer than {LONGEST_LINE >> 20} MiB")
        yield line


def regular(path: Path) -> IO[bytes]:
    """Open a file, and nothing else: a pipe would be waited for, and a link leads somewhere else. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(fd, "rb")


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
            if not stat.S_ISREG(path.stat().st_mode):
                raise BadInput(f"{path} is no regular file")
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
    return Files(path, names, lambda name: regular(path / name))


def _zip(path: Path, stack: contextlib.ExitStack) -> Files:
    archive = stack.enter_context(zipfile.ZipFile(path))
    members = {i.filename: i for i in archive.infolist() if not i.is_dir()}
    base, names = _run_in(path, members)
    budget = Budget(path.stat().st_size)
    return Files(path, names, lambda name: io.BufferedReader(Bounded(archive.open(members[base + name]), budget)))


def _tar(path: Path, stack: contextlib.ExitStack) -> Files:
    # A packed tar is unpacked also to be walked through, so what is unpacked is counted before tarfile sees it.
    budget = Budget(path.stat().st_size)
    raw = stack.enter_context(_unpacked(path, budget))
    archive = stack.enter_context(tarfile.open(fileobj=raw, mode="r:"))  # noqa: SIM115
    members = {i.name.removeprefix("./"): i for i in archive if i.isfile()}
    base, names = _run_in(path, members)

    def opener(name: str) -> IO[bytes]:
        file = archive.extractfile(members[base + name])
        assert file is not None  # files alone are in `members`
        return file

    return Files(path, names, opener)


def _unpacked(path: Path, budget: Budget) -> IO[bytes]:
    """A tar's own bytes, whichever way it is packed."""
    with path.open("rb") as f:
        head = f.read(6)
    for begin, open_ in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open)):
        if head.startswith(begin):
            return cast(IO[bytes], Seekable(cast(IO[bytes], open_(path, "rb")), budget))
    return path.open("rb")


class Seekable(io.RawIOBase):
    """As Bounded, for a reader that goes back and forth, as tarfile does: what is unpacked again is not counted again."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file = file
        self._budget = budget
        self._farthest = 0

    def _reach(self, offset: int) -> None:
        if offset > self._farthest:
            self._budget.spend(offset - self._farthest)
            self._farthest = offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("only from the beginning")
        self._reach(offset)  # to skip is to unpack
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if size >= 0 else LEAST_UNPACKED)
        self._reach(self._file.tell())
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


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
