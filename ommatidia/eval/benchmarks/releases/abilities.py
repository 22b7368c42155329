"""Releases of small sets on many abilities: MME, MathVista, HallusionBench, MM-Vet and LLaVA-Bench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ommatidia.core.errors import DataError
from ommatidia.eval.benchmarks.releases.release import Release, Row, inside, read_json
from ommatidia.eval.benchmarks.rows import read_lines

_MME = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
    "commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning",
)  # fmt: skip


def _mme(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    """A folder a category; a text file an image, beside it or in a folder of its own, with two lines of question, tab
    and answer."""
    rows = []
    for folder in files:
        apart = (folder / "questions_answers_YN").is_dir()
        texts, pictures = (folder / "questions_answers_YN", folder / "images") if apart else (folder, folder)
        for text in sorted(texts.glob("*.txt")):
            found = [path for end in (".jpg", ".png") if (path := pictures / f"{text.stem}{end}").is_file()]
            # Without its image the row still stands, so that it is counted as unreadable.
            image = (found or [pictures / f"{text.stem}.jpg"])[0]
            for line in filter(str.strip, text.read_text(encoding="utf-8").splitlines()):
                question, _, answer = line.rstrip().rpartition("\t")
                if answer not in ("Yes", "No"):
                    raise DataError(f"{text}: {line[:60]!r}; expected a question, a tab, and Yes or No")
                place = image.relative_to(root).as_posix()
                shared = {"image": place, "question_id": f"{folder.name}/{image.name}", "category": folder.name}
                rows.append({**shared, "question": question, "answer": answer})
    return rows


MME = Release({"test": tuple(f"{category}/" for category in _MME)}, _mme)


def _mathvista(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    folder = inside(root, files[0])
    return [
        {**each, "pid": number, "decoded_image": f"{folder}/{each['image']}"}
        for number, each in read_json(files[0]).items()
    ]


MATHVISTA = Release({split: (f"{split}.json|data/{split}.json",) for split in ("testmini", "test")}, _mathvista)


def _hallusion(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {**each, "image": f"{inside(root, files[0])}/{each['filename']}"}
        for each in read_json(files[0])
        if str(each["visual_input"]) != "0"
    ]


HALLUSION = Release({"image": ("HallusionBench.json",)}, _hallusion)


def _vet(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    return [
        {
            "question_id": name, "image": f"{inside(root, files[0])}/images/{each['imagename']}",
            **{column: each[column] for column in ("question", "answer", "capability")},
        }
        for name, each in read_json(files[0]).items()
    ]  # fmt: skip


VET = Release({"test": ("mm-vet.json|mm-vet/mm-vet.json",)}, _vet)


def _llava_bench(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    questions, contexts, answers = map(read_lines, files)
    captions = {each["image"]: each["caption"] for each in contexts}
    stored = {each["question_id"]: each["text"] for each in answers}
    return [
        {
            "question_id": each["question_id"], "image": f"images/{each['image']}", "question": each["text"],
            "caption": captions[each["image"]], "gpt_answer": stored[each["question_id"]],
            "category": each["category"],
        }
        for each in questions
    ]  # fmt: skip


LLAVA_BENCH = Release({"train": ("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl")}, _llava_bench)
