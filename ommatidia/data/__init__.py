"""Sources of samples, their mixture, and the loader. Importing this package registers every kind of source."""

from ommatidia.data.easy_vqa import EasyVQA
from ommatidia.data.expert_text import ExpertText
from ommatidia.data.hub import HFDataset
from ommatidia.data.interleaved import Interleaved
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.pairs import Pairs
from ommatidia.data.plain_questions import PlainQuestions
from ommatidia.data.synthetic import (
    DescribedScenes,
    DrawnAttributes,
    DrawnCaptions,
    DrawnCharts,
    DrawnCounts,
    DrawnNumbers,
    DrawnRelations,
    DrawnWords,
)
from ommatidia.data.tokenised import Tokenised
from ommatidia.data.webdataset import WebDataset

__all__ = [
    "DescribedScenes",
    "DrawnAttributes",
    "DrawnCaptions",
    "DrawnCharts",
    "DrawnCounts",
    "DrawnNumbers",
    "DrawnRelations",
    "DrawnWords",
    "EasyVQA",
    "ExpertText",
    "HFDataset",
    "Interleaved",
    "LlavaJSON",
    "Pairs",
    "PlainQuestions",
    "Tokenised",
    "WebDataset",
]
