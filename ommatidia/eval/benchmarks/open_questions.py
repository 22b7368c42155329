"""Short open answers scored by people's votes: VQAv2, TextVQA and VizWiz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import SHORT, Answer, Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import coco, text

_UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."


class VqaV2(Published):
    """VQAv2 (Goyal et al. 2017): ten people's answers a question."""

    kind: Literal["vqav2"] = "vqav2"
    group: Group = "general"

    facts = Facts(
        title="VQAv2",
        repository="lmms-lab/VQAv2",
        splits={"validation": 214354, "testdev": 107394, "test": 447793},
        metric="VQA accuracy (soft vote of ten)",
        traps="test splits are scored by a server; min(k/3, 1) over all ten is not the metric",
    )
    release = coco.VQAV2
    versions: ClassVar[Versions] = {"lmms-eval": {"max_new_tokens": 16, "scorer": {"kind": "vqa", "variant": "vqav2"}}}
    columns = ("image", "question", "question_id")
    served = frozenset({"testdev", "test"})

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        return [{"question_id": int(answer.sample.id), "answer": answer.text} for answer in answers]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        answers = [each["answer"] for each in row.get("answers") or []]
        text = str(row["question"]) + SHORT
        cluster = row.get("image_id")
        return at.sample(
            row["question_id"], text, [row["image"]], answers, task=row.get("answer_type"), cluster=cluster
        )


class TextVqa(Published):
    """TextVQA (Singh et al. 2019), with or without the data set's OCR tokens in the prompt."""

    kind: Literal["textvqa"] = "textvqa"
    group: Group = "ocr_chart"
    ocr: bool = False
    """Whether the prompt lists the OCR tokens that come with the data."""

    facts = Facts(
        title="TextVQA",
        repository="lmms-lab/textvqa",
        splits={"validation": 5000, "test": 5734},
        metric="VQA accuracy (soft vote of ten), TextVQA's normalisation",
        traps="OCR tokens in the prompt are worth about ten points (LLaVA-1.5, Eagle and Cambrian-1: with; newest "
        "lmms-eval: without); capitalize() lower-cases names",
    )
    release = text.TEXTVQA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": {"kind": "vqa", "variant": "textvqa"}},
        "cambrian": {"max_new_tokens": 512, "ocr": True, "scorer": {"kind": "vqa", "variant": "textvqa"}},
    }
    columns = ("image", "question", "question_id", "ocr_tokens")
    served = frozenset({"test"})

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        return [{"question_id": int(answer.sample.id), "answer": answer.text} for answer in answers]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        lmms = self.prompt == "lmms-eval"
        label = "Reference OCR token" if lmms else "Reference OCR tokens"
        hint = f"\n{label}: {', '.join(row['ocr_tokens'])}" if self.ocr else ""
        text = (str(row["question"]).capitalize() if lmms else str(row["question"])) + hint + SHORT
        return at.sample(
            row["question_id"], text, [row["image"]], row.get("answers") or [], cluster=row.get("image_id")
        )


class VizWiz(Published):
    """VizWiz (Gurari et al. 2018): questions of blind people on their own photographs."""

    kind: Literal["vizwiz"] = "vizwiz"
    group: Group = "general"

    facts = Facts(
        title="VizWiz-VQA",
        repository="lmms-lab/VizWiz-VQA",
        splits={"val": 4319, "test": 8000},
        metric="VQA accuracy (soft vote of ten), TextVQA's normalisation",
        traps="the sentence about Unanswerable matters; test is scored by a server",
    )
    release = text.VIZWIZ
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": {"kind": "vqa", "variant": "textvqa"}},
        "cambrian": {"max_new_tokens": 128, "scorer": {"kind": "vqa", "variant": "textvqa"}},
    }
    columns = ("image", "question", "question_id")
    served = frozenset({"test"})

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        names = [answer.sample.id.removesuffix(".jpg") for answer in answers]
        return [{"image": f"{name}.jpg", "answer": answer.text} for name, answer in zip(names, answers)]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        question = str(row["question"])
        text = (question.capitalize() if self.prompt == "lmms-eval" else question) + _UNANSWERABLE + SHORT
        return at.sample(row["question_id"], text, [row["image"]], row.get("answers") or [], task=row.get("category"))
