"""Whether a run folder is whole and says the same thing everywhere: what a sceptic checks before believing a table.

Checksums show accident and careless editing. Against somebody who edits a file and its checksum alike, only the digest of
SHA256SUMS itself helps, kept or published elsewhere; `Verified.digest` is that.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .. import __version__
from ..contract import BadInput, Observation, Scenario
from . import derive, files, folder, histograms
from .files import Files
from .model import Result

REACH = 1.002  # two slots of a histogram of three digits: how far a percentile may be from another implementation's


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `wrong`: it is not as it has to be; else `text` says what was found in order, or a remark."""

    check: str  # "whole", "schema", "checksums", "reconciliation", "histograms", "result"
    text: str
    wrong: bool = False


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found. `digest`: SHA-256 of SHA256SUMS, empty where there is none."""

    path: str
    format: int
    digest: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(f.wrong for f in self.findings)


def verify(path: Path | str, scenarios: Mapping[str, Scenario]) -> Verified:
    """Check the run at `path`, a folder or an archive. Raises BadInput if it is none, or of a newer coebench."""
    with files.opened(path) as run:
        recorded = folder.read_files(run)
        findings = [
            *_sums(run, recorded),
            *_schema(recorded),
            *_whole(recorded),
            *_reconciled(recorded.observations),
            *_histograms(run, recorded),
            *_result(run, recorded, scenarios),
        ]
        digest = ""
        with contextlib.suppress(OSError, *files.DAMAGE):  # a finding of `_sums` says so
            digest = hashlib.sha256(run.read(folder.SUMS)).hexdigest() if folder.SUMS in run else ""
    return Verified(path=str(path), format=recorded.format, digest=digest, findings=tuple(findings))


def _group(check: str, wrong: Sequence[str], fine: str, remarks: Sequence[str] = ()) -> Iterator[Finding]:
    yield from (Finding(check=check, text=text, wrong=True) for text in wrong)
    if fine and not wrong:
        yield Finding(check=check, text=fine)
    yield from (Finding(check=check, text=text) for text in remarks)


def _sums(run: Files, recorded: folder.Recorded) -> Iterator[Finding]:
    try:
        sums, lines = folder.read_sums(run)
    except (OSError, *files.DAMAGE) as e:
        yield Finding(check="checksums", text=f"{folder.SUMS} can't be read: {files.why(e)}", wrong=True)
        return
    if not sums and not lines:
        why = (
            f"format {recorded.format} had none"
            if recorded.format < 2
            else f"{folder.SUMS} is missing: the run was killed before its end, or the folder isn't whole"
        )
        yield Finding(check="checksums", text=why, wrong=recorded.format >= 2)
        return
    wrong = [f"{folder.SUMS}: {line[:60]!r} is no line of it" for line in lines]
    broken = {w.split(" ")[0]: w for w in recorded.warnings}
    for name, expected in sums.items():
        try:
            if folder.digest(run, name) != expected:
                told = broken.get(name) or broken.get(f"{name},")
                wrong.append(f"{name} is not what was recorded: " + (told or "it was edited after the run"))
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
        except (OSError, *files.DAMAGE) as e:
            wrong.append(f"{name} can't be read: {files.why(e)}")
    others = [n for n in run.names if n not in sums and folder.summed(n)]
    remarks = [f"no checksum covers {', '.join(others[:5])}" + (f" and {len(others) - 5} more" if others[5:] else "")]
    yield from _group("checksums", wrong, f"{len(sums)} files are as they were recorded", remarks if others else ())


def _schema(recorded: folder.Recorded) -> Iterator[Finding]:
    m = recorded.manifest
    kinds: dict[str, type | tuple[type, ...]] = {
        "run": str,
        "version": str,
        "started": (int, float, str),
        "command": list,
        "seed": int,
        "profile": str,
        "blocks": int,
        "host": dict,
        "subjects": list,
        "plan": dict,
        "order": list,
    }
    wrong = [
        f"manifest.json: {key} is " + ("missing" if key not in m else f"{str(m[key])[:40]!r}, not of its kind")
        for key, kind in kinds.items()
        if not isinstance(m.get(key), kind)
    ]
    wrong += recorded.warnings
    counts = f"{len(recorded.observations)} observations and {len(recorded.trials)} lines of trials"
    yield from _group("schema", wrong, f"format {recorded.format}: the manifest, {counts} are of it")


def _whole(recorded: folder.Recorded) -> Iterator[Finding]:
    began: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for line in recorded.trials:
        (began if line.outcome is None else ended)[line.trial.id] += 1
    planned = recorded.manifest.get("order")
    order = [str(i) for i in planned] if isinstance(planned, list) else []
    wrong = [f"{i} began and never ended" for i in began if not ended[i]]
    wrong += [f"{i} ended and never began" for i in ended if not began[i]]
    wrong += [f"{i} ended {n} times" for i, n in ended.items() if n > 1]
    wrong += [f"{i} is in no plan of this run" for i in began if i not in set(order)]
    if missing := [i for i in order if i not in began]:
        wrong.append(f"{len(missing)} of {len(order)} planned trials never began, from {missing[0]} on")
    ids = {o.trial for o in recorded.observations}
    wrong += [f"{i} ended well and nothing of it was observed" for i in _good(recorded) if i not in ids]
    yield from _group("whole", wrong, f"all {len(order)} planned trials began and ended")


def _good(recorded: folder.Recorded) -> list[str]:
    return [line.trial.id for line in recorded.trials if line.outcome and line.outcome.status == "ok"]


def _reconciled(observations: Sequence[Observation]) -> Iterator[Finding]:
    loads = requests = 0
    wrong: list[str] = []
    for o in observations:
        if {"planned", "sent", "ok", "unsent", "inflight", "errors"} <= o.data.keys():
            loads += 1
            requests += o.data["planned"] if isinstance(o.data["planned"], int) else 0
            which = " ".join(str(o.data[k]) for k in ("loop", "rate") if o.data.get(k))
            where = " ".join(filter(None, (o.trial, o.name, which)))
            try:
                wrong += [f"{where}: {text}" for text in _unreconciled(o.data)]
            except (TypeError, ValueError, AttributeError) as e:
                wrong.append(f"{where}: {e}")
    fine = f"of {requests} requests planned in {loads} loads each is accounted for" if loads else "no load was recorded"
    yield from _group("reconciliation", wrong, fine)


def _unreconciled(d: Mapping[str, Any]) -> Iterator[str]:
    errors = sum(d["errors"].values())
    if d["planned"] != d["sent"] + d["unsent"]:
        yield f"{d['planned']} requests were planned, {d['sent']} sent and {d['unsent']} not sent"
    if d["sent"] != d["ok"] + errors + d["inflight"]:
        yield f"{d['sent']} requests were sent, {d['ok']} answered, {errors} failed and {d['inflight']} left open"
    if (per := d.get("per_target")) and sum(per.values()) != d["ok"]:
        yield f"{d['ok']} requests were answered, {sum(per.values())} by the targets one by one"
    for key, percentiles in (("histogram", "latency_ms"), ("raw_histogram", "raw_ms")):
        if not d.get(key):
            continue
        h = histograms.decode(d[key])
        if (n := h.get_total_count()) != d["ok"]:
            yield f"{d['ok']} requests were answered, the {key} holds {n}"
        for name, said in (d.get(percentiles) or {}).items():
            if name.startswith("p") and n:
                # Implementations round the rank of a percentile to either side: the neighbours of it are as right.
                p = float(name[1:])
                least, most = (h.get_value_at_percentile(p + d) / histograms.NANOSECONDS for d in (-100.1 / n, 100.1 / n))
                if not least / REACH - 1e-4 <= said <= most * REACH + 1e-4:
                    yield f"{percentiles} {name} is {said:g}, the {key}'s is {h.get_value_at_percentile(p) / 1e6:g}"


def _histograms(run: Files, recorded: folder.Recorded) -> Iterator[Finding]:
    logs, bad = histograms.logs(recorded.observations)
    prefix = f"{folder.HISTOGRAMS}/"
    have = {n.removeprefix(prefix) for n in run.names if n.startswith(prefix) and n.endswith(histograms.SUFFIX)}
    if not have and logs:
        text = f"{len(logs)} logs are in the observations alone: coebench derive writes them out"
        yield from _group("histograms", bad, "", [text])
        return
    wrong = list(bad)
    for name in sorted(have | logs.keys()):
        if name not in logs:
            wrong.append(f"{prefix}{name} is of no observation")
        elif name not in have:
            wrong.append(f"{prefix}{name} is missing")
        else:
            try:
                same = run.read(prefix + name).decode(errors="replace") == logs[name]
            except (OSError, *files.DAMAGE) as e:
                wrong.append(f"{prefix}{name} can't be read: {files.why(e)}")
            else:
                wrong += [] if same else [f"{prefix}{name} is not what the observations give"]
    yield from _group("histograms", wrong, f"{len(logs)} logs are what the observations give" if logs else "none were recorded")


def _result(run: Files, recorded: folder.Recorded, scenarios: Mapping[str, Scenario]) -> Iterator[Finding]:
    unknown = {t.trial.scenario for t in recorded.trials} - scenarios.keys()
    if unknown:
        text = f"not compared with the observations: scenario {', '.join(sorted(unknown))} isn't known here"
        yield Finding(check="result", text=text)
        return
    try:
        result = folder.read_result(recorded.path)
    except BadInput as e:
        yield Finding(check="result", text=str(e), wrong=True)
        return
    if result is None:
        yield Finding(check="result", text=f"{folder.RESULT} is missing or damaged: coebench derive makes it anew", wrong=True)
        return
    again = derive.derive_recorded(recorded, scenarios)
    differing = differences(result, again)
    by = result.run.version
    other = f" (it was derived by coebench {by}, this is {__version__})" if by != __version__ else ""
    wrong = [f"{folder.RESULT} is not what the observations give: {text}{other}" for text in differing]
    yield from _group("result", wrong, f"the {len(again.metrics)} rows of {folder.RESULT} follow from the observations")


def differences(old: Result, new: Result) -> list[str]:
    """In what two results of the same run differ: rows, and all else by the field's name. Empty where in nothing."""
    out = []
    before, after = ({(m.scenario, m.name, tuple(m.factors.items())): m for m in r.metrics} for r in (old, new))
    known = {key[:2] for key in before}
    for key in dict.fromkeys([*before, *after]):
        name = f"{key[0]}.{key[1]}" + "".join(f" {k}={v}" for k, v in key[2])
        if key not in after:
            out.append(f"{name} is there no more")
        elif key not in before:
            if key[:2] in known:  # else a metric that came after this result was made
                out.append(f"{name} is new")
        elif before[key].values != after[key].values:  # the words about a metric may have changed since
            a, b = before[key], after[key]
            subjects = [s for s in dict.fromkeys([*a.values, *b.values]) if a.values.get(s) != b.values.get(s)]
            out.append(f"{name} has other figures" + (f" of {', '.join(subjects)}" if subjects else ""))
    for field in ("run", "bays", "scenarios", "trials", "warnings"):
        a, b = getattr(old, field), getattr(new, field)
        if field == "run":  # a run that was copied to a folder of another name is the same run
            a, b = msgspec.structs.replace(a, folder=""), msgspec.structs.replace(b, folder="")
        if a != b:
            out.append(f"{field} differs")
    return out
