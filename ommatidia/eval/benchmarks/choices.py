"""Multiple choice: AI2D, ScienceQA-IMG, SEED-Bench and RealWorldQA."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import LETTER, Facts, Place, Published, Versions, lettered_lines
from ommatidia.eval.benchmarks.releases import choices, diagrams
from ommatidia.eval.benchmarks.rows import Rows

_ONLY_LETTER = "\nPlease answer directly with only the letter of the correct option and nothing else."
_CAMBRIAN = {"kind": "choice", "variant": "cambrian"}


class Ai2d(Published):
    """AI2D (Kembhavi et al. 2016): questions on school diagrams."""

    kind: Literal["ai2d"] = "ai2d"
    group: Group = "knowledge"

    facts = Facts(
        title="AI2D",
        repository="lmms-lab/ai2d",
        splits={"test": 3088},
        metric="accuracy of the letter",
        traps="copies with and without masked labels differ by points; the option's text does not count; from "
        "the first release the masks are drawn here",
    )
    release = diagrams.AI2D
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": {"kind": "choice", "variant": "ai2d"}},
        "cambrian": {"max_new_tokens": 512, "scorer": _CAMBRIAN},
    }
    columns = ("image", "question", "options", "answer")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        text = f"{row['question']}\n{lettered_lines(row['options'])}{LETTER}"
        target = ascii_uppercase[int(row["answer"])]
        return at.sample(at.position, text, [row["image"]], [target], options=list(row["options"]))


class ScienceQa(Published):
    """ScienceQA (Lu et al. 2022), the questions with an image."""

    kind: Literal["scienceqa"] = "scienceqa"
    group: Group = "knowledge"

    facts = Facts(
        title="ScienceQA-IMG",
        repository="lmms-lab/ScienceQA",
        config="ScienceQA-IMG",
        splits={"test": 2017, "validation": 2097},
        metric="accuracy of the letter",
        traps="answers such as (A) or A) are wrong for lmms-eval; needs the picture least of all",
    )
    release = choices.SCIENCEQA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": {"kind": "choice", "variant": "scienceqa"}},
        "cambrian": {"max_new_tokens": 512, "scorer": {"kind": "choice", "variant": "cambrian_scienceqa"}},
    }
    columns = ("image", "question", "choices", "answer", "hint")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        hint = row["hint"] or ""
        if self.prompt == "cambrian":
            context, end = f"{hint} " if hint else "", _ONLY_LETTER
        else:
            context, end = f"Context: {hint}\n" if hint else "", LETTER
        text = f"{context}{row['question']}\n{lettered_lines(row['choices'])}{end}"
        target = ascii_uppercase[int(row["answer"])]
        images = [] if row["image"] is None else [row["image"]]
        return at.sample(at.position, text, images, [target], options=list(row["choices"]), task=row.get("subject"))


class SeedBench(Published):
    """SEED-Bench (Li et al. 2023), the questions on single images."""

    kind: Literal["seed"] = "seed"
    group: Group = "general"

    facts = Facts(
        title="SEED-Bench image",
        repository="lmms-lab/SEED-Bench",
        splits={"test": 14233},
        metric="accuracy of the letter",
        traps="the first character counts, whatever follows; the split holds 3,757 video questions, left out here",
    )
    release = choices.SEED
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": {"kind": "choice", "variant": "first"}},
        "cambrian": {"max_new_tokens": 512, "scorer": _CAMBRIAN},
    }
    columns = (
        "image",
        "question",
        "choice_a",
        "choice_b",
        "choice_c",
        "choice_d",
        "answer",
        "data_type",
        "question_id",
    )

    def kept(self, rows: Rows) -> list[int]:
        return [n for n, kind in enumerate(rows.column("data_type")) if kind == "image"]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        options = [str(row[f"choice_{letter}"]) for letter in "abcd"]
        middle = " Options:\n" if self.prompt == "cambrian" else "\n"
        text = f"{row['question']}{middle}{lettered_lines(options)}{LETTER}"
        images = row["image"] if isinstance(row["image"], list) else [row["image"]]
        task = row.get("question_type_id")
        return at.sample(row["question_id"], text, images, [row["answer"]], options=options, task=task)


class RealWorldQa(Published):
    """RealWorldQA (xAI 2024): photographs, many from cars."""

    kind: Literal["realworldqa"] = "realworldqa"
    group: Group = "vision_centric"

    facts = Facts(
        title="RealWorldQA",
        repository="lmms-lab/RealWorldQA",
        splits={"test": 765},
        metric="accuracy of the letter or the short answer",
        traps="the data's own question says how to answer; nothing is added",
    )
    release = diagrams.REALWORLDQA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": "realworldqa"},
        "cambrian": {"max_new_tokens": 512, "scorer": {"kind": "realworldqa", "variant": "cambrian"}},
    }
    columns = ("image", "question", "answer")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        return at.sample(at.position, str(row["question"]).strip(), [row["image"]], [row["answer"]])
