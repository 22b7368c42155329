"""Releases on the images of COCO, and captions in COCO's form: VQAv2, POPE, COCO captions, NoCaps, Flickr30k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ommatidia.eval.benchmarks.releases.release import Release, Row, read_json
from ommatidia.eval.benchmarks.rows import read_lines

_PICTURES = {"train": "train2014", "validation": "val2014", "testdev": "test2015", "test": "test2015"}


def _vqav2(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    answered = {}
    if len(files) > 1:
        answered = {each["question_id"]: each for each in read_json(files[1])["annotations"]}
    folder, rows = _PICTURES[split], []
    for asked in read_json(files[0])["questions"]:
        picture = f"{folder}/COCO_{folder}_{asked['image_id']:012d}.jpg"
        row = {"image": picture, **{name: asked[name] for name in ("question", "question_id", "image_id")}}
        if answered:
            people = answered[asked["question_id"]]
            row |= {"answers": people["answers"], "answer_type": people["answer_type"]}
        rows.append(row)
    return rows


_QUESTIONS, _ANSWERS = "v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"
VQAV2 = Release(
    {
        "train": (_QUESTIONS.format("train2014"), _ANSWERS.format("train2014")),
        "validation": (_QUESTIONS.format("val2014"), _ANSWERS.format("val2014")),
        "testdev": (_QUESTIONS.format("test-dev2015"),),
        "test": (_QUESTIONS.format("test2015"),),
    },
    _vqav2,
)


def _pope(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "image": f"val2014/{each['image']}", "question": each["text"], "answer": each["label"],
            "question_id": each["question_id"], "image_source": Path(each["image"]).stem,
            "category": file.stem.removeprefix("coco_pope_"),
        }
        for file in files
        for each in read_lines(file)
    ]  # fmt: skip


POPE = Release(
    {
        "test": tuple(
            f"coco_pope_{kind}.json|coco/coco_pope_{kind}.json" for kind in ("adversarial", "popular", "random")
        )
    },
    _pope,
)


def _captioned(data: Mapping[str, list[Row]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for each in data["annotations"]:
        found.setdefault(each["image_id"], []).append(each["caption"])
    return found


def _coco(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    data = read_json(files[0])
    captions = _captioned(data)
    return [
        {
            "image": f"{split}2017/{picture['file_name']}",
            "question_id": picture["file_name"],
            "answer": captions[picture["id"]],
        }
        for picture in data["images"]
    ]


COCO_CAPTIONS = Release(
    {split: (f"annotations/captions_{split}2017.json|captions_{split}2017.json",) for split in ("val", "train")}, _coco
)


def _nocaps(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    data = read_json(files[0])
    captions = _captioned(data) if "annotations" in data else {}
    return [
        {
            "image": f"images/{picture['file_name']}",
            "image_id": picture["id"],
            "annotations_captions": captions.get(picture["id"], []),
        }
        for picture in data["images"]
    ]


NOCAPS = Release({"validation": ("nocaps_val_4500_captions.json",), "test": ("nocaps_test_image_info.json",)}, _nocaps)


def _flickr30k(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "image": f"flickr30k-images/{picture['filename']}",
            "caption": [sentence["raw"] for sentence in picture["sentences"]],
            "img_id": picture["imgid"],
        }
        for picture in read_json(files[0])["images"]
        if picture["split"] == split
    ]


FLICKR30K = Release(dict.fromkeys(("test", "train"), ("dataset_flickr30k.json",)), _flickr30k, sizes={"test": 1000})
"""With Karpathy's split, as papers report it."""
