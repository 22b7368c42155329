"""Releases on text in images: TextVQA, VizWiz, DocVQA, InfographicVQA, ChartQA and OCRBench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ommatidia.eval.benchmarks.releases.release import Release, Row, inside, read_json


def _textvqa(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    tokens = {each["image_id"]: each["ocr_tokens"] for each in read_json(files[1])["data"]}
    # Train and validation share their images.
    folder = "test_images" if split == "test" else "train_images"
    return [
        {
            "image": f"{folder}/{each['image_id']}.jpg", "question": each["question"], "image_id": each["image_id"],
            "question_id": each["question_id"], "answers": each.get("answers") or [],
            "ocr_tokens": tokens[each["image_id"]],
        }
        for each in read_json(files[0])["data"]
    ]  # fmt: skip


TEXTVQA = Release(
    {
        split: (f"TextVQA_0.5.1_{name}.json", f"TextVQA_Rosetta_OCR_v0.2_{name}.json")
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
    },
    _textvqa,
)


def _vizwiz(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "image": f"{split}/{each['image']}", "question": each["question"], "question_id": each["image"],
            "answers": [one["answer"] for one in each.get("answers") or []], "category": each.get("answer_type"),
        }
        for each in read_json(files[0])
    ]  # fmt: skip


VIZWIZ = Release({split: (f"Annotations/{split}.json|{split}.json",) for split in ("train", "val", "test")}, _vizwiz)


def _docvqa(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    """Images beside the questions, as ``documents/...``, or all together in the folder of the newer archive."""
    together = root / "spdocvqa_images"
    rows = []
    for each in read_json(files[0])["data"]:
        beside = f"{inside(root, files[0])}/{each['image']}"
        rows.append(
            {
                "image": f"{together.name}/{Path(each['image']).name}" if together.is_dir() else beside,
                "question": each["question"], "questionId": each["questionId"],
                "answers": each.get("answers") or [], "docId": each.get("docId"),
            }
        )  # fmt: skip
    return rows


DOCVQA = Release(
    {
        "validation": ("spdocvqa_qas/val_v1.0_withQT.json|val_v1.0_withQT.json|val/val_v1.0.json|val_v1.0.json",),
        "train": ("spdocvqa_qas/train_v1.0_withQT.json|train_v1.0_withQT.json|train/train_v1.0.json|train_v1.0.json",),
        "test": ("spdocvqa_qas/test_v1.0.json|test/test_v1.0.json|test_v1.0.json",),
    },
    _docvqa,
)


def _infovqa(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "image": f"infographicsvqa_images/{each['image_local_name']}", "question": each["question"],
            "questionId": each["questionId"], "answers": each.get("answers") or [],
        }
        for each in read_json(files[0])["data"]
    ]  # fmt: skip


def _infographics(name: str) -> tuple[str]:
    return (f"infographicsvqa_qas/{name}|{name}",)


INFOVQA = Release(
    {
        "validation": _infographics("infographicsVQA_val_v1.0_withQT.json"),
        "train": _infographics("infographicsVQA_train_v1.0.json"),
        "test": _infographics("infographicsVQA_test_v1.0.json"),
    },
    _infovqa,
)


def _chartqa(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "image": f"{inside(root, file)}/png/{each['imgname']}", "question": each["query"],
            "answer": each["label"], "type": f"{file.stem.rpartition('_')[2]}_test",
        }
        for file in files
        for each in read_json(file)
    ]  # fmt: skip


CHARTQA = Release(
    {
        split: tuple(f"{split}/{split}_{kind}.json" for kind in ("human", "augmented"))
        for split in ("test", "val", "train")
    },
    _chartqa,
)


def _ocrbench(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "image": f"OCRBench_Images/{each['image_path']}", "question": each["question"],
            "answer": each["answers"] if isinstance(each["answers"], list) else [each["answers"]],
            "dataset": each["dataset_name"], "question_type": each["type"],
        }
        for each in read_json(files[0])
    ]  # fmt: skip


OCRBENCH = Release({"test": ("OCRBench.json|OCRBench/OCRBench.json",)}, _ocrbench)
