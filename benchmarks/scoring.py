"""Seconds to score 200,000 VQA answers against ten people's each, and other scorers' answers a second. Prints JSON.

python -m benchmarks.scoring [--answers 200000]

Answers and references are made up: short phrases with articles, number words, contractions and punctuation, every
question with its own.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable

from ommatidia.eval.scoring import anls, choice_letter, cider, gqa_match, mmmu_parse, relaxed_accuracy, vqa_accuracy
from ommatidia.eval.scoring.vqa import normalize_vqa

TARGET_SECONDS = 30.0
OTHERS = 20_000
WORDS = (
    *("the", "a", "red", "blue", "two", "cat's", "dont", "t-shirt", "yes", "no", "3.5", "1,000", "bus.", "left,"),
    *("right?", "man", "woman", "(old)", "street", "10:30", "none"),
)


def phrase(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))) + str(rng.randint(0, 99_999))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def vqa(answers: list[str], people: list[list[str]], variant: str) -> float:
    normalize_vqa.cache_clear()
    return seconds(lambda: [vqa_accuracy(a, p, variant=variant) for a, p in zip(answers, people)])  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=200_000)
    given = parser.parse_args()
    rng = random.Random(0)
    answers = [phrase(rng) for _ in range(given.answers)]
    # Ten people give a handful of distinct answers to a question.
    people = [rng.choices([phrase(rng) for _ in range(4)] + [answer], k=10) for answer in answers]
    some = list(zip(answers[:OTHERS], people[:OTHERS]))
    captions, references = [a for a, _ in some[:2000]], [p[:5] for _, p in some[:2000]]
    others: dict[str, tuple[int, Callable[[], object]]] = {
        "anls": (len(some), lambda: [anls(a, p) for a, p in some]),
        "gqa": (len(some), lambda: [gqa_match(a, p[0]) for a, p in some]),
        "relaxed": (len(some), lambda: [relaxed_accuracy(a, p[0]) for a, p in some]),
        "choice": (len(some), lambda: [choice_letter(a, p[:4]) for a, p in some]),
        "mmmu open": (len(some), lambda: [mmmu_parse(a, None) for a, _ in some]),
        "cider": (len(captions), lambda: cider(captions, references)),
    }
    result = {
        "answers": given.answers,
        "vqav2_s": round(vqa(answers, people, "vqav2"), 2),
        "textvqa_s": round(vqa(answers, people, "textvqa"), 2),
        "target_s": TARGET_SECONDS,
        "answers_per_second": {name: round(count / seconds(work)) for name, (count, work) in others.items()},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
