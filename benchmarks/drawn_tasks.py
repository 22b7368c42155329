"""What the drawn tasks are like: distinct questions, answers, the best blind guess, drawing speed. Prints JSON.

python benchmarks/drawn_tasks.py [--pictures 1000] [--sheet FOLDER]

The blind guess knows the question and not the image: the most frequent answer of each question string in train (of
its variant, for a string that train never asked), applied to test. ``--sheet`` writes contact sheets to look at.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ommatidia.core.types import Sample
from ommatidia.data.easy_vqa import EasyVQA
from ommatidia.data.synthetic.drawn import DrawnConfig

SCALE = 2
COLUMNS, ROWS = 6, 4


def samples_of(config: Any) -> list[Sample]:
    source = config.open()
    return [source[index] for index in range(len(source))]


def blind(train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, float]:
    """Accuracy in % of the majority answer: overall and by variant."""
    by_question: dict[str, Counter[str]] = defaultdict(Counter)
    by_variant: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in train:
        by_question[sample.question][sample.answer] += 1
        by_variant[sample.meta["variant"]][sample.answer] += 1
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for sample in test:
        variant = sample.meta["variant"]
        seen = by_question.get(sample.question) or by_variant[variant]
        for key in ("all", variant):
            asked[key] += 1
            right[key] += seen.most_common(1)[0][0] == sample.answer
    return {key: round(100 * right[key] / asked[key], 1) for key in asked}


def measure(config: Any, pictures: int) -> dict[str, Any]:
    train = samples_of(config(split="train", pictures=4 * pictures))
    test = samples_of(config(split="test", pictures=pictures))
    distinct = {p.digest: p for s in test for p in s.images}
    begin = time.perf_counter()
    for picture in list(distinct.values())[:300]:
        picture.open()
    seconds = time.perf_counter() - begin
    return {
        "train": len(train),
        "test": len(test),
        "questions": len({s.question for s in train}),
        "answers": len({s.answer for s in train}),
        "words": len({w for s in train for w in s.question.lower().split()}),
        "pictures_shared_with_train": len({p.digest for s in train for p in s.images} & distinct.keys()),
        "images_per_s": round(min(300, len(distinct)) / seconds) if distinct else None,
        "blind": blind(train, test),
    }


def sheet(config: Any, path: Path, size: int) -> None:
    """The first images of a split with one question and answer each."""
    source = config.open()
    page = Image.new("RGB", (COLUMNS * (size * SCALE + 8), ROWS * (size * SCALE + 30)), (255, 255, 255))
    pen = ImageDraw.Draw(page)
    for at in range(COLUMNS * ROWS):
        sample = source[at * config.per_picture]
        x, y = at % COLUMNS * (size * SCALE + 8), at // COLUMNS * (size * SCALE + 30)
        picture = sample.images[0].open().resize((size * SCALE, size * SCALE), Image.Resampling.NEAREST)
        page.paste(picture, (x, y))
        pen.text((x, y + size * SCALE), f"{sample.question}\n{sample.answer}", fill=(0, 0, 0))
    page.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    kinds = {kind: c for kind, c in DrawnConfig.kinds().items() if issubclass(c, DrawnConfig)}
    result = {kind: measure(config, given.pictures) for kind, config in sorted(kinds.items())}
    result["easy_vqa"] = measure(EasyVQA, 1000)
    print(json.dumps(result, indent=1))
    if given.sheet:
        given.sheet.mkdir(parents=True, exist_ok=True)
        for kind, config in kinds.items():
            for split in ("train", "test"):
                for size in (64, 128):
                    name = f"{kind}-{split}-{size}.png"
                    sheet(config(split=split, size=size, pictures=COLUMNS * ROWS), given.sheet / name, size)


if __name__ == "__main__":
    main()
