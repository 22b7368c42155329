"""Scoring: pure functions from answers and references to values, and the scorers that benchmarks name."""

from ommatidia.eval.scoring.anls import AnlsScorer, anls, edit_distance
from ommatidia.eval.scoring.choice import ChoiceScorer, choice_letter
from ommatidia.eval.scoring.cider import CiderScorer, cider, cider_each
from ommatidia.eval.scoring.contains import ContainsScorer, OcrBenchScorer, contains, ocrbench_match
from ommatidia.eval.scoring.cv_bench import CvBenchRecord, CvBenchScorer, cv_bench_scores
from ommatidia.eval.scoring.exact import ExactScorer, exact_match, normalize_short
from ommatidia.eval.scoring.gqa import GqaScorer, gqa_match
from ommatidia.eval.scoring.hallusion import HallusionRecord, HallusionScorer, hallusion_scores
from ommatidia.eval.scoring.judged import JudgedScorer, LlavaBenchScorer, MmVetScorer, Verdict
from ommatidia.eval.scoring.mathvista import MathVistaScorer, mathvista_extract, mathvista_match
from ommatidia.eval.scoring.mmbench import MmbenchRecord, MmbenchScorer, mmbench_circular
from ommatidia.eval.scoring.mme import MmeRecord, MmeScorer, mme_scores
from ommatidia.eval.scoring.mmmu import MmmuRecord, MmmuScorer, mmmu_match, mmmu_parse, mmmu_scores
from ommatidia.eval.scoring.mmvp import MmvpRecord, MmvpScorer, mmvp_pairs
from ommatidia.eval.scoring.number import NumberScorer, number_match, read_number
from ommatidia.eval.scoring.pope import PopeScorer, pope_scores
from ommatidia.eval.scoring.real_world import RealWorldScorer, realworldqa_match
from ommatidia.eval.scoring.relaxed import RelaxedScorer, relaxed_accuracy
from ommatidia.eval.scoring.score import Score
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of
from ommatidia.eval.scoring.vqa import VqaScorer, normalize_vqa, vqa_accuracy
from ommatidia.eval.scoring.yes_no import YesNoScorer, yes_no

__all__ = [
    "AnlsScorer",
    "ChoiceScorer",
    "CiderScorer",
    "ContainsScorer",
    "CvBenchRecord",
    "CvBenchScorer",
    "ExactScorer",
    "GqaScorer",
    "HallusionRecord",
    "HallusionScorer",
    "JudgedScorer",
    "LlavaBenchScorer",
    "MathVistaScorer",
    "MmVetScorer",
    "MmbenchRecord",
    "MmbenchScorer",
    "MmeRecord",
    "MmeScorer",
    "MmmuRecord",
    "MmmuScorer",
    "MmvpRecord",
    "MmvpScorer",
    "NumberScorer",
    "OcrBenchScorer",
    "PopeScorer",
    "RealWorldScorer",
    "RelaxedScorer",
    "Score",
    "ScorerConfig",
    "Verdict",
    "VqaScorer",
    "YesNoScorer",
    "anls",
    "choice_letter",
    "cider",
    "cider_each",
    "contains",
    "cv_bench_scores",
    "edit_distance",
    "exact_match",
    "gqa_match",
    "hallusion_scores",
    "mathvista_extract",
    "mathvista_match",
    "mmbench_circular",
    "mme_scores",
    "mmmu_match",
    "mmmu_parse",
    "mmmu_scores",
    "mmvp_pairs",
    "normalize_short",
    "normalize_vqa",
    "number_match",
    "ocrbench_match",
    "pope_scores",
    "read_number",
    "realworldqa_match",
    "references_of",
    "relaxed_accuracy",
    "vqa_accuracy",
    "yes_no",
]
