"""Micro-batches: which samples of an optimiser batch are computed together. The sum over tokens does not mind."""

from __future__ import annotations

from collections.abc import Sequence

from ommatidia.core.types import Example
from ommatidia.train.engine import Packing


def packs(examples: Sequence[Example], packing: Packing) -> list[list[Example]]:
    """Rows within the budgets of tokens and views: first fit, longest samples first.

    A sample that is over a budget by itself gets a row of its own. Largest rows come first, so that what does not fit
    into memory shows at once.
    """
    rows: list[list[Example]] = []
    room: list[tuple[int, float]] = []
    views = float("inf") if packing.views is None else packing.views
    for example in sorted(examples, key=lambda example: -example.ids.numel()):
        tokens, looks = example.ids.numel(), len(example.views)
        for row, (left, looks_left) in enumerate(room):
            if tokens <= left and looks <= looks_left:
                rows[row].append(example)
                room[row] = left - tokens, looks_left - looks
                break
        else:
            rows.append([example])
            room.append((packing.tokens - tokens, views - looks))
    return rows


def split_by_length(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """``size`` samples each, of like lengths, so that little is padded; those without images keep together, so that
    fewer micro-batches run the encoders."""
    ordered = sorted(examples, key=lambda example: (not example.views, example.ids.numel()))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
