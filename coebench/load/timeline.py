"""The seconds of a load, the same for every generator: none crosses the end of the warm-up or of the load."""

from __future__ import annotations

import math

import msgspec


class Timeline(msgspec.Struct, frozen=True):
    """`start` in seconds since the epoch on the harness's clock; lengths in seconds."""

    start: float
    warmup: float
    duration: float

    @property
    def measured(self) -> float:
        return self.start + self.warmup

    @property
    def end(self) -> float:
        return self.measured + self.duration

    @property
    def warm_seconds(self) -> int:
        return math.ceil(round(self.warmup, 9))

    @property
    def measured_seconds(self) -> int:
        return math.ceil(round(self.duration, 9))

    def second(self, index: int) -> tuple[str, float, float]:
        """Phase, beginning and end of second `index`, from 0."""
        warm, length = self.warm_seconds, self.measured_seconds
        if index < warm:
            return "warmup", self.start + index, min(self.start + index + 1, self.measured)
        if index - warm < length:
            begin = self.measured + index - warm
            return "measured", begin, min(begin + 1, self.end)
        begin = self.end + index - warm - length
        return "drain", begin, begin + 1

    def joined_late(self, at: float) -> tuple[float, float, float, int] | None:
        """For a generator that can begin at `at` at the earliest: its own start, warm-up and duration, so that its seconds
        are the others' from number N (the last of the four) on and its end is theirs. None if it is too late for any."""
        for index in range(self.warm_seconds + self.measured_seconds):
            phase, begin, _ = self.second(index)
            if begin >= at:
                warmup = self.measured - begin if phase == "warmup" else 0.0
                return begin, warmup, self.end - begin - warmup, index
        return None
