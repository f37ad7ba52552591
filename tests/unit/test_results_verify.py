"""Verify names what is wrong, and nothing that isn't; derive makes of a run what it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from golden import FORMAT_1, FORMAT_2
from synthetic import SCENARIOS, Synthetic
from typer.testing import CliRunner

from coebench.cli.main import app
from coebench.cli.results import scenarios
from coebench.contract import BadInput
from coebench.results import folder
from coebench.results.derive import derive
from coebench.results.verify import verify

Change = Callable[[Path], None]


def wrong(path: Path) -> list[str]:
    return [f"{f.check}: {f.text}" for f in verify(path, SCENARIOS).findings if f.wrong]


def edit(file: str, old: str, new: str) -> Change:
    def change(path: Path) -> None:
        text = (path / file).read_text()
        assert old in text
        (path / file).write_text(text.replace(old, new, 1))

    return change


def cut(file: str) -> Change:
    return lambda path: (path / file).write_bytes((path / file).read_bytes()[:-25])


@pytest.fixture
def run(tmp_path) -> Path:
    return Synthetic(tmp_path).write()


def test_a_run_as_it_was_recorded_is_in_order(run):
    found = verify(run, SCENARIOS)
    assert found.ok and found.format == folder.RUN_FORMAT and len(found.digest) == 64
    assert {f.check for f in found.findings} == {"checksums", "schema", "whole", "reconciliation", "histograms", "result"}


def test_the_systems_own_sha256sum_reads_the_checksums(run):
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=run, capture_output=True, text=True)
    assert done.returncode == 0 and "observations.jsonl: OK" in done.stdout
    edit("trials.jsonl", "b1", "b9")(run)
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=run, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            edit("observations.jsonl", '"value":', '"value":1'),
            "checksums: observations.jsonl is not what was recorded: it was ed",
        ),
        (
            cut("observations.jsonl"),
            "checksums: observations.jsonl is not what was recorded: observations.jsonl breaks off in line",
        ),
        (cut("trials.jsonl"), "checksums: trials.jsonl is not what was recorded"),
        (edit("manifest.json", '"seed": 7', '"seed": 8'), "checksums: manifest.json is not what was recorded"),
        (edit("result.json", '"median": ', '"median": 1'), "checksums: result.json is not what was recorded"),
        (edit("result.json", '"median": ', '"median": 1'), "result: result.json is not what the observations give: deploy.last"),
        (lambda p: (p / "trials.jsonl").unlink(), "checksums: trials.jsonl is missing"),
        (lambda p: (p / "result.json").unlink(), "result: result.json is missing or damaged"),
        (lambda p: (p / "SHA256SUMS").unlink(), "checksums: SHA256SUMS is missing"),
        (edit("SHA256SUMS", "  manifest", " ? manifest"), "checksums: SHA256SUMS: "),
        (edit("manifest.json", '"blocks": 5', '"blocks": "many"'), "schema: manifest.json: blocks is 'many', not of its kind"),
        (edit("manifest.json", '"b1.swarm.deploy"', '"b1.swarm.else"'), "whole: b1.swarm.deploy is in no plan of this run"),
    ],
)
def test_what_was_changed_is_named(run, change, says):
    change(run)
    assert any(w.startswith(says) for w in wrong(run)), wrong(run)


def test_what_was_added_is_a_remark(run):
    (run / "logs" / "note <b>").write_text("mine")
    assert not wrong(run)
    assert any("no checksum covers logs/note <b>" in f.text for f in verify(run, SCENARIOS).findings)


def spoil(archive: Path, member: str, *, header: bool = False) -> None:
    """Damage a member of a .zip: what it holds, or the header before it, so that it can't even be opened."""
    with zipfile.ZipFile(archive) as z:
        info = next(i for i in z.infolist() if i.filename.endswith(member))
    data = bytearray(archive.read_bytes())
    at = info.header_offset + (0 if header else 30 + len(info.filename) + info.compress_size // 2)
    data[at : at + 4] = b"\xff" * 4
    archive.write_bytes(data)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("member", ["SHA256SUMS", "observations.jsonl", "trials.jsonl", "result.json"])
def test_a_damaged_member_of_an_archive_is_named(run, member, header):
    archive = Path(shutil.make_archive(str(run.parent / "a"), "zip", run.parent, run.name))
    spoil(archive, member, header=header)
    found = wrong(archive)
    assert any(member in f for f in found), found


@pytest.mark.parametrize("header", [False, True])
def test_a_damaged_histogram_of_an_archive_costs_itself_alone(tmp_path, header):
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", FORMAT_2.parent, FORMAT_2.name))
    member = f"histograms/{min(p.name for p in (FORMAT_2 / 'histograms').iterdir())}"
    spoil(archive, member, header=header)
    found = [f"{f.check}: {f.text}" for f in verify(archive, {}).findings if f.wrong]
    assert [f.partition(" can't be read: ")[0] for f in found] == [f"checksums: {member}", f"histograms: {member}"]


@pytest.mark.parametrize("kind", ["gztar", "xztar"])
def test_a_damaged_tar_is_named_whatever_byte_of_it_is_hit(run, kind):
    archive = Path(shutil.make_archive(str(run.parent / "a"), kind, run.parent, run.name))
    whole = archive.read_bytes()
    for at in range(20, len(whole) - 8, len(whole) // 12):
        archive.write_bytes(whole[:at] + b"\xff\x00\xff" + whole[at + 3 :])
        try:
            assert wrong(archive)
        except BadInput as e:
            assert str(archive) in str(e)


def test_a_run_that_was_killed_is_not_whole_and_derive_gives_what_there_is(tmp_path):
    path = Synthetic(tmp_path).write(stop_after=7)
    said = wrong(path)
    assert any(w.startswith("whole: ") and w.endswith("began and never ended") for w in said)
    assert any("planned trials never began, from b2.k8s.serve on" in w for w in said)
    assert any("SHA256SUMS is missing: the run was killed" in w for w in said)


def test_newer_folders_are_refused(run):
    edit("manifest.json", folder.RUN_SCHEMA, "coebench.run/3")(run)
    with pytest.raises(BadInput, match=r"newer coebench \(coebench.run/3; this one reads up to coebench.run/2\): upgrade"):
        verify(run, SCENARIOS)


# requests


def golden(tmp_path: Path, change: Callable[[dict], None]) -> Path:
    """The golden run with its first load changed."""
    path = Path(shutil.copytree(FORMAT_1, tmp_path / "golden"))
    lines = (path / "observations.jsonl").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"name":"load"' in line)
    o = json.loads(lines[at])
    change(o["data"])
    lines[at] = json.dumps(o)
    (path / "observations.jsonl").write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(unsent=5), "requests were planned, 201736 sent and 5 not sent"),
        (lambda d: d.update(errors={"reset": 3}), "201736 answered, 3 failed and 0 left open"),
        (lambda d: d.update(inflight=2), "201736 answered, 0 failed and 2 left open"),
        (lambda d: d["latency_ms"].update(p99=0.5), "latency_ms p99 is 0.5, the histogram's is 1.95"),
        (lambda d: d.update(raw_histogram=d["histogram"][:90]), "no HdrHistogram"),
        (lambda d: d["per_target"].popitem(), "by the targets one by one"),
        (lambda d: d.update(errors=[1]), "'list' object"),
    ],
)
def test_every_request_is_accounted_for(tmp_path, change, says):
    found = [f.text for f in verify(golden(tmp_path, change), {}).findings if f.wrong and f.check == "reconciliation"]
    assert any(t.startswith("b1.swarm.serve load closed: ") and says in t for t in found), found


# golden


@pytest.mark.parametrize(("path", "sums"), [(FORMAT_1, "format 1 had none"), (FORMAT_2, "20 files are as they were recorded")])
def test_a_run_of_every_format_is_read_checked_and_derived_as_it_was(path, sums):
    found = verify(path, {})
    assert found.ok, found
    assert any(f.text == sums for f in found.findings)
    kept, now = folder.read_result(path), derive(path, scenarios())
    assert kept is not None and now.trials == kept.trials and now.bays == kept.bays
    rows = {(m.scenario, m.name, tuple(m.factors.items())): m for m in now.metrics}
    for m in kept.metrics:
        row = rows[m.scenario, m.name, tuple(m.factors.items())]
        assert {s: v.samples for s, v in row.values.items()} == {s: v.samples for s, v in m.values.items()}, (m.scenario, m.name)


# commands


def test_derive_says_what_is_different_and_keeps_the_checksums_honest(run):
    runner = CliRunner()
    edit("observations.jsonl", '"value":', '"value":1')(run)
    known = "scenario deploy isn't known"
    done = runner.invoke(app, ["derive", str(run)])
    assert done.exit_code == 0 and known not in done.output
    said = [w for w in wrong(run) if w.startswith("checksums")]
    assert said == ["checksums: observations.jsonl is not what was recorded: it was edited after the run"]


def test_derive_of_an_archive_wants_a_file(tmp_path, run):
    archive = shutil.make_archive(str(tmp_path / "a"), "gztar", run.parent, run.name)
    runner = CliRunner()
    done = runner.invoke(app, ["derive", archive])
    assert isinstance(done.exception, BadInput) and "--output" in str(done.exception)
    done = runner.invoke(app, ["derive", archive, "-o", str(tmp_path / "r.json")])
    assert done.exit_code == 0 and folder.read_result(tmp_path / "r.json") is not None


def test_verify_prints_and_ends_as_it_found(run, monkeypatch):
    monkeypatch.setattr("coebench.cli.results.scenarios", lambda: SCENARIOS)
    runner = CliRunner()
    done = runner.invoke(app, ["verify", str(run)])
    assert done.exit_code == 0 and done.stdout.splitlines()[-1].endswith("in order")
    edit("trials.jsonl", '"block":1', '"block":2')(run)
    done = runner.invoke(app, ["verify", str(run)])
    assert done.exit_code == 1 and "WRONG checksums       trials.jsonl is not what was recorded" in done.stdout
    done = runner.invoke(app, ["verify", "--json", str(run)])
    assert done.exit_code == 1 and any(f["wrong"] for f in msgspec.json.decode(done.stdout)["findings"])
