"""Releases of multiple choice: GQA's short answers beside them, SEED-Bench, ScienceQA, MMBench and MMVP."""

from __future__ import annotations

import base64
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from ommatidia.eval.benchmarks.releases.release import Release, Row, inside, read_json


def _gqa(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "id": name, "image": f"images/{each['imageId']}.jpg",
            **{column: each[column] for column in ("imageId", "question", "answer")},
        }
        for name, each in read_json(files[0]).items()
    ]  # fmt: skip


GQA = Release({"testdev": ("testdev_balanced_questions.json|questions1.2/testdev_balanced_questions.json",)}, _gqa)


def _seed(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    asked = ("question", "question_id", "question_type_id", "answer", "data_type", *(f"choice_{c}" for c in "abcd"))
    return [
        {"image": f"SEED-Bench-image/{each['data_id']}", **{column: each[column] for column in asked}}
        for each in read_json(files[0])["questions"]
    ]


SEED = Release({"test": ("SEED-Bench.json",)}, _seed)


def _scienceqa(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    problems, splits = read_json(files[0]), read_json(files[1])
    name = "val" if split == "validation" else split
    folder = f"images/{name}" if (root / "images").is_dir() else name
    return [
        {
            "image": f"{folder}/{number}/{problems[number]['image']}",
            **{column: problems[number][column] for column in ("question", "choices", "answer", "hint", "subject")},
        }
        for number in splits[name]
        if problems[number]["image"]
    ]


SCIENCEQA = Release(dict.fromkeys(("test", "validation", "train"), ("problems.json", "pid_splits.json")), _scienceqa)


def _mmbench(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    """Images are base64 in the table; a short cell is the index of the row that holds the image."""
    csv.field_size_limit(sys.maxsize)
    with files[0].open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    held = {row["index"]: row["image"] for row in table}
    rows = []
    for row in table:
        stored = held[row["image"]] if len(row["image"]) <= 64 and row["image"] in held else row["image"]
        cells: Row = {name: row.get(name) or None for name in ("question", "hint", *"ABCDE", "answer", "category")}
        image = {"bytes": base64.b64decode(stored, validate=True), "path": None}
        rows.append({"index": int(row["index"]), "image": image, **cells, "L2-category": row.get("l2-category")})
    return rows


MMBENCH = Release(
    {
        "dev": ("mmbench_dev_20230712.tsv|mmbench_dev_en_20231003.tsv|MMBench_DEV_EN.tsv",),
        "test": ("mmbench_test_20230712.tsv|mmbench_test_en_20231003.tsv|MMBench_TEST_EN.tsv",),
    },
    _mmbench,
)


def _mmvp(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    with files[0].open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    folder = inside(root, files[0])
    asked = ("Question", "Options", "Correct Answer")
    return [
        {
            "Index": int(row["Index"]), "image": f"{folder}/MMVP Images/{row['Index']}.jpg",
            **{column: row[column] for column in asked},
        }
        for row in table
    ]  # fmt: skip


MMVP = Release({"train": ("Questions.csv",)}, _mmvp)
