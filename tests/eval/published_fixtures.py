"""Tiny made-up copies of the published benchmarks, each in exactly its published layout: drawn images, own words."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

Row = dict[str, Any]


def picture(number: int) -> Row:
    """A drawn image as the hub stores it."""
    image = Image.new("RGB", (24, 16), (40 * number % 256, 90, 200))
    ImageDraw.Draw(image).rectangle((number % 8, 2, number % 8 + 8, 12), fill=(255, 220, 0))
    data = io.BytesIO()
    image.save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


def pope() -> list[Row]:
    return [
        {
            "id": str(n), "question_id": str(n % 4), "question": f"Is there a {thing} in the image?", "answer": answer,
            "image_source": f"made_up_{n % 4 // 2}", "image": picture(n % 4 // 2), "category": category,
        }
        for n, (thing, answer, category) in enumerate(
            (thing, answer, category)
            for category in ("adversarial", "popular", "random")
            for thing, answer in (("box", "yes"), ("dog", "no"), ("square", "yes"), ("car", "no"))
        )
    ]  # fmt: skip


def mme() -> list[Row]:
    asked = (("existence", "a box"), ("existence", "a square"), ("OCR", "a word"), ("code_reasoning", "a loop"))
    return [
        {
            "question_id": f"{category}/{n}.png", "image": picture(n), "answer": answer, "category": category,
            "question": f"Is there {what if answer == 'Yes' else 'a whale'} here? Please answer yes or no.",
        }
        for n, (category, what) in enumerate(asked)
        for answer in ("Yes", "No")
    ]  # fmt: skip


def vqav2() -> list[Row]:
    people = ["yellow"] * 7 + ["gold"] * 3
    return [
        {
            "question_type": "what color", "multiple_choice_answer": "yellow", "answer_type": "other",
            "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": k + 1} for k, a in enumerate(people)],
            "image_id": n // 2, "question_id": 10 + n, "question": "What color is the box?", "image": picture(n // 2),
        }
        for n in range(4)
    ]  # fmt: skip


def textvqa() -> list[Row]:
    return [
        {
            "image_id": f"i{n}", "question_id": n, "question": "What does the Sign in NYC say?",
            "question_tokens": [], "image": picture(n), "answers": ["stop"] * 9 + ["halt"],
            "ocr_tokens": ["STOP", "4U"],
        }
        for n in range(3)
    ]  # fmt: skip


def vizwiz() -> list[Row]:
    return [
        {
            "question_id": f"VizWiz_val_{n:08d}.jpg", "image": picture(n), "question": "Which can is it?",
            "answers": ["soup"] * 10, "category": "other",
        }
        for n in range(2)
    ]  # fmt: skip


def docvqa() -> list[Row]:
    return [
        {
            "questionId": str(n), "question": "What is the date?", "question_types": ["handwritten"],
            "image": picture(n), "docId": n, "ucsf_document_id": "x", "answers": ["May 5", "5 May"],
            "data_split": "val",
        }
        for n in range(2)
    ]  # fmt: skip


def infovqa() -> list[Row]:
    return [
        {"questionId": str(n), "question": "How many?", "answers": ["12"], "answer_type": ["span"], "image": picture(n)}
        for n in range(2)
    ]  # fmt: skip


def chartqa() -> list[Row]:
    kinds = ("human_test", "augmented_test")
    return [
        {"type": kind, "question": "What is the value?", "answer": "40", "image": picture(n)}
        for n, kind in enumerate(kinds)
    ]


def ocrbench() -> list[Row]:
    return [
        {
            "dataset": "IIIT5K", "question": "what is written in the image?", "answer": ["CENTRE"],
            "question_type": "Regular Text Recognition", "image": picture(0),
        },
        {
            "dataset": "HME100k", "question": "Write the expression.", "answer": ["x^{2}"],
            "question_type": "Handwritten Mathematical Expression Recognition", "image": picture(1),
        },
    ]  # fmt: skip


def ai2d() -> list[Row]:
    return [
        {"question": "Which part?", "options": ["root", "leaf", "stem", "bud"], "answer": str(n), "image": picture(n)}
        for n in range(4)
    ]


def scienceqa() -> list[Row]:
    return [
        {
            "image": picture(n), "question": "Which is solid?", "choices": ["rock", "water"], "answer": n % 2,
            "hint": "Look closely." if n else "", "task": "closed choice", "grade": "grade2",
            "subject": "natural science",
        }
        for n in range(2)
    ]  # fmt: skip


def seed() -> list[Row]:
    common = {"choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": "four", "segment": None}
    return [
        {**common, "answer": "B", "data_id": str(n), "data_type": kind, "question": "How many?", "question_id": str(n),
         "question_type_id": 5, "image": [picture(n)] * (1 if kind == "image" else 2)}
        for n, kind in enumerate(("image", "video", "image"))
    ]  # fmt: skip


def mmbench() -> list[Row]:
    turned = [("red", "blue", "nan", "A"), ("blue", "red", "nan", "B")]
    return [
        {
            "index": base + turn * 1_000_000, "question": "Which colour?",
            "hint": "It is bright." if base == 7 else "nan",
            "answer": target, "A": a, "B": b, "C": c, "D": "nan", "category": "colour", "image": picture(base),
            "source": "made up", "L2-category": "CP", "comment": "nan", "split": "dev",
        }
        for base in (7, 8)
        for turn, (a, b, c, target) in enumerate(turned)
    ]  # fmt: skip


def mmmu() -> list[Row]:
    common = {f"image_{n}": None for n in range(2, 8)} | {"explanation": "", "topic_difficulty": "Easy"}
    choice = {"options": "['a circle', \"the painter's house\", '<image 2>']", "question_type": "multiple-choice"}
    return [
        {**common, **choice, "id": "validation_Art_1", "question": "<image 1> What is it?", "image_1": picture(1),
         "image_2": picture(2), "answer": "B"},
        {**common, "id": "validation_Math_2", "question": "Find x in <image 1>.", "options": "[]",
         "image_1": picture(3),
         "question_type": "open", "answer": "['12', '12.0']"},
    ]  # fmt: skip


def mathvista() -> list[Row]:
    common = {
        "image": "images/1.jpg",
        "unit": None,
        "precision": None,
        "choices": None,
        "metadata": {"task": "geometry"},
    }
    return [
        {**common, "pid": "1", "decoded_image": picture(1), "question": "Which?", "question_type": "multi_choice",
         "answer_type": "text", "choices": ["3/11", "8/11"], "answer": "8/11", "query": "Hint: x\nQuestion: Which?"},
        {**common, "pid": "2", "decoded_image": picture(2), "question": "How far?", "question_type": "free_form",
         "unit": "m", "answer_type": "float", "precision": 1.0, "answer": "1.2", "query": "Hint: y\nHow far?"},
        {**common, "pid": "3", "decoded_image": picture(3), "question": "How many?", "question_type": "free_form",
         "answer_type": "integer", "answer": "3", "query": "Hint: z\nQuestion: How many?"},
    ]  # fmt: skip


def mmvp() -> list[Row]:
    return [
        {
            "Index": n + 1, "Question": "Is the door open or closed?", "Options": "(a) Open (b) Closed",
            "Correct Answer": "(a)" if n % 2 else "(b)", "image": picture(n),
        }
        for n in range(4)
    ]  # fmt: skip


def realworldqa() -> list[Row]:
    ask = "Please answer directly with only the letter of the correct option and nothing else."
    return [
        {"image": picture(1), "question": f"Which way?\n\nA. Left\nB. Right\n{ask}", "answer": "B"},
        {"image": picture(2), "question": "How many cars? Please answer directly with a number.", "answer": "3"},
    ]


def cv_bench_2d() -> list[Row]:
    return [
        {
            "idx": n, "type": "2D", "task": "Count", "image": picture(n), "question": "How many boxs are in the image?",
            "choices": ["0", "1", "2", "3"], "answer": "(B)", "filename": f"img/2D/count/{n}.png", "source": source,
            "prompt": "How many boxs are in the image? Select from the following choices.\n(A) 0\n(B) 1\n(C) 2\n(D) 3",
        }
        for n, source in enumerate(("ADE20K", "COCO", "COCO"))
    ]  # fmt: skip


def cv_bench_3d() -> list[Row]:
    return [{**row, "type": "3D", "task": "Depth", "source": "Omni3D"} for row in cv_bench_2d()[:2]]


def hallusion() -> list[Row]:
    return [
        {
            "category": "VS", "subcategory": "chart", "visual_input": "1", "set_id": "0", "figure_id": str(figure),
            "sample_note": "", "question_id": "0", "question": "Is the bar yellow?", "gt_answer_details": "",
            "gt_answer": str(1 - figure), "filename": "x.png", "image": picture(figure),
        }
        for figure in range(2)
    ]  # fmt: skip


def coco_captions() -> list[Row]:
    words = ("a yellow box on a blue wall", "two dogs run over snow", "a red bus in town")
    return [
        {"question_id": f"{n:012d}.jpg", "image": picture(n), "question": "Describe.",
         "answer": [text, f"{text} today"],
         "id": n, "license": 1, "file_name": f"{n:012d}.jpg"}
        for n, text in enumerate(words)
    ]  # fmt: skip


def nocaps() -> list[Row]:
    return [
        {"image": picture(n), "image_id": n, "annotations_captions": row["answer"]}
        for n, row in enumerate(coco_captions())
    ]


def flickr30k() -> list[Row]:
    return [
        {"image": picture(n), "caption": row["answer"], "sentids": [], "img_id": str(n), "filename": f"{n}.jpg"}
        for n, row in enumerate(coco_captions())
    ]


def vet() -> list[Row]:
    return [
        {
            "question_id": f"v1_{n}", "image": picture(n), "question": "What is x?", "image_source": "made up",
            "answer": "x=-1<AND>x=-5" if n else "14", "capability": "ocr,math" if n else "ocr",
        }
        for n in range(3)
    ]  # fmt: skip


def llava_bench() -> list[Row]:
    return [
        {
            "question_id": n, "image": picture(n // 2), "question": f"What is shown, part {n}?",
            "image_id": f"{n // 2}.jpg", "caption": "A yellow box.", "gpt_answer": "A box that is yellow.",
            "gpt_answer_id": "x", "category": ("conv", "detail", "complex")[n],
        }
        for n in range(3)
    ]  # fmt: skip


_ONE = "-00000-of-00001.parquet"
FILES: Mapping[str, tuple[str, Callable[[], list[Row]]]] = {
    "pope": (f"POPE/data/test{_ONE}", pope),
    "mme": (f"MME/data/test{_ONE}", mme),
    "gqa": (f"GQA/testdev_balanced_instructions/testdev{_ONE}", lambda: [
        {"id": f"2000{n}", "imageId": f"n{n // 2}", "question": "Is it to the left?", "answer": "yes"}
        for n in range(4)
    ]),
    "vqav2": (f"VQAv2/data/validation{_ONE}", vqav2),
    "textvqa": (f"textvqa/data/validation{_ONE}", textvqa),
    "vizwiz": (f"VizWiz-VQA/data/val{_ONE}", vizwiz),
    "docvqa": (f"DocVQA/DocVQA/validation{_ONE}", docvqa),
    "infovqa": (f"DocVQA/InfographicVQA/validation{_ONE}", infovqa),
    "chartqa": (f"ChartQA/data/test{_ONE}", chartqa),
    "ocrbench": (f"OCRBench/data/test{_ONE}", ocrbench),
    "ai2d": (f"ai2d/data/test{_ONE}", ai2d),
    "scienceqa": (f"ScienceQA/ScienceQA-IMG/test{_ONE}", scienceqa),
    "seed": (f"SEED-Bench/data/test{_ONE}", seed),
    "mmbench": (f"MMBench/en/dev{_ONE}", mmbench),
    "mmbench_plain": (f"MMBench/en/dev{_ONE}", mmbench),
    "mmmu": (f"MMMU/data/validation{_ONE}", mmmu),
    "mathvista": ("MathVista/data/testmini-00000-of-00001-725687bf7a18d64b.parquet", mathvista),
    "mmvp": (f"MMVP/data/train{_ONE}", mmvp),
    "realworldqa": (f"RealWorldQA/data/test{_ONE}", realworldqa),
    "cv_bench_2d": ("CV-Bench/test_2d.parquet", cv_bench_2d),
    "cv_bench_3d": ("CV-Bench/test_3d.parquet", cv_bench_3d),
    "mm_vet": (f"MMVet/data/test{_ONE}", vet),
    "llava_bench": (f"llava-bench-in-the-wild/data/train{_ONE}", llava_bench),
    "hallusion": (f"HallusionBench/data/image{_ONE}", hallusion),
    "coco_captions": (f"COCO-Caption2017/data/val{_ONE}", coco_captions),
    "nocaps": (f"NoCaps/data/validation{_ONE}", nocaps),
    "flickr30k": (f"flickr30k/data/test{_ONE}", flickr30k),
}  # fmt: skip
"""File of each benchmark below the data folder, and its rows; GQA's images are a table of their own."""

KEPT = {"seed": 2, "mmbench_plain": 2}
"""Rows that are asked, where not all are."""


def write(name: str, data: Path) -> int:
    """Write the made-up copy of one benchmark; returns how many rows it asks."""
    path, rows = FILES[name]
    _write(data / path, rows())
    if name == "gqa":
        images = [{"id": f"n{n}", "image": picture(n)} for n in range(2)]
        _write(data / f"GQA/testdev_balanced_images/testdev{_ONE}", images)
    return KEPT.get(name, len(rows()))


def _write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
