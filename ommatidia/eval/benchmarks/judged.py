"""Open answers that a language model grades: MM-Vet and LLaVA-Bench (in the wild)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import abilities

_STEPS = "First please perform reasoning, and think step by step to provide best answer to the following question: \n\n"


class MmVet(Published):
    """MM-Vet (Yu et al. 2023): questions that need several capabilities at once."""

    kind: Literal["mm_vet"] = "mm_vet"
    group: Group = "general"

    facts = Facts(
        title="MM-Vet",
        repository="lmms-lab/MMVet",
        splits={"test": 218},
        metric="mean grade of a judge, 0 to 1",
        traps="needs a judge; numbers compare under one judge and one prompt only, and papers average five runs of "
        "GPT-4-0613 (scorer.judge_runs); the reasoning sentence is lmms-eval's, official sends the bare question",
    )
    release = abilities.VET
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 1024, "scorer": "mm_vet"},
        "official": {"max_new_tokens": 1024, "scorer": "mm_vet"},
    }
    columns = ("question_id", "image", "question", "answer", "capability")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        text = (_STEPS if self.prompt == "lmms-eval" else "") + str(row["question"])
        named = row["capability"]
        names = named.split(",") if isinstance(named, str) else named
        return at.sample(
            row["question_id"],
            text,
            [row["image"]],
            [row["answer"]],
            question=str(row["question"]),
            capabilities=tuple(sorted(str(name).strip() for name in names)),
        )


class LlavaBench(Published):
    """LLaVA-Bench in the wild (Liu et al. 2023): 60 questions on 24 images, against stored answers of GPT-4."""

    kind: Literal["llava_bench"] = "llava_bench"
    group: Group = "general"

    facts = Facts(
        title="LLaVA-Bench (in the wild)",
        repository="lmms-lab/llava-bench-in-the-wild",
        splits={"train": 60},
        metric="mean grade over the reference's mean grade, by a judge",
        traps="needs a judge, which sees a description and no picture; judges are retired and numbers with them; other "
        "tools average a failed call in as a tie, here it is missing",
    )
    release = abilities.LLAVA_BENCH
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 4096, "scorer": "llava_bench"},
        "official": {"max_new_tokens": 1024, "scorer": "llava_bench"},
    }
    columns = ("question_id", "image", "question", "caption", "gpt_answer", "category")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        return at.sample(
            row["question_id"],
            str(row["question"]),
            [row["image"]],
            [row["gpt_answer"]],
            caption=row["caption"],
            task=row["category"],
        )
