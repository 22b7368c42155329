"""Scoring: pure functions from answers and references to values, and the scorers that benchmarks name."""

from ommatidia.eval.scoring.anls import AnlsScorer, anls, edit_distance
from ommatidia.eval.scoring.choice import ChoiceScorer, choice_letter
from ommatidia.eval.scoring.contains import ContainsScorer, contains
from ommatidia.eval.scoring.exact import ExactScorer, exact_match, normalize_short
from ommatidia.eval.scoring.number import NumberScorer, number_match, read_number
from ommatidia.eval.scoring.relaxed import RelaxedScorer, relaxed_accuracy
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of
from ommatidia.eval.scoring.yes_no import YesNoScorer, yes_no

__all__ = [
    "AnlsScorer",
    "ChoiceScorer",
    "ContainsScorer",
    "ExactScorer",
    "NumberScorer",
    "RelaxedScorer",
    "ScorerConfig",
    "YesNoScorer",
    "anls",
    "choice_letter",
    "contains",
    "edit_distance",
    "exact_match",
    "normalize_short",
    "number_match",
    "read_number",
    "references_of",
    "relaxed_accuracy",
    "yes_no",
]
