"""Histograms of one layout, so that merging is addition: HdrHistogram's, as `coeload` writes them.

Values are nanoseconds, 3 significant digits up to an hour, nothing told apart under 64 ns (lowest discernible value 100).
Earlier generators went up to 60 s: their slots are the first of these, so that they are read and added as well. A
histogram is an array of SLOTS counts; many are decoded in one go, by numpy, because a thousand generators send thousands
of them a second (the `hdrhistogram` package takes about a hundred times as long; the tests check against it).

The format: HdrHistogram's V2 encoding (github.com/HdrHistogram/HdrHistogram, EncodableHistogram), ZigZag LEB128 numbers:
a positive one is a slot's count, a negative one a run of empty slots.
"""

from __future__ import annotations

import binascii
import math
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

Counts = npt.NDArray[np.int64]

DIGITS = 3
LOWEST = 100
HIGHEST = 3_600_000_000_000
EARLIER = (60_000_000_000,)  # HIGHEST of earlier versions
UNIT_BITS = 6
HALF = 1024
HALF_BITS = 10
BUCKETS = 26
SLOTS = (BUCKETS + 1) * HALF

_COOKIE = 0x1C849303 | 0x10
_COMPRESSED = 0x1C849304 | 0x10
_HEAD = struct.Struct(">iiiiqqd")
_SIZE = _HEAD.size
MOST_DIGITS = 4
_LARGEST = 8 << 20  # bytes: of 4 digits, with a number of 7 bytes for each slot
_MOST = _SIZE + 9 * SLOTS  # bytes: a number for each slot, of the longest form


class OddHistogram(ValueError):
    """It is not one, or one of another layout."""


def empty() -> Counts:
    """A histogram without values."""
    return np.zeros(SLOTS, np.int64)


def slots_of(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The slot of each value, in nanoseconds."""
    v: Counts = np.clip(np.asarray(values, np.int64), 0, HIGHEST)
    bucket: Counts = np.maximum(0, np.frexp(v.astype(np.float64))[1] - (UNIT_BITS + HALF_BITS + 1))
    # frexp rounds a value just below a power of two up to it
    bucket = np.where(v >> (bucket + UNIT_BITS) >= 2 * HALF, bucket + 1, bucket)
    bucket = np.where((bucket > 0) & (v >> (bucket + UNIT_BITS) < HALF), bucket - 1, bucket)
    slots: Counts = (bucket << HALF_BITS) + (v >> (bucket + UNIT_BITS))
    return slots


def _tops() -> npt.NDArray[np.int64]:
    """The highest value that each slot stands for."""
    slot = np.arange(SLOTS, dtype=np.int64)
    bucket = np.maximum((slot >> HALF_BITS) - 1, 0)
    sub = np.where(slot < 2 * HALF, slot, (slot & (HALF - 1)) + HALF)
    tops: Counts = ((sub + 1) << (bucket + UNIT_BITS)) - 1
    return tops


TOPS = _tops()


def percentile(counts: Counts, percent: float, greatest: int = 0) -> int:
    """The value in ns that `percent` per cent of all don't exceed: the top of its slot, but not beyond `greatest`, the
    greatest value that was seen, where that is known (not 0). 0 for an empty histogram."""
    total = int(counts.sum())
    if not total:
        return 0
    wanted = max(1, math.ceil(total * percent / 100))
    slot = int(np.searchsorted(np.cumsum(counts), wanted))
    top = int(TOPS[slot])
    if greatest and percent >= 100:
        return greatest
    return min(top, greatest) if greatest else top


def beyond(counts: Counts) -> int:
    """How many values are at the end of the range or beyond it: lower bounds, all that is known of them."""
    return int(counts[slots_of(HIGHEST)])


def decoded(text: str | bytes) -> HdrHistogram:
    """Of any layout, by the `hdrhistogram` package. That unpacks whatever it is given, and makes an array as large as the text's
    head says, so both are looked at first. Raises OddHistogram, and what the package raises."""
    from hdrh.histogram import HdrHistogram

    plain = _unpacked(text, _LARGEST)
    if len(plain) >= _SIZE and not 0 < (digits := _HEAD.unpack_from(plain)[3]) <= MOST_DIGITS:
        raise OddHistogram(f"{digits} digits: more than {MOST_DIGITS} are not read")
    return HdrHistogram.decode(text)


def _unpacked(text: str | bytes, most: int) -> bytes:
    """Raises OddHistogram, also for one that unpacks to more than so many bytes."""
    try:
        data = binascii.a2b_base64(text)
        if int.from_bytes(data[:4], "big") != _COMPRESSED:
            raise OddHistogram("not an HdrHistogram V2, compressed")
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(data[8:], most)
    except (binascii.Error, zlib.error, ValueError) as e:
        raise OddHistogram(str(e)) from None
    if unpacking.unconsumed_tail:
        raise OddHistogram(f"it unpacks to more than {most} bytes")
    if not unpacking.eof:
        raise OddHistogram("it breaks off")
    return plain


def payload(text: str | bytes) -> bytes:
    """The packed counts of an encoded histogram (base64). Raises OddHistogram."""
    plain = _unpacked(text, _MOST)
    try:
        cookie, length, offset, digits, lowest, highest, _ = _HEAD.unpack_from(plain)
    except struct.error as e:
        raise OddHistogram(str(e)) from None
    if (cookie, offset, digits, lowest) != (_COOKIE, 0, DIGITS, LOWEST) or highest not in (HIGHEST, *EARLIER):
        raise OddHistogram(f"another layout: {digits} digits from {lowest} to {highest}")
    if len(plain) - _SIZE != length:
        raise OddHistogram("it breaks off")
    return plain[_SIZE:]


def add_many(into: npt.NDArray[np.int64], payloads: Sequence[bytes], rows: Sequence[int], signs: Sequence[int]) -> list[int]:
    """Add histograms to rows of `into`, an array of (row, SLOTS), or take them off where the sign is -1.

    Returns the number of values in each. Raises OddHistogram and adds none if one of them can't be one.
    """
    sizes = np.fromiter((len(p) for p in payloads), np.int64, len(payloads))
    data = np.frombuffer(b"".join(payloads), np.uint8)
    if not len(data):
        return [0] * len(payloads)
    borders = np.cumsum(sizes)
    last = np.flatnonzero(data < 0x80)  # of each number
    if (data[borders[sizes > 0] - 1] >= 0x80).any():
        raise OddHistogram("a number breaks off")
    first = np.empty_like(last)
    first[0] = 0
    np.add(last[:-1], 1, out=first[1:])
    length = last - first + 1
    longest = int(length.max())
    if longest > 8:
        raise OddHistogram("a count beyond 2^55")
    kind: Any = np.int32 if longest <= 4 else np.int64
    value: Any = (data[first] & 0x7F).astype(kind)
    for i in range(1, longest):
        more = np.flatnonzero(length > i)
        value[more] |= (data[first[more] + i] & 0x7F).astype(kind) << (7 * i)
    value = (value >> 1) ^ -(value & 1)
    steps = np.maximum(-value, 1)  # a count takes a slot, a negative number skips so many
    if int(steps.max()) > SLOTS:
        raise OddHistogram("a value beyond an hour")
    ends = np.cumsum(steps, dtype=np.int64)
    numbers = np.searchsorted(last, borders)  # before the end of each histogram
    each = np.diff(numbers, prepend=0)
    done = np.concatenate(([0], ends))[np.concatenate(([0], numbers))]
    if (np.diff(done) > SLOTS).any():
        raise OddHistogram("a value beyond an hour")
    where = ends - steps + np.repeat(np.asarray(rows, np.int64) * SLOTS - done[:-1], each)
    filled = np.flatnonzero(value > 0)
    counts = value[filled].astype(np.int64)
    sums = np.concatenate(([0], np.cumsum(counts)))[np.concatenate(([0], np.searchsorted(filled, numbers)))]
    if min(signs) < 0:
        counts *= np.repeat(np.asarray(signs, np.int64), each)[filled]
    np.add.at(into.reshape(-1), where[filled], counts)
    return [int(t) for t in np.diff(sums)]


def decode(text: str) -> Counts:
    """One histogram. Raises OddHistogram."""
    counts = np.zeros((1, SLOTS), np.int64)
    add_many(counts, [payload(text)], [0], [1])
    first: Counts = counts[0]
    return first


def encode(counts: Counts) -> str:
    """The V2 compressed encoding, base64, as `HdrHistogram.decode()` reads it."""
    out = bytearray()
    filled = np.flatnonzero(counts)
    before = -1
    for slot, count in zip(filled.tolist(), counts[filled].tolist(), strict=True):
        if (gap := slot - before - 1) == 1:
            out.append(0)
        elif gap:
            _zigzag(out, -gap)
        _zigzag(out, count)
        before = slot
    plain = _HEAD.pack(_COOKIE, len(out), 0, DIGITS, LOWEST, HIGHEST, 1.0) + bytes(out)
    packed = zlib.compress(plain, 6)
    return binascii.b2a_base64(struct.pack(">ii", _COMPRESSED, len(packed)) + packed, newline=False).decode()


def _zigzag(out: bytearray, value: int) -> None:
    v = value << 1 if value >= 0 else (-value << 1) - 1
    while v >= 0x80:
        out.append(v & 0x7F | 0x80)
        v >>= 7
    out.append(v)
