"""Merging is addition: what numpy makes of histograms is what HdrHistogram's own package makes of them."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from coebench.load import hdr
from coebench.report.plots import buckets
from coebench.results import histograms

values = st.lists(
    st.one_of(
        st.integers(0, hdr.HIGHEST),
        st.integers(0, 200_000),
        st.sampled_from([0, 63, 64, 127, 128, 131_071, 131_072, 131_073, 2**30 - 1, 2**30, 2**30 + 1, hdr.HIGHEST]),
    ),
    max_size=60,
)


def theirs(samples: list[int]) -> HdrHistogram:
    histogram = HdrHistogram(hdr.LOWEST, hdr.HIGHEST, hdr.DIGITS)
    for sample in samples:
        assert histogram.record_value(sample)
    return histogram


@settings(max_examples=60, deadline=None)
@given(st.lists(values, min_size=1, max_size=8))
def test_merged_percentiles_are_those_of_the_pooled_samples(parts: list[list[int]]) -> None:
    """The property that averaging percentiles lacks: within the precision of the histogram, 3 digits (and 64 ns)."""
    merged = np.zeros((1, hdr.SLOTS), np.int64)
    encoded = [theirs(part).encode().decode() for part in parts]
    sums = hdr.add_many(merged, [hdr.payload(e) for e in encoded], [0] * len(parts), [1] * len(parts))
    assert sums == [len(part) for part in parts]
    pooled = np.sort(np.concatenate([np.asarray(part, np.int64) for part in parts]))
    for percent in (0.1, 25, 50, 90, 99, 99.9, 100):
        said = hdr.percentile(merged[0], percent)
        if not len(pooled):
            assert said == 0
            continue
        true = int(pooled[max(1, int(np.ceil(len(pooled) * percent / 100))) - 1])
        assert true <= said <= true + max(64, true / 1000)


@settings(max_examples=60, deadline=None)
@given(values)
def test_what_is_encoded_is_what_their_package_reads_and_writes(samples: list[int]) -> None:
    mine = hdr.empty()
    np.add.at(mine, hdr.slots_of(samples), 1)
    read = HdrHistogram.decode(hdr.encode(mine).encode())
    assert read.get_total_count() == len(samples)
    for percent in (50, 99, 100):
        assert read.get_value_at_percentile(percent) == theirs(samples).get_value_at_percentile(percent)
    assert (hdr.decode(theirs(samples).encode().decode()) == mine).all()


@settings(max_examples=30, deadline=None)
@given(values, values)
def test_what_was_added_can_be_taken_off_again(one: list[int], other: list[int]) -> None:
    rows = np.zeros((2, hdr.SLOTS), np.int64)
    parts = [hdr.payload(theirs(s).encode()) for s in (one, other, other)]
    hdr.add_many(rows, parts, [1, 1, 1], [1, 1, -1])
    assert not rows[0].any()
    assert (rows[1] == hdr.decode(theirs(one).encode().decode())).all()


def test_large_counts_and_the_greatest_value() -> None:
    counts = hdr.empty()
    counts[hdr.slots_of([1_000_000])] = 2**50
    assert (hdr.decode(hdr.encode(counts)) == counts).all()
    assert hdr.percentile(counts, 100, greatest=1_000_001) == 1_000_001
    assert hdr.percentile(counts, 50, greatest=1_000_001) == 1_000_001
    assert 1_000_000 <= hdr.percentile(counts, 50) <= 1_001_000


GOOD = theirs([1, 1000, 10**9]).encode().decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "garbage",
        "AAAA",
        GOOD[:-8],
        HdrHistogram(1, 3_600_000_000, 3).encode().decode(),
        GOOD[:20] + "A" * 20 + GOOD[40:],
    ],
)
def test_what_is_no_histogram_of_ours_is_odd(text: str) -> None:
    with pytest.raises(hdr.OddHistogram):
        hdr.decode(text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_counts_however_broken_do_anything_else(packed: bytes) -> None:
    rows = np.zeros((3, hdr.SLOTS), np.int64)
    try:
        hdr.add_many(rows, [packed], [1], [1])
    except hdr.OddHistogram:
        assert not rows.any()
    assert not rows[0].any()
    assert not rows[2].any()


def test_ten_thousand_are_merged_in_seconds_not_minutes() -> None:
    """The figure itself is benchmarks/load/coordinator.py's; here only that nobody made it a hundred times slower."""
    chance = np.random.default_rng(1)
    encoded = []
    for _ in range(50):
        counts = hdr.empty()
        np.add.at(counts, hdr.slots_of(chance.lognormal(12, 0.5, 1000)), 1)
        encoded.append(hdr.encode(counts))
    rows = np.zeros((1, hdr.SLOTS), np.int64)
    begun = time.process_time()
    for _ in range(200):
        hdr.add_many(rows, [hdr.payload(e) for e in encoded], [0] * 50, [1] * 50)
    assert time.process_time() - begun < 10
    assert int(rows.sum()) == 50 * 200 * 1000


def test_a_text_that_unpacks_without_end_costs_no_memory() -> None:
    """2 MiB that would unpack to 2 GiB: refused before more is unpacked than a histogram can have."""
    import base64
    import tracemalloc
    import zlib

    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    text = base64.b64encode(struct.pack(">ii", 0x1C849304 | 0x10, len(packed)) + packed)
    tracemalloc.start()
    try:
        for read in (hdr.payload, hdr.decoded, histograms.decode):
            with pytest.raises(ValueError, match="unpacks to more than"):
                read(text)
        assert buckets.decode(text) is None
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
