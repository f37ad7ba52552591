"""Records that somebody has edited: every command says what it can, and none falls over."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from golden import FORMAT_1, FORMAT_2
from test_report_exports import HOSTILE, hostile

from coebench.contract import BadInput
from coebench.report import compared
from coebench.results import comparable, diff, folder
from coebench.results.derive import derive
from coebench.results.verify import verify

ODD = (None, -1.5, "x", [1, None, {"name": 3}], {"a": {"b": [None]}})


def paths(value: object, at: tuple = ()) -> list[tuple]:
    """Every place in an object, two levels deep."""
    out = [at] if at else []
    if isinstance(value, dict) and len(at) < 2:
        for k, v in value.items():
            out += paths(v, (*at, k))
    return out


MANIFEST = json.loads((FORMAT_2 / "manifest.json").read_text())


@pytest.fixture
def small(tmp_path) -> Path:
    """A golden run with the first of its observations alone, so that hundreds of changes are read in seconds."""
    path = tmp_path / "run"
    path.mkdir()
    for name in ("manifest.json", "trials.jsonl"):
        shutil.copy(FORMAT_2 / name, path)
    lines = (FORMAT_2 / "observations.jsonl").read_text().splitlines()
    load = next(line for line in lines if '"name":"load"' in line)
    (path / "observations.jsonl").write_text("\n".join([*lines[:20], load]) + "\n")
    return path


def test_a_manifest_with_anything_in_it(small):
    plain = derive(FORMAT_1, {})
    for place in paths(MANIFEST):
        for odd in ODD:
            copy = json.loads(json.dumps(MANIFEST))
            at = copy
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = odd
            (small / "manifest.json").write_text(json.dumps(copy))
            try:
                assert not verify(small, {}).ok  # it has no checksums
                found = comparable.differences(
                    plain, derive(small, {}), comparable.manifest(FORMAT_1), comparable.manifest(small), {"swarm": "swarm"}
                )
                assert all(d.a and d.b for d in found)
            except BadInput as e:
                assert place == ("schema",) and "\n" not in str(e)


def test_a_load_with_anything_in_it(small):
    *lines, last = (small / "observations.jsonl").read_text().splitlines()
    load = json.loads(last)
    for key in load["data"]:
        for odd in ODD:
            told = json.dumps({**load, "data": {**load["data"], key: odd}})
            (small / "observations.jsonl").write_text("\n".join([*lines, told]) + "\n")
            assert not verify(small, {}).ok
            assert isinstance(folder.write_histograms(small, folder.read(small).observations), list)


def test_a_diff_escapes_names():
    one, other = hostile(), msgspec.structs.replace(hostile(), warnings=())
    found = diff.diff(one, other, {"plan": {HOSTILE: HOSTILE}}, {"plan": {HOSTILE: 1}}, anyway=True)
    text = "\n".join(compared.markdown(found))
    assert "<script" not in text and "\x1b" not in text and "http://" not in text and "[x](" not in text
    out = io.StringIO()
    compared.terminal(found, out, 80)
    assert "\x1b" not in out.getvalue() and "\x00" not in out.getvalue() and "\u202e" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80
