"""Runs in archives, and archives that are none."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from golden import FORMAT_1
from synthetic import SCENARIOS, Synthetic

from coebench.contract import BadInput
from coebench.results import files, folder
from coebench.results.derive import derive, load

KINDS = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tar.xz": "xztar", ".tar.bz2": "bztar"}


def packed(path: Path, suffix: str, *, top: bool = True) -> Path:
    """An archive of a folder as users make them: with the folder in it, or what is in the folder alone."""
    base = path.parent / "packed"
    root, what = (path.parent, path.name) if top else (path, ".")
    made = Path(shutil.make_archive(str(base), KINDS[suffix], root, what))
    assert made.name.endswith(suffix)
    return made


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("top", [True, False])
def test_an_archive_is_read_as_its_folder(tmp_path, suffix, top):
    path = Synthetic(tmp_path).write()
    archive = packed(path, suffix, top=top)
    there, here = folder.read(path), folder.read(archive)
    assert (here.manifest, here.observations, here.trials, here.warnings) == (
        there.manifest,
        there.observations,
        there.trials,
        there.warnings,
    )
    assert load(archive, {}) == load(path, {})
    assert derive(archive, SCENARIOS).metrics == derive(path, SCENARIOS).metrics
    with files.opened(path) as a, files.opened(archive) as b:
        assert a.names == b.names and "logs" not in a.names


def test_damaged_archives_are_one_line(tmp_path):
    archive = packed(Synthetic(tmp_path).write(), ".tar.gz")
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"packed\.tar\.gz is a damaged archive"):
        folder.read(archive)
    other = tmp_path / "r.zip"
    other.write_bytes(b"hello")
    with pytest.raises(BadInput, match=r"r\.zip is a damaged archive, or none"):
        folder.read(other)
    with pytest.raises(BadInput, match="nothing of that name"):
        folder.read(tmp_path / "none.zip")


def test_a_damaged_member_costs_what_is_after_it(tmp_path):
    archive = packed(Synthetic(tmp_path).write(), ".zip")
    with zipfile.ZipFile(archive) as z:
        info = z.getinfo(next(n for n in z.namelist() if n.endswith("observations.jsonl")))
    data = bytearray(archive.read_bytes())
    at = info.header_offset + 200 + info.compress_size // 2
    data[at : at + 40] = bytes(40)
    archive.write_bytes(data)
    recorded = folder.read(archive)
    assert any("observations.jsonl can't be read beyond line" in w for w in recorded.warnings)


def test_an_archive_of_two_runs_or_of_none_is_refused(tmp_path):
    for name in ("a", "b"):
        shutil.copytree(FORMAT_1, tmp_path / "both" / name)
    with pytest.raises(BadInput, match=r"holds 2 runs \(a, b, …\)"):
        folder.read(shutil.make_archive(str(tmp_path / "two"), "zip", tmp_path / "both"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"not a run: it holds no manifest\.json"):
        folder.read(shutil.make_archive(str(tmp_path / "none"), "zip", tmp_path / "empty"))


def test_an_archive_with_hostile_members_reads_nothing_else(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"schema": "coebench.result/1"}')
    path = tmp_path / "run.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(FORMAT_1 / "manifest.json", "r/manifest.json")
        link = tarfile.TarInfo("r/result.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
        up = tarfile.TarInfo("r/../../up")
        up.size = 2
        tar.addfile(up, io.BytesIO(b"up"))
    assert folder.read_result(path) is None  # the link is not followed
    assert not (tmp_path.parent / "up").exists() and not (tmp_path / "up").exists()


def test_a_link_in_a_folder_is_no_file_of_the_run(tmp_path):
    path = Synthetic(tmp_path).write()
    (path / "outside").symlink_to("/etc/hostname")
    with files.opened(path) as run:
        assert "outside" not in run
