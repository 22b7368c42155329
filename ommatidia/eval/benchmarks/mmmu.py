"""MMMU: college questions with images in and between the words (Yue et al. 2023)."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import ImagePart, Part, Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import LETTER, SHORT, Answer, Facts, Place, Published, Versions, lettered_lines
from ommatidia.eval.benchmarks.releases import diagrams
from ommatidia.eval.scoring.mmmu import mmmu_parse, subject_of

_TAG = re.compile(r"<image (\d)>")


class Mmmu(Published):
    """MMMU: multiple choice and open questions of thirty subjects."""

    kind: Literal["mmmu"] = "mmmu"
    group: Group = "knowledge"
    interleaved: bool = True
    """Whether images stand where the question names them; otherwise they come first and the tags stay as words."""

    facts = Facts(
        title="MMMU",
        repository="lmms-lab/MMMU",
        splits={"validation": 900, "dev": 150, "test": 10500},
        metric="accuracy over all questions; by subject and domain",
        traps="toolkits differ by four points on the same answers; the official script guesses unread letters, here "
        "they are wrong; lmms-eval before 0.7.3 scores every open question 0; Cambrian-1 sends the first picture alone",
    )
    release = diagrams.MMMU
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 128, "scorer": {"kind": "mmmu", "variant": "lmms_eval"}},
        "cambrian": {"max_new_tokens": 512, "scorer": {"kind": "mmmu", "variant": "cambrian"}},
    }
    columns = ("id", "question", "options", "answer", "question_type", "image_1")
    served = frozenset({"test"})

    def submitted(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """By question the letter, where the official rules read one, and else what was said."""
        return {answer.sample.id: _letter(answer) or answer.text for answer in answers}

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        name = str(row["id"])
        choice = row["question_type"] == "multiple-choice"
        options = _literal(row["options"], name) if choice else None
        lines = f"\n{lettered_lines(options)}" if options is not None else ""
        if self.prompt == "cambrian":
            words = f"{row['question']}{' Options:' if choice else ''}{lines}{LETTER if choice else SHORT}"
            images = [row["image_1"]]
            parts: str | list[Part] = _TAG.sub("", words)
        else:
            words = f"{row['question']}{lines}\n{LETTER if choice else SHORT}"
            numbers = sorted(set(_TAG.findall(words))) or ["1"]
            images = [row[f"image_{number}"] for number in numbers]
            parts = _between(words, numbers) if self.interleaved and _TAG.search(words) else words
        answer = str(row["answer"])
        answers = _literal(answer, name) if answer.startswith("[") else [answer]
        # Test answers are withheld and stand as "?".
        references = [] if answer == "?" else answers
        return at.sample(name, parts, images, references, options=options, task=subject_of(name))


def _letter(answer: Answer) -> str:
    options = answer.sample.meta.get("options")
    return "" if options is None else mmmu_parse(answer.text, options)


def _between(words: str, numbers: list[str]) -> list[Part]:
    """The words with each tag replaced by its image."""
    pieces = _TAG.split(words)
    parts: list[Part] = []
    for place, piece in enumerate(pieces):
        if place % 2:
            parts.append(ImagePart(numbers.index(piece)))
        elif piece:
            parts.append(piece)
    return parts


def _literal(text: object, name: str) -> list[str]:
    """A list that the data holds as text. Raises DataError when it is none."""
    try:
        found = ast.literal_eval(str(text))
    except (ValueError, SyntaxError):
        raise DataError(f"expected a list in {str(text)[:60]!r}", sample=name) from None
    return [str(item) for item in found]
