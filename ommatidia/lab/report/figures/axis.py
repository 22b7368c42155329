"""From values to pixels: a linear or logarithmic axis with round ticks, and labels pushed apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps ``low..high`` to the pixels ``start..end``; ``end`` may be smaller (a y axis). A log axis is positive."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of ``value``; values outside are held at the edge."""
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """About ``count`` round values inside the axis."""
        return _log_ticks(self.low, self.high, count) if self.log else _linear_ticks(self.low, self.high, count)


def spanning(values: Iterable[float], start: float, end: float, *, margin: float = 0.05, log: bool = False) -> Axis:
    """An axis that holds all values with some room; a single value gets room on both sides. Empty: 0 to 1."""
    kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not kept:
        return Axis(0.1 if log else 0.0, 1.0, start, end, log)
    low, high = min(kept), max(kept)
    if log:
        room = max((high / low) ** margin, 1.25)
        return Axis(low / room, high * room, start, end, True)
    room = (high - low) * margin or max(abs(high) * margin, 0.01)
    return Axis(low - room, high + room, start, end)


def _linear_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    if high <= low:
        return (low,)
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5, 10) if m * power >= rough), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def _log_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = tuple(m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high)
        if len(found) >= min(count, 3):
            return found[:: math.ceil(len(found) / (2 * count))]
    return found or (low, high)


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> tuple[float, ...]:
    """Positions inside ``low..high``, at least ``gap`` apart as near to ``wanted`` as can be, in the order given."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    if (len(order) - 1) * gap > high - low:
        gap = (high - low) / max(len(order) - 1, 1)
    # Blocks of labels that touch: each sits at the mean of what its members wanted and merges with any it meets.
    blocks: list[tuple[float, list[int]]] = []
    for index in order:
        blocks.append((min(max(wanted[index], low), high), [index]))
        while len(blocks) > 1:
            (above, first), (below, second) = blocks[-2:]
            if above + gap * (len(first) + len(second)) / 2 <= below + 1e-9:
                break
            members = first + second
            half = gap * (len(members) - 1) / 2
            centre = sum(wanted[i] for i in members) / len(members)
            blocks[-2:] = [(min(max(centre, low + half), high - half), members)]
    placed = [0.0] * len(wanted)
    for centre, members in blocks:
        for place, index in enumerate(members):
            placed[index] = centre + gap * (place - (len(members) - 1) / 2)
    return tuple(placed)
