"""Documents, charts and text in images: DocVQA, InfographicVQA, ChartQA and OCRBench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import SHORT, Answer, Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import text

_BRIEF = "\nGive the short answer directly."
_ANLS_TRAPS = (
    "a similarity of exactly 0.5 counts in toolkits and not in the paper; a final period costs; server for test"
)


def _by_question(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """What the server of the Robust Reading Competition wants."""
    return [{"questionId": int(answer.sample.id), "answer": answer.text} for answer in answers]


class DocVqa(Published):
    """DocVQA (Mathew et al. 2021): questions on scanned documents."""

    kind: Literal["docvqa"] = "docvqa"
    group: Group = "ocr_chart"

    facts = Facts(
        title="DocVQA",
        repository="lmms-lab/DocVQA",
        config="DocVQA",
        splits={"validation": 5349, "test": 5188},
        metric="ANLS",
        traps=_ANLS_TRAPS,
    )
    release = text.DOCVQA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 32, "scorer": "anls"},
        "cambrian": {"max_new_tokens": 128, "scorer": "anls"},
    }
    columns = ("image", "question", "questionId")
    served = frozenset({"test"})

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        return _by_question(answers)

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        text = str(row["question"]) + (_BRIEF if self.prompt == "cambrian" else SHORT)
        return at.sample(row["questionId"], text, [row["image"]], row.get("answers") or [], cluster=row.get("docId"))


class InfoVqa(Published):
    """InfographicVQA (Mathew et al. 2022): questions on infographics."""

    kind: Literal["infovqa"] = "infovqa"
    group: Group = "ocr_chart"

    facts = Facts(
        title="InfographicVQA",
        repository="lmms-lab/DocVQA",
        config="InfographicVQA",
        splits={"validation": 2801, "test": 3288},
        metric="ANLS",
        traps=_ANLS_TRAPS,
    )
    release = text.INFOVQA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 32, "scorer": "anls"},
        "cambrian": {"max_new_tokens": 128, "scorer": "anls"},
    }
    columns = ("image", "question", "questionId")
    served = frozenset({"test"})

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        return _by_question(answers)

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        text = str(row["question"]) + SHORT
        return at.sample(row["questionId"], text, [row["image"]], row.get("answers") or [])


class ChartQa(Published):
    """ChartQA (Masry et al. 2022): half of the questions by people, half made from captions."""

    kind: Literal["chartqa"] = "chartqa"
    group: Group = "ocr_chart"

    facts = Facts(
        title="ChartQA",
        repository="lmms-lab/ChartQA",
        splits={"test": 2500},
        metric="relaxed accuracy (numbers within 5 %)",
        traps='a final period, "977,633" or "$5" is no number and wrong; years may be off by a hundred',
    )
    release = text.CHARTQA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": "relaxed"},
        "cambrian": {"max_new_tokens": 128, "scorer": {"kind": "relaxed", "variant": "cambrian"}},
    }
    columns = ("image", "question", "answer", "type")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        single = "single number or phrase" if self.prompt == "cambrian" else "single word"
        how = "Answer the question using a" if self.prompt == "cambrian" else "Answer the question with a"
        text = f"{row['question']}\n{how} {single}."
        task = "human" if row["type"] == "human_test" else "augmented"
        return at.sample(at.position, text, [row["image"]], [row["answer"]], task=task)


class OcrBench(Published):
    """OCRBench (Liu et al. 2023): a thousand questions on text in images."""

    kind: Literal["ocrbench"] = "ocrbench"
    group: Group = "ocr_chart"

    facts = Facts(
        title="OCRBench",
        repository="echo840/OCRBench",
        splits={"test": 1000},
        metric="substring match; hits of 1000",
        traps="the number is hits, of 1000: a limited run is far too low in other toolkits; formulas compare with case",
    )
    release = text.OCRBENCH
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 128, "scorer": {"kind": "ocrbench", "variant": "folded"}},
        "cambrian": {"max_new_tokens": 512, "scorer": "ocrbench"},
        "official": {"max_new_tokens": 128, "scorer": "ocrbench"},
    }
    columns = ("image", "question", "answer", "dataset", "question_type")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
        text = str(row["question"]).strip() + (_BRIEF if self.prompt == "cambrian" else "")
        return at.sample(at.position, text, [row["image"]], answers, task=row["question_type"], dataset=row["dataset"])
