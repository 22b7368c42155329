"""CV-Bench's construction on made-up annotations in the three published formats."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ommatidia.core.errors import DataError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.cv_bench import (
    Clarity,
    Scene,
    Thing,
    apply_review,
    balanced_choice,
    build,
    counts,
    depth_orders,
    distances,
    read_ade20k,
    read_coco,
    read_omni3d,
    read_rows,
    relations,
    write_review,
    write_set,
)
from ommatidia.eval.cv_bench.rows import plural

CLEAR = Clarity()


def coco(folder: Path, pictures: int = 6) -> Path:
    """Images of 100 x 80 pixels: a dog on one side of a bench, cups below, a crowd of people."""
    names = {1: "person", 18: "dog", 15: "bench", 47: "cup", 90: "kite"}
    annotations, images = [], []
    for number in range(pictures):
        images.append({"id": number, "file_name": f"{number:012}.jpg", "height": 80, "width": 100})
        Image.new("RGB", (100, 80), (30 * number, 90, 90)).save(folder / f"{number:012}.jpg")
        dog, bench = (5, 60) if number % 2 else (70, 10)
        boxes = [(18, (dog, 10, 20, 20), 0), (15, (bench, 12, 25, 20), 0), (1, (40, 0, 10, 80), 1)]
        boxes += [(47, (5 + 15 * cup, 55, 12, 12), 0) for cup in range(number % 4 + 1)]
        for kind, box, crowd in boxes:
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": kind, "bbox": list(box), "iscrowd": crowd}
            )
    path = folder / "instances_val2017.json"
    categories = [{"id": key, "name": name} for key, name in names.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def ade(folder: Path) -> Path:
    """One image with two lamps and a bed; one lamp has a part of its own."""
    mask = np.zeros((60, 80, 3), dtype=np.uint8)
    for (rows, columns), kind, number in (
        ((slice(0, 20), slice(0, 20)), 300, 1),
        ((slice(0, 20), slice(60, 80)), 300, 2),
        ((slice(35, 60), slice(10, 70)), 165, 3),
    ):
        mask[rows, columns] = (kind // 256 * 10, kind % 256, number)
    Image.fromarray(mask).save(folder / "ADE_val_00000001_seg.png")
    Image.new("RGB", (80, 60), (9, 9, 9)).save(folder / "ADE_val_00000001.jpg")
    objects = [
        {"id": 0, "name": "lamp, table lamp", "name_ndx": 300, "parts": {"part_level": 0}},
        {"id": 1, "name": "shade", "name_ndx": 77, "parts": {"part_level": 1}},
        {"id": 2, "name": "bed", "name_ndx": 165, "parts": {"part_level": 0}},
    ]
    described = {"annotation": {"filename": "ADE_val_00000001.jpg", "object": objects}}
    (folder / "ADE_val_00000001.json").write_text(json.dumps(described))
    return folder


def cube(x: float, z: float, size: float = 1.0) -> list[list[float]]:
    half = size / 2
    return [[x + a * half, b * half, z + c * half] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]


def omni3d(folder: Path, pictures: int = 4) -> Path:
    """A table near the camera, a chair behind it and a sofa far away; a door that is not valid."""
    things = [("table", cube(0, 3), [10, 40, 40, 80]), ("chair", cube(0.2, 5.5), [45, 30, 60, 60])]
    things += [("sofa", cube(4, 12, 2), [70, 20, 95, 50]), ("door", cube(-3, 20), [0, 0, 5, 30])]
    annotations, images = [], []
    for number in range(pictures):
        images.append({"id": number, "file_path": f"hypersim/{number}.png", "height": 100, "width": 100, "K": []})
        (folder / "hypersim").mkdir(exist_ok=True)
        Image.new("RGB", (100, 100), (250, 250, 250)).save(folder / f"hypersim/{number}.png")
        for name, corners, box in things:
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_name": name, "category_id": 1,
                    "valid3D": name != "door", "bbox2D_tight": [-1, -1, -1, -1], "bbox2D_proj": box,
                    "bbox2D_trunc": box, "bbox3D_cam": corners, "behind_camera": False, "visibility": 0.9,
                    "truncation": 0.1, "depth_error": 0.0,
                }
            )  # fmt: skip
    path = folder / "Hypersim_test.json"
    path.write_text(json.dumps({"info": {"name": "Hypersim"}, "images": images, "annotations": annotations}))
    return path


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    folders = {name: tmp_path / name for name in ("coco", "ade", "omni3d")}
    for folder in folders.values():
        folder.mkdir()
    return [
        *read_coco(coco(folders["coco"]), folders["coco"]),
        *read_ade20k(ade(folders["ade"])),
        *read_omni3d(omni3d(folders["omni3d"]), folders["omni3d"]),
    ]


def test_the_formats_are_read(scenes):
    first, room, space = scenes[0], scenes[6], scenes[7]
    assert [t.name for t in first.things] == ["dog", "bench", "person", "cup"]
    assert first.things[0].box == (70, 10, 90, 30)
    assert first.things[2].crowd
    assert (first.size, first.source, first.dataset) == ((80, 100), "COCO", "COCO 2017 Validation Set")
    assert sorted((t.name, t.box) for t in room.things) == [
        ("bed", (10, 35, 70, 60)),
        ("lamp", (0, 0, 20, 20)),
        ("lamp", (60, 0, 80, 20)),
    ]
    assert [(t.name, t.seen) for t in space.things] == [
        ("table", True), ("chair", True), ("sofa", True), ("door", False),
    ]  # fmt: skip


def test_relations_ask_about_single_objects_clearly_apart(scenes):
    found = {(p.about, p.right) for p in relations(scenes[0], CLEAR)}
    assert (("dog", "bench"), "right") in found
    assert (("bench", "dog"), "left") in found
    assert (("cup", "dog"), "below") in found
    assert not any(kind == "person" for about, _ in found for kind in about)  # a crowd
    assert not any(
        about in (("dog", "bench"), ("bench", "dog")) and right in ("above", "below") for about, right in found
    )
    assert not any("lamp" in p.about for p in relations(scenes[6], CLEAR))  # there are two of them
    touching = Scene(Path("x"), (100, 100), (Thing("a", (0, 0, 50, 50)), Thing("b", (51, 0, 99, 50))), "COCO", "")
    assert not list(relations(touching, CLEAR))
    assert [p.right for p in relations(touching, Clarity(gap=0.005))] == ["left", "right"]


def test_counts_have_neighbours_and_absent_objects(scenes):
    for scene in scenes[:6]:
        found = {p.about[0]: p for p in counts(scene, CLEAR, kinds=["cup", "kite"])}
        assert "person" not in found
        assert found["kite"].right == "0"
        cups = sum(t.name == "cup" for t in scene.things)
        numbers = sorted(map(int, (found["cup"].right, *found["cup"].wrong)))
        assert found["cup"].right == str(cups)
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert numbers[0] >= 0
    small = Scene(Path("x"), (100, 100), (Thing("a", (0, 0, 50, 50)), Thing("a", (60, 60, 62, 62))), "COCO", "")
    assert not list(counts(small, CLEAR))  # is the tiny one counted or not?


def test_depth_is_farthest_corner_against_nearest(scenes):
    space = scenes[7]
    found = {frozenset(p.about): p for p in depth_orders(space, CLEAR)}
    assert found[frozenset({"table", "chair"})].right == "table"
    assert not any("door" in about for about in found)
    # The table's farthest corner lies sqrt(3.5^2 + 0.5^2 + 0.5^2) = 3.57 m away, the chair's nearest corner 5.04 m.
    gap = np.linalg.norm(np.array(cube(0.2, 5.5)), axis=1).min() - 3.5707
    pair = frozenset({"table", "chair"})
    assert pair in {frozenset(p.about) for p in depth_orders(space, Clarity(offset=gap - 0.01))}
    assert pair not in {frozenset(p.about) for p in depth_orders(space, Clarity(offset=gap + 0.01))}


def test_distance_is_from_corner_to_corner(scenes):
    found = {(p.anchor, p.right, p.wrong[0]) for p in distances(scenes[7], CLEAR)}
    assert ("table", "chair", "sofa") in found
    assert ("chair", "table", "sofa") in found
    assert ("sofa", "chair", "table") not in found  # from the sofa the two are about equally far


def test_covered_objects_are_not_asked_about():
    a, b = Thing("a", (0, 0, 50, 50), corners=tuple(map(tuple, cube(0, 3)))), (10, 10, 60, 60)
    scene = Scene(Path("x"), (100, 100), (a, Thing("b", b, corners=tuple(map(tuple, cube(0, 9))))), "Omni3D", "")
    assert not list(depth_orders(scene, CLEAR))
    assert len(list(depth_orders(scene, Clarity(overlap=0.9)))) == 1


def test_the_choice_is_balanced(scenes):
    many = [p for scene in scenes[:6] for p in relations(scene, CLEAR)]
    chosen = balanced_choice(many, 8, per_picture=3)
    assert Counter(p.right for p in chosen) == dict.fromkeys(("left", "right", "above", "below"), 2)
    assert max(Counter(p.scene.file for p in chosen).values()) <= 3
    assert balanced_choice(many, 8, per_picture=3) == chosen
    assert balanced_choice(many, 8, per_picture=3, seed=1) != chosen


def test_the_set_loads_as_the_published_one(scenes, tmp_path):
    folder = tmp_path / "CV-Bench"
    rows = write_set(build(scenes, each=4, clarity=CLEAR), folder)
    assert rows == read_rows(folder)
    for part in ("2D", "3D"):
        size = sum(row["type"] == part for row in rows)
        config = BenchmarkConfig.parse({"kind": "cv_bench", "part": part, "data": str(tmp_path), "size": size})
        benchmark = config.open()
        samples = list(benchmark.samples())
        assert len(samples) == size >= 4
        assert all(sample.images[0].open().size for sample in samples)
        scores = [benchmark.score(s, s.meta["references"][0]) for s in samples]
        assert benchmark.summary(scores)["score"] == 1.0
    assert Counter(row["task"] for row in rows) == {"Relation": 4, "Count": 4, "Depth": 4, "Distance": 4}
    assert {row["source"] for row in rows} == {"COCO", "ADE20K", "Omni3D"}
    depth = Counter(row["answer"] for row in rows if row["task"] == "Depth")
    assert depth == {"(A)": 2, "(B)": 2}


def test_boxes_have_the_colours_that_the_question_names(scenes, tmp_path):
    rows = write_set(build(scenes, each=4, clarity=CLEAR), tmp_path)
    distance = next(row for row in rows if row["task"] == "Distance")
    assert list(distance["bbox"]) == ["red", "blue", "green"]
    assert f"the {distance['choices'][0]} (blue box)" in distance["question"]
    image = Image.open(tmp_path / distance["image"]).convert("RGB")
    for colour, rgb in (("red", (230, 20, 20)), ("blue", (20, 60, 230)), ("green", (20, 160, 40))):
        left, top, _, _ = distance["bbox"][colour]
        assert image.getpixel((int(left), int(top))) == rgb
    assert all(row["bbox"] is None for row in rows if row["type"] == "2D")


def judged(path: Path, **verdicts: str) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        line["verdict"] = verdicts.get(f"q{line['idx']}", "accept")
    return lines


def store(path: Path, lines: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        table.writerows(lines)


def test_a_review_is_read_back(scenes, tmp_path):
    rows = write_set(build(scenes, each=2, clarity=CLEAR), tmp_path)
    table = tmp_path / "review.csv"
    write_review(rows, table)
    with pytest.raises(DataError, match=r"question 0 has no verdict; expected one of accept, modify, reject"):
        apply_review(rows, table)
    lines = judged(table, q0="reject", q2="modify")
    lines[2] |= {"answer": "(B)", "choices": "7 | 8 | 9"}
    store(table, lines)
    kept = apply_review(rows, table, tmp_path)
    assert [row["idx"] for row in kept] == list(range(1, len(rows)))
    assert (kept[1]["choices"], kept[1]["answer"]) == (["7", "8", "9"], "(B)")
    assert kept[1]["prompt"].endswith("(A) 7\n(B) 8\n(C) 9")
    assert kept == read_rows(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "maybe"}, "the verdict 'maybe'"),
        ({"question": "Is it?"}, "changed but accepted"),
        ({"verdict": "modify", "answer": "(Z)"}, "none of"),
        ({"idx": "99"}, "not in the set"),
    ],
)
def test_a_careless_review_is_refused(change, words, scenes, tmp_path):
    rows = write_set(build(scenes, each=1, clarity=CLEAR), tmp_path)
    write_review(rows, tmp_path / "review.csv")
    lines = judged(tmp_path / "review.csv")
    lines[0] |= change
    store(tmp_path / "review.csv", lines)
    with pytest.raises(DataError, match=words):
        apply_review(rows, tmp_path / "review.csv")


def test_other_formats_are_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="not in the form of COCO instances"):
        read_coco(tmp_path / "x.json", tmp_path)
    with pytest.raises(DataError, match="not in the form of Omni3D"):
        read_omni3d(tmp_path / "x.json", tmp_path)
    with pytest.raises(DataError, match=r"no \*_seg.png"):
        read_ade20k(tmp_path)


def test_plurals():
    named = ("wine glass", "person", "bus", "city", "toy", "dog")
    assert [plural(name) for name in named] == ["wine glasses", "people", "buses", "cities", "toys", "dogs"]
