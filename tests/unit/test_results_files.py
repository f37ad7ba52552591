"""Runs in archives, and archives that are none."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
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


def _bomb(path, member, size):
    """A run whose `member` is `size` bytes of one letter."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            z.write(FORMAT_1 / "manifest.json", "r/manifest.json")
            with z.open(f"r/{member}", "w", force_zip64=True) as f:
                for _ in range(size >> 20):
                    f.write(b"x" * (1 << 20))
        return path

    class Letters(io.RawIOBase):
        def read(self, n=-1):
            return b"x" * n

    with tarfile.open(path, "w:" + path.name.rpartition(".")[2]) as tar:
        info = tarfile.TarInfo(f"r/{member}")
        info.size = size
        tar.addfile(info, Letters())
        tar.add(FORMAT_1 / "manifest.json", "r/manifest.json")
    return path


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("member", ["observations.jsonl", "logs/x", "result.json"])
def test_an_archive_that_unpacks_without_end_is_refused_within_little_memory(tmp_path, suffix, member):
    path = _bomb(tmp_path / f"run.{suffix}", member, 200 << 20)
    assert path.stat().st_size < 1 << 20
    script = """
import pathlib, sys
from coebench.contract import BadInput
from coebench.results import files, folder
path = sys.argv[1]
try:
    recorded = folder.read(path)
    assert not recorded.observations
    with files.opened(path) as run:
        for name in run.names:
            try:
                folder.digest(run, name)
            except files.DAMAGE as e:
                print(e)
    print(recorded.warnings)
    folder.read_result(path)
except BadInput as e:
    print(e)
print([int(l.split()[1]) >> 10 for l in pathlib.Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")][0])
"""
    p = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stderr
    assert "unpacks to more than 64 MiB" in p.stdout or "a line is longer than" in p.stdout
    assert int(p.stdout.split()[-1]) < 400


@pytest.mark.parametrize("name", ["pipe", "pipe.zip", "pipe.tar.gz", "pipe.json"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for read in (folder.read, folder.read_result):
        with pytest.raises(BadInput, match=r"regular file|not a run folder"):
            read(tmp_path / name)
    run = Synthetic(tmp_path / "runs").write()
    (run / folder.RESULT).unlink(missing_ok=True)
    os.mkfifo(run / folder.RESULT)
    assert folder.read_result(run) is None


def test_a_stranger_s_folder_leads_no_write_outside(tmp_path):
    """Links where coebench would write: at the names of unfinished files, in place of a file, and of a folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("result", "sums", "old.hlog"):
        (outside / name).write_text("kept")
    path = Synthetic(tmp_path / "runs").write()
    for name, to in ((".result.json.part", "result"), (".SHA256SUMS.part", "sums"), ("SHA256SUMS", "sums")):
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(outside / to)
    recorded = folder.read(path)
    folder.write_atomic(path / "result.json", b"{}")
    folder.seal(path)
    shutil.rmtree(path / folder.HISTOGRAMS, ignore_errors=True)
    (path / folder.HISTOGRAMS).symlink_to(outside)
    with pytest.raises(BadInput, match="is a link"):
        folder.write_histograms(path, recorded.observations)
    assert {f.name: f.read_text() for f in outside.iterdir()} == dict.fromkeys(("result", "sums", "old.hlog"), "kept")
    assert (path / "result.json").read_text() == "{}" and not (path / "SHA256SUMS").is_symlink()


def test_a_spreadsheet_gets_no_lines_and_no_formulas():
    from coebench.report.csv import cell

    for hostile in ("a\rb", "a\x0bb", "a\x85b", "\x1b[2J", "\u202eabc", "\r=1+1", "=1", "@x", "+1", "-1"):
        made = cell(hostile)
        assert made.isprintable() and made[:1] not in ("=", "+", "-", "@")
