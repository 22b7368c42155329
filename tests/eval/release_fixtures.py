"""The made-up copies of ``published_fixtures`` once more, in the files in which each benchmark was first released."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import published_fixtures as hub
from published_fixtures import Row


def _json(file: Path, data: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data), encoding="utf-8")


def _lines(file: Path, rows: Sequence[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _picture(file: Path, image: Row) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(image["bytes"])


def gqa(root: Path) -> None:
    rows = hub.FILES["gqa"][1]()
    _json(root / "testdev_balanced_questions.json", {
        row["id"]: {**{k: row[k] for k in ("imageId", "question", "answer")}, "isBalanced": True, "types": {}}
        for row in rows
    })  # fmt: skip
    for n in range(2):
        _picture(root / f"images/n{n}.jpg", hub.picture(n))


def vqav2(root: Path) -> None:
    rows = hub.vqav2()
    asked = [{k: row[k] for k in ("image_id", "question", "question_id")} for row in rows]
    told = [{k: v for k, v in row.items() if k not in ("image", "question")} for row in rows]
    _json(root / "v2_OpenEnded_mscoco_val2014_questions.json", {"info": {}, "questions": asked})
    _json(root / "v2_mscoco_val2014_annotations.json", {"info": {}, "annotations": told[::-1]})
    for row in rows:
        _picture(root / f"val2014/COCO_val2014_{row['image_id']:012d}.jpg", row["image"])


def pope(root: Path) -> None:
    for kind in ("adversarial", "popular", "random"):
        rows = [row for row in hub.pope() if row["category"] == kind]
        asked = [
            {"question_id": row["question_id"], "image": f"{row['image_source']}.jpg", "text": row["question"],
             "label": row["answer"]}
            for row in rows
        ]  # fmt: skip
        _lines(root / f"coco_pope_{kind}.json", asked)
        for row in rows:
            _picture(root / f"val2014/{row['image_source']}.jpg", row["image"])


def coco_captions(root: Path) -> None:
    rows = hub.coco_captions()
    pictures = [{"id": row["id"], "file_name": row["file_name"], "height": 16, "width": 24} for row in rows]
    told = [{"image_id": row["id"], "id": 10 * row["id"] + n, "caption": text}
            for row in rows for n, text in enumerate(row["answer"])]  # fmt: skip
    _json(root / "annotations/captions_val2017.json", {"images": pictures, "annotations": told})
    for row in rows:
        _picture(root / f"val2017/{row['file_name']}", row["image"])


def nocaps(root: Path) -> None:
    rows = hub.nocaps()
    told = [{"image_id": row["image_id"], "id": 10 * row["image_id"] + n, "caption": text}
            for row in rows for n, text in enumerate(row["annotations_captions"])]  # fmt: skip
    pictures = [{"id": row["image_id"], "file_name": f"{row['image_id']}.jpg", "domain": "near"} for row in rows]
    _json(root / "nocaps_val_4500_captions.json", {"images": pictures, "annotations": told})
    for row in rows:
        _picture(root / f"images/{row['image_id']}.jpg", row["image"])


def flickr30k(root: Path) -> None:
    rows = hub.flickr30k()
    listed = [
        {"imgid": int(row["img_id"]), "filename": row["filename"], "split": "test", "sentids": [],
         "sentences": [{"raw": text, "tokens": text.split(), "imgid": 0, "sentid": 0} for text in row["caption"]]}
        for row in rows
    ]  # fmt: skip
    _json(root / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": [*listed, {**listed[0], "split": "val"}]})
    for row in rows:
        _picture(root / f"flickr30k-images/{row['filename']}", row["image"])


def textvqa(root: Path) -> None:
    rows = hub.textvqa()
    asked = [{**{k: row[k] for k in ("image_id", "question_id", "question", "answers", "question_tokens")},
              "set_name": "val"} for row in rows]  # fmt: skip
    _json(root / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "dataset_name": "textvqa", "data": asked})
    tokens = [{"image_id": row["image_id"], "ocr_tokens": row["ocr_tokens"], "ocr_info": []} for row in rows]
    _json(root / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": tokens})
    for row in rows:
        _picture(root / f"train_images/{row['image_id']}.jpg", row["image"])


def vizwiz(root: Path) -> None:
    rows = hub.vizwiz()
    _json(root / "Annotations/val.json", [
        {"image": row["question_id"], "question": row["question"], "answer_type": row["category"], "answerable": 1,
         "answers": [{"answer": text, "answer_confidence": "yes"} for text in row["answers"]]}
        for row in rows
    ])  # fmt: skip
    for row in rows:
        _picture(root / f"val/{row['question_id']}", row["image"])


def docvqa(root: Path) -> None:
    rows = hub.docvqa()
    asked = [
        {"questionId": int(row["questionId"]), "question": row["question"], "image": f"documents/d{row['docId']}.png",
         "docId": row["docId"], "answers": row["answers"], "data_split": "val"}
        for row in rows
    ]  # fmt: skip
    _json(root / "val/val_v1.0.json", {"dataset_name": "docvqa", "dataset_split": "val", "data": asked})
    for row in rows:
        _picture(root / f"val/documents/d{row['docId']}.png", row["image"])


def infovqa(root: Path) -> None:
    rows = hub.infovqa()
    asked = [
        {"questionId": int(row["questionId"]), "question": row["question"], "answers": row["answers"],
         "image_local_name": f"3{row['questionId']}.jpeg", "data_split": "val"}
        for row in rows
    ]  # fmt: skip
    _json(root / "infographicsvqa_qas/infographicsVQA_val_v1.0_withQT.json", {"data": asked})
    for row in rows:
        _picture(root / f"infographicsvqa_images/3{row['questionId']}.jpeg", row["image"])


def chartqa(root: Path) -> None:
    for n, row in enumerate(hub.chartqa()):
        kind = row["type"].removesuffix("_test")
        asked = [{"imgname": f"{n}.png", "query": row["question"], "label": row["answer"]}]
        _json(root / f"test/test_{kind}.json", asked)
        _picture(root / f"test/png/{n}.png", row["image"])


def ocrbench(root: Path) -> None:
    rows = hub.ocrbench()
    _json(root / "OCRBench.json", [
        {"dataset_name": row["dataset"], "type": row["question_type"], "id": n,
         "image_path": f"{row['dataset']}/{n}.jpg", "question": row["question"],
         "answers": row["answer"] if n else row["answer"][0]}
        for n, row in enumerate(rows)
    ])  # fmt: skip
    for n, row in enumerate(rows):
        _picture(root / f"OCRBench_Images/{row['dataset']}/{n}.jpg", row["image"])


def seed(root: Path) -> None:
    rows = hub.seed()
    asked = [{k: v for k, v in row.items() if k not in ("image", "segment")} for row in rows]
    _json(root / "SEED-Bench.json", {"questions": asked, "question_type": {"Instances Counting": 5}})
    for row in rows:
        _picture(root / f"SEED-Bench-image/{row['data_id']}", row["image"][0])


def ai2d(root: Path) -> None:
    rows = hub.ai2d()
    for n, row in enumerate(rows):
        name = f"{n + 8}.png"
        asked = {"abcLabel": False, "answerTexts": row["options"], "correctAnswer": int(row["answer"]),
                 "questionId": f"{name}-0"}  # fmt: skip
        _json(root / f"ai2d/questions/{name}.json", {"imageName": name, "questions": {row["question"]: asked}})
        _json(root / f"ai2d/annotations/{name}.json", {"text": {}, "blobs": {}, "arrows": {}})
        _picture(root / f"ai2d/images/{name}", row["image"])
    _json(root / "ai2d/questions/1.png.json", {"imageName": "1.png", "questions": {}})  # of the train split
    (root / "ai2d_test_ids.csv").write_text("".join(f"{n}\n" for n in (9, 10, 8, 11, 4000)))


def realworldqa(root: Path) -> None:
    rows = hub.realworldqa()
    asked = [{"image": f"{n}.webp", "question": row["question"], "answer": row["answer"]} for n, row in enumerate(rows)]
    _json(root / "annotations.json", asked)
    for n, row in enumerate(rows):
        _picture(root / f"images/{n}.webp", row["image"])


def scienceqa(root: Path) -> None:
    rows = hub.scienceqa()
    known = {str(n + 1): {**{k: v for k, v in row.items() if k != "image"}, "image": "image.png", "split": "test"}
             for n, row in enumerate(rows)}  # fmt: skip
    _json(root / "problems.json", {**known, "9": {**known["1"], "image": None}})
    _json(root / "pid_splits.json", {"train": [], "val": [], "test": ["1", "9", "2"]})
    for n, row in enumerate(rows):
        _picture(root / f"images/test/{n + 1}/image.png", row["image"])


def mmbench(root: Path) -> None:
    rows = hub.mmbench()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "mmbench_dev_20230712.tsv").open("w", encoding="utf-8", newline="") as file:
        names = ["index", "question", "hint", *"ABCD", "answer", "category", "image", "source", "l2-category", "split"]
        table = csv.DictWriter(file, names, delimiter="\t")
        table.writeheader()
        for row in rows:
            cells = {k: "" if v == "nan" else v for k, v in row.items() if k in names}
            stored = base64.b64encode(row["image"]["bytes"]).decode()
            # A rotation may point at the row that holds the image.
            image = stored if row["index"] < 1_000_000 else str(row["index"] % 1_000_000)
            table.writerow({**cells, "image": image, "l2-category": row["L2-category"]})


def mmvp(root: Path) -> None:
    rows = hub.mmvp()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "Questions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["Index", "Question", "Options", "Correct Answer"])
        table.writeheader()
        table.writerows({k: v for k, v in row.items() if k != "image"} for row in rows)
    for row in rows:
        _picture(root / f"MMVP Images/{row['Index']}.jpg", row["image"])


def mme(root: Path) -> None:
    from ommatidia.eval.benchmarks.releases.abilities import MME

    for folder in MME.files["test"]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for row in hub.mme():
        folder, stem = root / row["category"], Path(row["question_id"]).stem
        if row["category"] == "existence":  # as the categories on scenes and people are laid out
            text, place = folder / f"questions_answers_YN/{stem}.txt", folder / f"images/{stem}.png"
        else:
            text, place = folder / f"{stem}.txt", folder / f"{stem}.png"
        text.parent.mkdir(exist_ok=True)
        with text.open("a", encoding="utf-8") as file:
            file.write(f"{row['question']}\t{row['answer']}\n")
        _picture(place, row["image"])


def mathvista(root: Path) -> None:
    rows = hub.mathvista()
    _json(root / "data/testmini.json", {
        row["pid"]: {**{k: v for k, v in row.items() if k != "decoded_image"}, "image": f"images/{row['pid']}.jpg"}
        for row in rows
    })  # fmt: skip
    for row in rows:
        _picture(root / f"data/images/{row['pid']}.jpg", row["decoded_image"])


def hallusion(root: Path) -> None:
    rows = hub.hallusion()
    asked = [
        {**{k: v for k, v in row.items() if k != "image"}, "filename": f"./hallusion_bench/VS/{row['figure_id']}.png"}
        for row in rows
    ]
    _json(root / "HallusionBench.json", [*asked, {**asked[0], "visual_input": "0", "filename": None}])
    for row in rows:
        _picture(root / f"hallusion_bench/VS/{row['figure_id']}.png", row["image"])


def vet(root: Path) -> None:
    rows = hub.vet()
    _json(root / "mm-vet.json", {
        row["question_id"]: {
            "imagename": f"{row['question_id']}.png", "question": row["question"], "answer": row["answer"],
            "imagesource": "made up", "capability": row["capability"].split(","),
        }
        for row in rows
    })  # fmt: skip
    for row in rows:
        _picture(root / f"images/{row['question_id']}.png", row["image"])


def llava_bench(root: Path) -> None:
    rows = hub.llava_bench()
    _lines(root / "questions.jsonl", [
        {"question_id": row["question_id"], "image": row["image_id"], "text": row["question"],
         "category": row["category"]}
        for row in rows
    ])  # fmt: skip
    seen = {row["image_id"]: {"image": row["image_id"], "caption": row["caption"]} for row in rows}
    _lines(root / "context.jsonl", list(seen.values()))
    _lines(root / "answers_gpt4.jsonl", [
        {"question_id": row["question_id"], "text": row["gpt_answer"], "model_id": "gpt-4"} for row in rows[::-1]
    ])  # fmt: skip
    for row in rows:
        _picture(root / f"images/{row['image_id']}", row["image"])


RELEASES: Mapping[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (
        gqa, vqav2, pope, coco_captions, nocaps, flickr30k, textvqa, vizwiz, docvqa, infovqa, chartqa, ocrbench, seed,
        ai2d, realworldqa, scienceqa, mmbench, mmvp, mme, mathvista, hallusion, llava_bench,
    )
} | {"mm_vet": vet}  # fmt: skip
"""Writes the release of each benchmark into a folder."""
