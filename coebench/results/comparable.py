"""Whether two runs put the same question to the same machine, and if not, which line of their manifests differs.

What was meant to differ (the engine's version, a subject's options) is told apart from what makes figures incomparable: what
was asked (settings, workload, bay) and, where bays are on the machine of the harness, that machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..contract import BadInput
from . import files, folder
from .model import BayResult, Result

OWN_MACHINE = ("lab", "")  # provisioners whose bays are on the harness's machine; "": a manifest that doesn't say
MACHINE = ("cpu", "cpus", "memory", "machine")
SAME_MEMORY = 0.02  # a kernel keeps a little more or less for itself from one start to the next


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `kind`: "subject" (what is compared), "question" or "machine" (not comparable), "remark" (to be known).

    `scenario`: the only one that it concerns; empty: all of the run. `of`: the subject of a "subject" line.
    """

    kind: str
    where: str  # "plan.settings.serve.rate"
    a: str
    b: str
    scenario: str = ""
    of: str = ""

    @property
    def bars(self) -> bool:
        return self.kind in ("question", "machine")

    def __str__(self) -> str:
        return f"{self.where}: {self.a} → {self.b}"


def manifest(path: Path) -> Mapping[str, Any]:
    """The manifest of a run folder or archive; empty for a file that `--json` wrote, and for one that can't be read."""
    if not (path.is_dir() or files.is_archive(path)):
        return {}
    try:
        with files.opened(path) as run:
            return folder.read_manifest(run)[0]
    except BadInput:
        return {}


def differences(
    a: Result, b: Result, ma: Mapping[str, Any], mb: Mapping[str, Any], pairs: Mapping[str, str]
) -> tuple[Difference, ...]:
    """All lines in which two runs differ. `ma`, `mb`: their manifests, empty where there are none. `pairs`: a's subject → b's."""
    found = [*_plan(ma, mb), *_subjects(ma, mb, pairs), *_hosts(a, b, _provisioners(a, b, ma, mb))]
    if not (ma and mb):
        which = " and ".join(f"{r.run.id or 'a file'}" for r, m in ((a, ma), (b, mb)) if not m)
        found.append(Difference(kind="remark", where="manifest.json", a="of " + which, b="not there: settings are not compared"))
    for one, other in pairs.items():
        if one in a.bays and other in b.bays:
            found += _bays(one, a.bays[one], b.bays[other])
    for name, x, y in (("version", a.run.version, b.run.version), ("profile", a.run.profile, b.run.profile)):
        if x != y and (x and y):
            found.append(Difference(kind="remark", where=name, a=_said(x), b=_said(y)))
    return tuple(found)


def _provisioners(a: Result, b: Result, ma: Mapping[str, Any], mb: Mapping[str, Any]) -> set[str]:
    named = {str(p) for m in (ma, mb) if isinstance(plan := m.get("plan"), Mapping) and (p := plan.get("provisioner"))}
    return named or {bay.provisioner for r in (a, b) for bay in r.bays.values()}


def _plan(ma: Mapping[str, Any], mb: Mapping[str, Any]) -> Iterator[Difference]:
    pa, pb = _mapping(ma.get("plan")), _mapping(mb.get("plan"))
    if not (pa and pb):
        return
    for key in ("provisioner", "workload"):
        yield from _lines("question", f"plan.{key}", pa.get(key), pb.get(key))
    for where, x, y in _flat("plan.bay", _mapping(pa.get("bay")), _mapping(pb.get("bay"))):
        yield from _lines("remark" if where.endswith("step_timeout") else "question", where, x, y)
    sa, sb = _mapping(pa.get("settings")), _mapping(pb.get("settings"))
    for scenario in sa:
        if scenario in sb:
            for where, x, y in _flat(f"plan.settings.{scenario}", _mapping(sa[scenario]), _mapping(sb[scenario])):
                # A setting that only one version of coebench has can't have been the same, nor is it known to differ.
                kind = "question" if x is not None and y is not None else "remark"
                yield from _lines(kind, where, x, y, scenario=scenario)
    for key in sorted(
        (pa.keys() | pb.keys())
        - {"provisioner", "workload", "bay", "settings", "subjects", "seed", "blocks", "scenarios", "profile"}
    ):
        yield from _lines("question", f"plan.{key}", pa.get(key), pb.get(key))


def _subjects(ma: Mapping[str, Any], mb: Mapping[str, Any], pairs: Mapping[str, str]) -> Iterator[Difference]:
    listed = (s if isinstance(s := m.get("subjects"), list) else [] for m in (ma, mb))
    sa, sb = ({str(s.get("name")): s for s in map(_mapping, found)} for found in listed)
    for one, other in pairs.items():
        if one in sa and other in sb:
            for key in ("coe", "nodes", "cpu", "memory", "timeouts"):
                kind = "subject" if key == "coe" else "question"
                yield from _lines(kind, f"subjects.{one}.{key}", sa[one].get(key), sb[other].get(key), of=one)
            for where, x, y in _flat(
                f"subjects.{one}.options", _mapping(sa[one].get("options")), _mapping(sb[other].get("options"))
            ):
                yield from _lines("subject", where, x, y, of=one)


def _hosts(a: Result, b: Result, provisioners: set[str]) -> Iterator[Difference]:
    for where, x, y in _flat("host", a.run.host, b.run.host):
        key = where.removeprefix("host.")
        if key == "load_before":
            continue
        if key == "memory" and isinstance(x, (int, float)) and isinstance(y, (int, float)):
            if abs(x - y) <= SAME_MEMORY * max(x, y):
                continue
            x, y = f"{x / 2**30:.1f} GiB", f"{y / 2**30:.1f} GiB"
        own = key in MACHINE and x is not None and y is not None and provisioners & set(OWN_MACHINE)
        yield from _lines("machine" if own else "remark", where, x, y)


def _bays(subject: str, a: BayResult, b: BayResult) -> Iterator[Difference]:
    for key in ("engine", "version", "network"):
        yield from _lines("subject", f"{subject}.{key}", getattr(a, key) or None, getattr(b, key) or None, of=subject)
    for key in ("components", "timeouts"):
        for where, x, y in _flat(f"{subject}.{key}", getattr(a, key), getattr(b, key)):
            yield from _lines("subject", where, x, y, of=subject)
    gone, new = [n for n in a.notes if n not in b.notes], [n for n in b.notes if n not in a.notes]
    for x, y in [(n, None) for n in gone] + [(None, n) for n in new]:
        yield from _lines("subject", f"{subject}.notes", x, y, of=subject)


def _flat(where: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*a, *b]):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            yield from _flat(f"{where}.{key}", x, y)
        else:
            yield f"{where}.{key}", x, y


def _lines(kind: str, where: str, a: Any, b: Any, scenario: str = "", of: str = "") -> Iterator[Difference]:
    if a != b:
        yield Difference(kind=kind, where=where, a=_said(a), b=_said(b), scenario=scenario, of=of)


def _said(value: Any) -> str:
    if value is None:
        return "(not said)"
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
