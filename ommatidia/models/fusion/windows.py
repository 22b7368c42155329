"""Windows: what each query of a Spatial Vision Aggregator looks at, and which cells of it show the image.

Cambrian-1 (arXiv 2406.16860), section 3.2. Shapes: K views, S rows and columns of an encoder's square grid, L of the
queries, m = S / L of a window, N = K * L * L queries (view, row, column), M = m * m cells of a window, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ommatidia.core.grid import content


@dataclass(frozen=True, slots=True)
class WindowSizes:
    """Sizes of ``Windows``, known before any weight."""

    side: int
    """Queries stand on a grid of side x side."""
    width: int
    """Channels of every cell, whatever its encoder."""
    heads: int
    """Attention heads of the layers that look at the windows."""
    cells: Mapping[str, int]
    """By encoder: cells on a side of a window."""

    @property
    def keys(self) -> int:
        """Cells that one query looks at."""
        return sum(cells**2 for cells in self.cells.values())


@dataclass(frozen=True, slots=True)
class Windows:
    """What N queries look at."""

    cells: dict[str, Tensor]
    """By encoder: x_NMC."""
    shown_NM: Tensor
    """True where a cell may be looked at; the encoders' cells one after another."""
    context_KC: Tensor
    """The global context of each view."""
    views_N: Tensor
    """The view that each query belongs to."""

    def at(self, places_P: Tensor) -> Windows:
        """The windows of some of the queries, by their number."""
        return replace(
            self,
            cells={name: x_NMC[places_P] for name, x_NMC in self.cells.items()},
            shown_NM=self.shown_NM[places_P],
            views_N=self.views_N[places_P],
        )


def windows(
    maps: Mapping[str, Tensor], shown: Mapping[str, Tensor], context_KC: Tensor, *, sizes: WindowSizes
) -> Windows:
    """Cut x_KSSC and shown_KSS of every encoder into the windows of the queries.

    A window of one encoder that shows nothing of the image may be looked at everywhere: its query stands beside the
    image too, and attention over nothing has no value.
    """
    masks = []
    for name, cells in sizes.cells.items():
        shown_NM = to_windows(shown[name].unsqueeze(-1), cells).squeeze(-1)
        masks.append(shown_NM | ~shown_NM.any(-1, keepdim=True))
    return Windows(
        {name: to_windows(maps[name], cells) for name, cells in sizes.cells.items()},
        torch.cat(masks, -1),
        context_KC,
        torch.arange(len(context_KC), device=context_KC.device).repeat_interleave(sizes.side**2),
    )


def to_windows(x_KSSC: Tensor, cells: int) -> Tensor:
    """Windows of cells x cells, row-major, as x_NMC; the cells of a window row-major too."""
    blocks = x_KSSC.unflatten(2, (-1, cells)).unflatten(1, (-1, cells))  # K, L, m, L, m, C
    return blocks.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def showing(sizes: Sequence[tuple[int, int]], side: int) -> Tensor:
    """shown_KSS: True at the cells of a square grid that show a centred image of this (height, width), one a view."""
    cells = torch.arange(side)
    boxes_K4 = torch.tensor([content(side, side, *size, at_least=1) for size in sizes]).reshape(-1, 4)
    top, left, bottom, right = boxes_K4.T[..., None]
    rows_KS = (cells >= top) & (cells < bottom)
    columns_KS = (cells >= left) & (cells < right)
    return rows_KS[:, :, None] & columns_KS[:, None, :]
