"""The benchmarks that papers report, one kind each, read from local copies in their published layout."""

from ommatidia.eval.benchmarks.captions import CocoCaptions, Flickr30k, NoCaps
from ommatidia.eval.benchmarks.choices import Ai2d, RealWorldQa, ScienceQa, SeedBench
from ommatidia.eval.benchmarks.documents import ChartQa, DocVqa, InfoVqa, OcrBench
from ommatidia.eval.benchmarks.gqa import Gqa
from ommatidia.eval.benchmarks.hallusion import HallusionBench
from ommatidia.eval.benchmarks.judged import LlavaBench, MmVet
from ommatidia.eval.benchmarks.mathvista import MathVista
from ommatidia.eval.benchmarks.mmbench import MmBench
from ommatidia.eval.benchmarks.mme import Mme
from ommatidia.eval.benchmarks.mmmu import Mmmu
from ommatidia.eval.benchmarks.open_questions import TextVqa, VizWiz, VqaV2
from ommatidia.eval.benchmarks.pope import Pope
from ommatidia.eval.benchmarks.published import Facts, Published
from ommatidia.eval.benchmarks.vision_pairs import CvBench, Mmvp

__all__ = [
    "Ai2d",
    "ChartQa",
    "CocoCaptions",
    "CvBench",
    "DocVqa",
    "Facts",
    "Flickr30k",
    "Gqa",
    "HallusionBench",
    "InfoVqa",
    "LlavaBench",
    "MathVista",
    "MmBench",
    "MmVet",
    "Mme",
    "Mmmu",
    "Mmvp",
    "NoCaps",
    "OcrBench",
    "Pope",
    "Published",
    "RealWorldQa",
    "ScienceQa",
    "SeedBench",
    "TextVqa",
    "VizWiz",
    "VqaV2",
]
