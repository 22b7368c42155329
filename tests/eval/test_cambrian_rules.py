"""Cambrian-1's own rules, as its public scripts decide (commit 539ffc3 of cambrian-mllm/cambrian)."""

from __future__ import annotations

import pytest

from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.scoring.choice import choice_letter
from ommatidia.eval.scoring.mathvista import MathVistaScorer, cambrian_mathvista
from ommatidia.eval.scoring.mmmu import MmmuScorer, mmmu_match, mmmu_parse
from ommatidia.eval.scoring.relaxed import RelaxedScorer, relaxed_accuracy

OPTIONS = ("a red cat", "a dog", "two dogs", "no, nothing")


def sample(references: tuple[str, ...], **meta: object) -> Sample:
    return Sample("s", (Message("user", (ImagePart(0), "What?")),), (), {"references": references, **meta})


@pytest.mark.parametrize(
    ("answer", "shared", "scienceqa", "mmvp"),
    [
        ("B", "B", "B", "B"), ("(b).", "B", "", "B"), ("B. a dog", "B", "B", ""), ("a dog", "A", "B", "B"),
        ("The answer is C", "C", "C", "C"), ("the answer is: C", "", "", ""), ("Answer: (D)", "D", "", "D"),
        ("No nothing!", "", "D", ""), ("banana", "B", "", ""), ("", "", "", ""),
        ("answer is A, no, answer is B.", "B", "B", "B"), ("two dogs:", "", "C", "C"),
    ],
)  # fmt: skip
def test_letters(answer: str, shared: str, scienceqa: str, mmvp: str) -> None:
    found = [choice_letter(answer, OPTIONS, variant=f"cambrian{task}") for task in ("", "_scienceqa", "_mmvp")]  # type: ignore[arg-type]
    assert found == [shared, scienceqa, mmvp]


@pytest.mark.parametrize(
    ("answer", "target", "cambrian", "lmms_eval"),
    [
        ("10.5", "10", True, True), ("10.6", "10", False, False), ("50%", "0.5", False, True),
        ("0.0", "0", True, False),
        ("0.1", "0", False, False), ("Yes", "yes", True, True), ("50%", "50%", True, True), ("51%", "50%", False, True),
        ("1e3", "1000", True, True),
    ],
)  # fmt: skip
def test_chartqa(answer: str, target: str, cambrian: bool, lmms_eval: bool) -> None:
    assert relaxed_accuracy(answer, target, variant="cambrian") is cambrian
    assert relaxed_accuracy(answer, target) is lmms_eval
    assert RelaxedScorer(variant="cambrian").score(sample((target,)), answer) == cambrian


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ("b", "a dog", True), ("B", "a dog", True), ("B.", "a dog", False), ("a dog", "a dog", False),
        ("I see a tail, so B", "a dog", False), ("B", "elsewhere", False),
    ],
)  # fmt: skip
def test_mathvista_choices(answer: str, target: str, right: bool) -> None:
    assert cambrian_mathvista(answer, target, choices=OPTIONS) is right


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [("100", "95", True), ("95", "100", False), ("105.2", "100", True), ("0", "0.0", True), (" Blue", "blue", True)],
)
def test_mathvista_numbers_are_within_a_share_of_the_answer(answer: str, target: str, right: bool) -> None:
    assert cambrian_mathvista(answer, target) is right
    scorer = MathVistaScorer(variant="cambrian")
    asked = sample((target,), answer_type="float", precision=1)
    assert scorer.score(asked, answer) == right
    assert scorer.question(asked, "nothing that rules can read") is None  # no judge


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ("The answer is 12.", "12", True), ("12.5", "12", True), ("11.4", "12", False), ("It is 12", "12", False),
        ("Paris", "paris", True), ("in Paris", "paris", False), ("12", ("12", "12.0"), False),
    ],
)  # fmt: skip
def test_mmmu_open_answers(answer: str, target: str | tuple[str, ...], right: bool) -> None:
    assert mmmu_match(mmmu_parse(answer, None, variant="cambrian"), target, variant="cambrian") is right
    targets = (target,) if isinstance(target, str) else target
    assert MmmuScorer(variant="cambrian").score(sample(targets, options=None), answer) == right


def test_mmmu_choices() -> None:
    scorer = MmmuScorer(variant="cambrian")
    asked = sample(("C",), options=OPTIONS)
    assert [scorer.score(asked, answer) for answer in ("C", "c) two dogs", "two dogs", "cats")] == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("benchmark", "kind", "variant"),
    [
        ("chartqa", "relaxed", "cambrian"), ("mathvista", "mathvista", "cambrian"), ("mmmu", "mmmu", "cambrian"),
        ("scienceqa", "choice", "cambrian_scienceqa"), ("mmvp", "mmvp", "cambrian_mmvp"),
        ("mme", "mme", "cambrian_mme"),
    ],
)  # fmt: skip
def test_the_prompt_brings_the_rule(benchmark: str, kind: str, variant: str) -> None:
    scorer = BenchmarkConfig.parse({"kind": benchmark, "prompt": "cambrian"}).scorer
    assert (scorer.kind, scorer.variant) == (kind, variant)  # type: ignore[attr-defined]
