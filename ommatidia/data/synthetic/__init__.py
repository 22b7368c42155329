"""Drawn and described tasks with exact answers. Importing this package registers their kinds."""

from ommatidia.data.synthetic.captions import DrawnCaptions
from ommatidia.data.synthetic.described import DescribedScenes
from ommatidia.data.synthetic.drawn import (
    DrawnAttributes,
    DrawnCharts,
    DrawnCounts,
    DrawnNumbers,
    DrawnRelations,
    DrawnWords,
)

__all__ = [
    "DescribedScenes",
    "DrawnAttributes",
    "DrawnCaptions",
    "DrawnCharts",
    "DrawnCounts",
    "DrawnNumbers",
    "DrawnRelations",
    "DrawnWords",
]
