"""Releases on diagrams and photographs: AI2D and RealWorldQA; and MMMU, which came as a table for each subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ommatidia.core.errors import DataError
from ommatidia.eval.benchmarks.labelled import Label, labels_of
from ommatidia.eval.benchmarks.releases.release import Release, Row, inside, read_json
from ommatidia.eval.benchmarks.rows import Rows, open_rows
from ommatidia.eval.scoring.mmmu import DOMAINS


def _ai2d(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    """A JSON file of questions and one of annotations for each diagram; the list names the diagrams of the test.

    Questions that name a letter (``abcLabel``) are asked about the diagram with its words covered by those letters,
    drawn here, since the release has the diagrams only as they are.
    """
    folder, annotations, listed = files
    wanted = sorted(set(listed.read_text(encoding="utf-8").split()), key=lambda name: (len(name), name))
    rows = []
    for name in wanted:
        file = folder / f"{name}.png.json"
        if not file.is_file():
            continue  # some of the listed diagrams have no question
        asked = read_json(file)
        labels: tuple[Label, ...] | None = None
        for question, each in asked["questions"].items():
            image: Row = {"path": f"{inside(root, folder)}/images/{asked['imageName']}"}
            if each["abcLabel"]:
                labels = _labels(annotations / file.name) if labels is None else labels
                image["labels"] = labels
            options = list(each["answerTexts"])
            if not 0 <= int(each["correctAnswer"]) < len(options):
                raise DataError(f"{file}: the answer {each['correctAnswer']} of {len(options)} options")
            rows.append(
                {"image": image, "question": question, "options": options, "answer": str(each["correctAnswer"])}
            )
    return rows


def _labels(file: Path) -> tuple[Label, ...]:
    return labels_of([(each["rectangle"], each["replacementText"]) for each in read_json(file)["text"].values()])


def _unpacked(name: str) -> str:
    """Where it lies: in the benchmark's folder, or in the archive's own folder there."""
    return f"{name}|ai2d/{name}"


AI2D = Release({"test": tuple(map(_unpacked, ("questions/", "annotations/", "ai2d_test_ids.csv")))}, _ai2d)


def _realworldqa(files: Sequence[Path], root: Path, split: str) -> list[Row]:
    """A list of image, question and answer; images beside it, or in a folder ``images`` beside it."""
    folder = files[0].parent
    pictures = inside(root, files[0]) + ("/images" if (folder / "images").is_dir() else "")
    return [
        {"image": f"{pictures}/{each['image']}", "question": each["question"], "answer": each["answer"]}
        for each in read_json(files[0])
    ]


REALWORLDQA = Release({"test": ("annotations.json|realworldqa/annotations.json",)}, _realworldqa)


def _mmmu(files: Sequence[Path], root: Path, split: str) -> Rows:
    return open_rows(files)


_SUBJECTS = sorted(subject for subjects in DOMAINS.values() for subject in subjects)

MMMU = Release(
    {split: tuple(f"{s}/{split}-00000-of-00001.parquet" for s in _SUBJECTS) for split in ("validation", "dev")}, _mmmu
)
"""The test split's tables come in other numbers of parts: the joined copy is needed for it."""
