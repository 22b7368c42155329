"""From proposals to a set in CV-Bench's own layout: chosen evenly, put into words, boxes drawn, files written."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from ommatidia.core.errors import DataError, DiskError
from ommatidia.eval.cv_bench.annotations import Box, Scene
from ommatidia.eval.cv_bench.proposals import Clarity, Proposal, counts, depth_orders, distances, relations

Row = dict[str, Any]
"""One question with the columns of the published files."""

COLOURS = {"red": (230, 20, 20), "blue": (20, 60, 230), "green": (20, 160, 40)}
_FOLDER = {"Relation": "2D/relation", "Count": "2D/count", "Depth": "3D/depth", "Distance": "3D/distance"}


def build(
    scenes: Sequence[Scene],
    *,
    each: int,
    clarity: Clarity,
    per_picture: int = 2,
    seed: int = 0,
) -> list[Proposal]:
    """At most ``each`` questions for every task that the annotations allow, evenly chosen.

    Absent objects that are counted are drawn from the kinds that other images of the same source hold.
    """
    kinds: dict[str, list[str]] = {}
    for scene in scenes:
        kinds.setdefault(scene.source, []).extend(thing.name for thing in scene.things)
    by_task: dict[str, list[Proposal]] = {task: [] for task in _FOLDER}
    for scene in scenes:
        if scene.source == "Omni3D":
            found = [*depth_orders(scene, clarity), *distances(scene, clarity)]
        else:
            listed = sorted(set(kinds[scene.source]))
            found = [*relations(scene, clarity), *counts(scene, clarity, kinds=listed, seed=seed)]
        for proposal in found:
            by_task[proposal.task].append(proposal)
    return [
        one for found in by_task.values() for one in balanced_choice(found, each, per_picture=per_picture, seed=seed)
    ]


def balanced_choice(proposals: Iterable[Proposal], count: int, *, per_picture: int, seed: int = 0) -> list[Proposal]:
    """Up to ``count`` proposals: sources and answers take turns, rarely asked kinds of objects come first, and no
    image is asked about more than ``per_picture`` times."""
    listed = list(proposals)
    order = np.random.default_rng(seed).permutation(len(listed))
    lanes: dict[tuple[str, str], list[Proposal]] = {}
    for index in order:
        lanes.setdefault((listed[index].scene.source, listed[index].label), []).append(listed[index])
    queues = [_rare_first(lanes[key]) for key in sorted(lanes)]
    asked: Counter[Path] = Counter()
    chosen: list[Proposal] = []
    while queues and len(chosen) < count:
        for queue in list(queues):
            while queue and asked[queue[0].scene.file] >= per_picture:
                queue.pop(0)
            if not queue:
                queues.remove(queue)
            elif len(chosen) < count:
                asked[queue[0].scene.file] += 1
                chosen.append(queue.pop(0))
    return chosen


def _rare_first(proposals: Sequence[Proposal]) -> list[Proposal]:
    """All first questions about a kind, then all second ones, and so on."""
    times: Counter[str] = Counter()
    ranked = []
    for proposal in proposals:
        ranked.append((max(times[name] for name in proposal.about), proposal))
        times.update(proposal.about)
    return [proposal for _, proposal in sorted(ranked, key=lambda pair: pair[0])]


def write_set(proposals: Sequence[Proposal], folder: Path, *, seed: int = 0) -> list[Row]:
    """Write test_2d.jsonl, test_3d.jsonl and their images; ``omma eval`` reads the folder as ``cv_bench``.

    Right answers take each place among the options equally often. Raises DataError when an image cannot be read,
    DiskError when the folder cannot be written.
    """
    rng, placed = np.random.default_rng(seed), Counter[str]()
    rows: list[Row] = []
    for number, proposal in enumerate(proposals):
        place = placed[proposal.task] % (len(proposal.wrong) + 1)
        placed[proposal.task] += 1
        wrong = [proposal.wrong[int(i)] for i in rng.permutation(len(proposal.wrong))]
        choices = [*wrong[:place], proposal.right, *wrong[place:]]
        rows.append(_row(number, proposal, choices))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for row, proposal in zip(rows, proposals, strict=True):
            _picture(proposal, row["choices"], folder / row["image"])
        save_rows(rows, folder)
    except OSError as error:
        raise DiskError(f"{folder}: {error.strerror or error}") from None
    return rows


def save_rows(rows: Sequence[Row], folder: Path) -> None:
    """The two files of questions; a part without any is not written."""
    for part in ("2D", "3D"):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows if row["type"] == part]
        path = folder / f"test_{part.lower()}.jsonl"
        if lines:
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            path.unlink(missing_ok=True)


def read_rows(folder: Path) -> list[Row]:
    """What ``write_set`` wrote. Raises DataError when there is nothing."""
    files = [folder / f"test_{part}.jsonl" for part in ("2d", "3d")]
    rows = [json.loads(line) for file in files if file.is_file() for line in file.read_text("utf-8").splitlines()]
    if not rows:
        raise DataError(f"{folder}: neither test_2d.jsonl nor test_3d.jsonl; write_set makes them")
    return rows


def _row(number: int, proposal: Proposal, choices: Sequence[str]) -> Row:
    scene = proposal.scene
    question = _words(proposal, choices)
    name = f"img/{_FOLDER[proposal.task]}/{scene.source.lower()}_{number}.png"
    boxes = {colour: list(proposal.boxes[kind]) for kind, colour in _marks(proposal, choices).items()}
    return {
        "idx": number,
        "type": "3D" if scene.source == "Omni3D" else "2D",
        "task": proposal.task,
        "image": name,
        "question": question,
        "choices": list(choices),
        "answer": f"({ascii_uppercase[choices.index(proposal.right)]})",
        "prompt": prompt_of(question, choices),
        "filename": name,
        "source": scene.source,
        "source_dataset": scene.dataset,
        "source_filename": scene.file.name,
        "target_class": proposal.about[0],
        "bbox": boxes or None,
    }


def prompt_of(question: str, choices: Sequence[str]) -> str:
    """The question and its lettered options."""
    lines = "\n".join(f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices))
    return f"{question} Select from the following choices.\n{lines}"


def _words(proposal: Proposal, choices: Sequence[str]) -> str:
    if proposal.task == "Count":
        return f"How many {plural(proposal.about[0])} are in the image?"
    if proposal.task == "Relation":
        target, anchor = proposal.about
        return (
            f"Considering the relative positions of the {target} and the {anchor}, "
            f"where is the {target} with respect to the {anchor}?"
        )
    colours = _marks(proposal, choices)
    first, second = (f"the {kind} ({colours[kind]} box)" for kind in choices)
    if proposal.task == "Depth":
        return f"Which object is closer to the camera taking this photo, {first} or {second}?"
    anchor = f"the {proposal.anchor} ({colours[proposal.anchor]} box)"
    return (
        "Estimate the real-world distances between objects in this image. "
        f"Which object is closer to {anchor}, {first} or {second}?"
    )


def plural(name: str) -> str:
    """The plural of an English noun, where a rule tells it."""
    irregular = {"person": "people", "man": "men", "woman": "women", "child": "children", "knife": "knives"}
    first, _, last = name.rpartition(" ")
    if last in irregular:
        made = irregular[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        made = f"{last}es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        made = f"{last[:-1]}ies"
    else:
        made = f"{last}s"
    return f"{first} {made}".strip()


def _marks(proposal: Proposal, choices: Sequence[str]) -> dict[str, str]:
    """The colour of each marked kind: the options red and blue, or blue and green where an anchor is red."""
    if not proposal.boxes:
        return {}
    kinds = [proposal.anchor, *choices] if proposal.anchor else list(choices)
    return dict(zip(kinds, COLOURS, strict=False))


def _picture(proposal: Proposal, choices: Sequence[str], path: Path) -> None:
    from PIL import Image

    from ommatidia.core.picture import FilePicture

    path.parent.mkdir(parents=True, exist_ok=True)
    if not proposal.boxes and proposal.scene.file.suffix.lower() == ".png":
        shutil.copyfile(proposal.scene.file, path)
        return
    image: Image.Image = FilePicture(proposal.scene.file).open()
    draw_boxes(image, {colour: proposal.boxes[kind] for kind, colour in _marks(proposal, choices).items()})
    image.save(path, format="PNG")


def draw_boxes(image: Any, boxes: Mapping[str, Box]) -> None:
    """Outlines in the named colours, one two-hundredth of the longer side thick, on the image itself."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    thick = max(2, round(max(image.size) / 200))
    for colour, (left, top, right, bottom) in boxes.items():
        corners = (max(left, 0), max(top, 0), min(right, image.width) - 1, min(bottom, image.height) - 1)
        pen.rectangle(corners, outline=COLOURS[colour], width=thick)
