"""The histograms of a run as HdrHistogram logs, which every implementation of HdrHistogram reads.

Scenarios record histograms inside their observations, as the generator encoded them (V2, compressed, base64). Here they
are found without knowing any scenario, by the magic that each begins with, and written out to
`histograms/TRIAL.WHAT.hlog`: a log of its own for each quantity, since many readers of logs pass tags over and would
add a latency from the planned send to one from the actual send. Values are nanoseconds.

Format: https://github.com/HdrHistogram/HdrHistogram, HistogramLogWriter, 1.3. The decoding is the package hdrhistogram's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contract import Observation

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

MAGIC = "HISTF"  # base64 of the cookie of a compressed V2 histogram
SUFFIX = ".hlog"
NANOSECONDS = 1_000_000  # in the unit of a log's Interval_Max, milliseconds

_KEYS = {"histogram": "latency", "raw_histogram": "raw"}
_WHICH = ("window", "phase", "step", "loop", "rate")  # what sets two loads of one trial apart


class Found(NamedTuple):
    """One histogram of an observation. `what` names its quantity within the trial; times in seconds, `at` since the epoch."""

    trial: str
    what: str
    at: float
    seconds: float
    text: str

    @property
    def file(self) -> str:
        """Its log's name in the folder of histograms."""
        return f"{safe(self.trial or 'run')}.{safe(self.what)}{SUFFIX}"


def find(observation: Observation) -> Iterator[Found]:
    """The histograms that an observation holds, at any depth; those in a list are each of an interval of its own."""
    data = observation.data
    if not any(_holds(v) for v in data.values()):
        return
    which = [] if observation.name == "load" else [observation.name]
    which += [_word(data[k]) for k in _WHICH if data.get(k) not in (None, "", 0) and not isinstance(data[k], (dict, list))]
    if isinstance(factors := data.get("factors"), Mapping):
        which += [f"{k}={_word(v)}" for k, v in factors.items()]
    if data.get("discarded"):
        which.append("discarded")
    seconds = _number(data.get("seconds"))
    yield from _within(data, observation.trial, which or ["load"], observation.at - seconds, seconds)


def _within(data: Mapping[str, Any], trial: str, which: list[str], at: float, seconds: float) -> Iterator[Found]:
    for key, value in data.items():
        if isinstance(value, str) and value.startswith(MAGIC):
            yield Found(trial, ".".join([*which, _KEYS.get(key, key)]), at, seconds, value)
        elif isinstance(value, Mapping):
            yield from _within(value, trial, [*which, key], at, seconds)
        elif isinstance(value, (list, tuple)):
            for item in value:
                if isinstance(item, Mapping):
                    length = _number(item.get("seconds")) or 1.0
                    yield from _within(item, trial, [*which, key], _number(item.get("at")) or at, length)


def _holds(value: Any) -> bool:
    if isinstance(value, str):
        return value.startswith(MAGIC)
    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds, value))


def decode(text: str) -> HdrHistogram:
    """Raises ValueError if it is no histogram."""
    from hdrh.codec import HdrCookieException, HdrHistogramSettingsException, HdrLengthException

    from ..load import hdr

    try:
        return hdr.decoded(text)
    except (HdrCookieException, HdrHistogramSettingsException, HdrLengthException) as e:
        raise ValueError(f"no HdrHistogram: {type(e).__name__}: {e}") from None
    except Exception as e:  # zlib's, binascii's, struct's, ctypes': whatever the bytes lead to
        raise ValueError(f"no HdrHistogram: {type(e).__name__}: {e}") from None


def header(trial: str, what: str, at: float) -> str:
    """The head of a log whose intervals begin at `at`, seconds since the epoch."""
    when = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(at))
    return (
        f"#[coebench: trial {safe(trial)}, {safe(what)}; values in ns, Interval_Max in ms]\n"
        "#[Histogram log format version 1.3]\n"
        f"#[StartTime: {at:.3f} (seconds since epoch), {when}]\n"
        f"#[BaseTime: {at:.3f} (seconds since epoch)]\n"
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    )


def line(found: Found, start: float) -> str:
    """One interval of a log that began at `start`. Raises ValueError if the histogram is none."""
    longest = decode(found.text).get_max_value() / NANOSECONDS
    return f"{max(0.0, found.at - start):.3f},{found.seconds:.3f},{longest:.3f},{found.text}\n"


def logs(observations: Iterable[Observation]) -> tuple[dict[str, str], list[str]]:
    """File name → content of all logs of these observations, and what could not be written, each a sentence."""
    out: dict[str, list[str]] = {}
    starts: dict[str, float] = {}
    bad: list[str] = []
    for o in observations:
        for found in find(o):
            try:
                if found.file not in out:
                    text = line(found, found.at)
                    out[found.file], starts[found.file] = [header(found.trial, found.what, found.at), text], found.at
                else:
                    out[found.file].append(line(found, starts[found.file]))
            except ValueError as e:
                bad.append(f"{found.trial}: the histogram {found.what} is {e}.")
    return {name: "".join(lines) for name, lines in out.items()}, bad


def distribution(histogram: HdrHistogram) -> str:
    """The percentile distribution in milliseconds, as HdrHistogram's own plotter (plotFiles.html) takes it: .hgrm."""
    import io

    out = io.BytesIO()
    histogram.output_percentile_distribution(out, NANOSECONDS, 5)
    return out.getvalue().decode()


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def safe(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".")[:120] or "x"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12 else 0.0
