"""The drawn tasks: answers follow from what is drawn, train and test share no look, equal seeds make equal pictures."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from PIL import Image

from ommatidia.core.errors import ConfigError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import ImagePart, Sample
from ommatidia.data.synthetic.attributes import SIZES, AttributeScene
from ommatidia.data.synthetic.charts import ChartScene
from ommatidia.data.synthetic.counts import CountScene
from ommatidia.data.synthetic.drawn import DrawnConfig
from ommatidia.data.synthetic.look import COLOURS, FONTS, font, ink_pairs
from ommatidia.data.synthetic.relations import RelationScene
from ommatidia.data.synthetic.tables import panels
from ommatidia.data.synthetic.written import NumberScene, WordScene

KINDS = {
    kind: config
    for kind, config in SourceConfig.kinds().items()
    if issubclass(config, DrawnConfig) and kind.startswith("drawn_")
}
MANY = 300


def scenes(kind: str, split: str, count: int = MANY) -> list:
    source = KINDS[kind](split=split, pictures=count).open()
    return [source.scene(number) for number in range(count)]


def asked(kind: str, count: int = MANY) -> list[tuple]:
    """(scene, question) over every variant of a task."""
    task = KINDS[kind]().task()
    rng = Random(kind)
    pairs = []
    for _ in range(count):
        scene = task.compose(rng, "train")
        pairs += [(scene, question) for question in scene.questions(rng)]
    return pairs


def digest_of(image: Image.Image) -> str:
    import hashlib

    return hashlib.sha256(image.tobytes()).hexdigest()


def test_all_six_are_registered() -> None:
    names = {"words", "numbers", "charts", "counts", "relations", "attributes"}
    assert set(KINDS) == {f"drawn_{name}" for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_what_others_rely_on(kind: str) -> None:
    config = KINDS[kind](pictures=20, per_picture=4)
    source = config.open()
    assert len(source) == 80
    samples = [source[index] for index in range(80)]
    assert len({sample.id for sample in samples}) == 80
    for index, sample in enumerate(samples):
        assert sample.meta["group"] in ("general", "ocr_chart", "vision_centric")
        assert sample.meta["task"] == kind
        assert sample.meta["cluster"] == sample.images[0].digest == samples[index // 4 * 4].images[0].digest
        assert sample.messages[0].parts[0] == ImagePart(0)
        assert sample.answer
        assert " " not in sample.answer
        if "options" in sample.meta:
            assert sample.answer in sample.meta["options"]
    for begin in range(0, 80, 4):
        assert len({sample.question for sample in samples[begin : begin + 4]}) == 4
    with pytest.raises(IndexError):
        source[80]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 64, 128])
def test_pictures_show_something(kind: str, size: int) -> None:
    source = KINDS[kind](pictures=20, size=size).open()
    for picture in source.pictures():
        image = picture.open()
        assert image.mode == "RGB"
        assert image.size == (size, size)
        pixels = np.asarray(image).reshape(-1, 3)
        values, counts = np.unique(pixels, axis=0, return_counts=True)
        assert len(values) > 1
        assert counts.max() / len(pixels) < 0.999
        assert np.ptp(pixels.astype(int), axis=0).max() > 60  # a contrast that an eye sees


@pytest.mark.parametrize("kind", KINDS)
def test_promised_questions_are_there(kind: str) -> None:
    task = KINDS[kind]().task()
    for number in range(MANY):
        rng = Random(number)
        questions = task.compose(rng, "test").questions(rng)
        found = Counter(question.variant for question in questions)
        assert set(found) <= set(task.variants)
        assert all(found[variant] >= promised for variant, promised in task.variants.items())
        assert len({question.text for question in questions}) == len(questions)


# Held out: fonts, colour pairs, layouts, and what is written


@pytest.mark.parametrize("kind", KINDS)
def test_no_picture_is_in_both_splits(kind: str) -> None:
    digests = [{p.digest for p in KINDS[kind](split=s, pictures=MANY).open().pictures()} for s in ("train", "test")]
    assert not digests[0] & digests[1]
    assert all(len(of_split) > 0.95 * MANY for of_split in digests)


@pytest.mark.parametrize("kind", ["drawn_words", "drawn_numbers"])
def test_written_looks_are_held_out(kind: str) -> None:
    train, test = scenes(kind, "train"), scenes(kind, "test")
    for look in (
        lambda s: s.style.font,
        lambda s: frozenset((s.style.ink, s.style.paper)),
        lambda s: s.style.layout,
        lambda s: getattr(s, "word", None) or s.number,
    ):
        assert not {look(s) for s in train} & {look(s) for s in test}
        assert len({look(s) for s in test}) > 3


def test_chart_looks_are_held_out() -> None:
    train, test = scenes("drawn_charts", "train"), scenes("drawn_charts", "test")
    for look in (lambda s: s.font, lambda s: s.layout, lambda s: s.background):
        assert not {look(s) for s in train} & {look(s) for s in test}
    assert {s.mark for s in train} == {s.mark for s in test} == {"bar", "point"}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("drawn_counts", lambda s: s.cells),
        ("drawn_relations", lambda s: frozenset(s.cells)),
        ("drawn_attributes", lambda s: s.layout),
    ],
)
def test_shape_looks_are_held_out(kind: str, layout) -> None:
    train, test = scenes(kind, "train"), scenes(kind, "test")
    assert not {layout(s) for s in train} & {layout(s) for s in test}
    pairs = [{(shape.colour, s.background) for s in of_split for shape in s.shapes} for of_split in (train, test)]
    assert not pairs[0] & pairs[1]
    assert {colour for colour, _ in pairs[0]} == {colour for colour, _ in pairs[1]} == set(COLOURS)


def test_fonts_and_pairs_are_cut_in_two() -> None:
    assert not set(FONTS["train"]) & set(FONTS["test"])
    for names in FONTS.values():
        for name in names:
            assert font(name, 20).getlength("BAD 123") > 40
    unordered = [{frozenset(pair) for pair in ink_pairs(split)} for split in ("train", "test")]
    assert not unordered[0] & unordered[1]


# Exact answers: each recomputed from the scene by other means


def test_word_answers() -> None:
    for scene, question in asked("drawn_words"):
        assert isinstance(scene, WordScene)
        word = scene.word
        expected = {"word": word, "first": word[0], "last": word[len(word) - 1], "length": str(len(word))}
        assert question.answer == expected[question.variant]
        assert 2 <= len(word) <= 4
        assert word.isupper()


def test_number_answers() -> None:
    for scene, question in asked("drawn_numbers"):
        assert isinstance(scene, NumberScene)
        n = scene.number
        expected = {
            "number": f"{n}", "first": f"{n // 10 ** (len(str(n)) - 1)}", "last": f"{n % 10}",
            "length": "2" if n < 100 else "3", "parity": ("even", "odd")[n % 2],
        }  # fmt: skip
        assert question.answer == expected[question.variant]


def test_count_answers() -> None:
    for scene, question in asked("drawn_counts"):
        assert isinstance(scene, CountScene)
        words = question.text.removesuffix("?").split()
        if question.variant == "more":
            one, other = (sum(s.form[:4] == word[:4] for s in scene.shapes) for word in (words[3], words[5]))
            assert question.answer == ("yes" if one > other else "no")
            assert one != other
            continue
        colours = [word for word in words if word in COLOURS]
        forms = [word[:4] for word in words[2:-2] if word not in COLOURS and word != "shapes"]
        hits = [
            s for s in scene.shapes if s.form[:4] in (forms or [s.form[:4]]) and s.colour in (colours or [s.colour])
        ]
        assert question.answer == str(len(hits))


def test_relation_answers() -> None:
    for scene, question in asked("drawn_relations"):
        assert isinstance(scene, RelationScene)
        words = question.text.removesuffix("?").split()
        by_form = {s.form: s for s in scene.shapes}
        named = [by_form[word] for word in words if word in by_form]
        if question.variant == "side":
            one, other = named
            truth = {
                "left": one.x < other.x,
                "right": one.x > other.x,
                "above": one.y < other.y,
                "below": one.y > other.y,
            }
            said = next(word for word in words if word in truth)
            assert question.answer == ("yes" if truth[said] else "no")
        elif question.variant == "which_side":
            one, other = named
            across = "left" if one.x < other.x else "right"
            assert question.answer == (across if "left" in words else "above" if one.y < other.y else "below")
        elif question.variant == "extreme":
            order = {
                "leftmost": lambda s: s.x,
                "rightmost": lambda s: -s.x,
                "top": lambda s: s.y,
                "bottom": lambda s: -s.y,
            }
            first = sorted(scene.shapes, key=order[next(word for word in words if word in order)])[0]
            assert question.answer == (first.colour if "color" in words else first.form)
        else:
            shape, one, other = named
            near, far = sorted((one, other), key=lambda s: (s.x - shape.x) ** 2 + (s.y - shape.y) ** 2)
            assert question.answer == near.form
            squares = [(s.x - shape.x) ** 2 + (s.y - shape.y) ** 2 for s in (near, far)]
            assert squares[1] >= 1.3**2 * squares[0]
            assert question.fact == f"the {shape.form} is closer to the {near.form} than to the {far.form}."


def test_attribute_answers() -> None:
    for scene, question in asked("drawn_attributes"):
        assert isinstance(scene, AttributeScene)
        words = question.text.removesuffix("?").split()
        if question.variant == "present":
            assert question.answer == ("yes" if any(s.name in question.text for s in scene.shapes) else "no")
            continue
        [shape] = [s for s in scene.shapes if s.form in words or s.colour in words]
        size = min(SIZES, key=lambda name: abs(SIZES[name] - shape.radius))
        assert question.answer == {"colour": shape.colour, "form": shape.form, "size": size}[question.variant]


def test_chart_answers() -> None:
    real = {
        (panel.table, label, value)
        for of in panels().values()
        for panel in of
        for label, value in zip(panel.labels, panel.values)
    }
    for scene, question in asked("drawn_charts"):
        assert isinstance(scene, ChartScene)
        assert all((scene.table, label, value) in real for label, value in zip(scene.labels, scene.values))
        rows = sorted(zip(scene.values, scene.colours, scene.labels))
        words = question.text.removesuffix("?").split()
        by_colour = {colour: (value, label) for value, colour, label in rows}
        end = rows[-1] if "highest" in words else rows[0]
        named = [by_colour[word] for word in words if word in by_colour]
        if question.variant == "how_many":
            expected = str(len(rows))
        elif question.variant == "higher":
            expected = "yes" if named[0][0] > named[1][0] else "no"
        elif question.variant in ("value", "label"):
            expected = str(named[0][question.variant == "label"])
        else:
            expected = end[1 if question.variant == "extreme_colour" else 2]
        assert question.answer == expected
        assert min(b[0] - a[0] for a, b in pairwise(rows)) >= 6
        assert scene.mark in question.text


def test_bars_are_as_high_as_their_values() -> None:
    """Measured on the pixels: the column of each bar's colour, against the value it stands for."""
    for scene in scenes("drawn_charts", "train", 60):
        if scene.mark != "bar":
            continue
        pixels = np.asarray(scene.draw(256))
        heights = [(pixels == COLOURS[colour]).all(-1).sum(0).max() for colour in scene.colours]
        for height, value in zip(heights, scene.values):
            assert abs(height / max(heights) - value / max(scene.values)) < 0.03


def test_shapes_stand_where_the_scene_says() -> None:
    for scene in scenes("drawn_relations", "test", 60):
        pixels = np.asarray(scene.draw(128)).astype(int)
        for shape in scene.shapes:
            rows, columns = np.nonzero((np.abs(pixels - COLOURS[shape.colour]).sum(-1)) < 12)
            assert abs(columns.mean() / 128 - shape.x) < 0.02
            assert abs(rows.mean() / 128 - shape.y) < 0.03


# No way to win blind


@pytest.mark.parametrize(
    ("kind", "ceiling"),
    [("drawn_words", 14), ("drawn_numbers", 25), ("drawn_charts", 20), ("drawn_counts", 35), ("drawn_relations", 46),
     ("drawn_attributes", 39)],
)  # fmt: skip
def test_a_blind_guess_stays_low(kind: str, ceiling: float) -> None:
    def samples(split: str, pictures: int) -> list[Sample]:
        source = KINDS[kind](split=split, pictures=pictures).open()
        return [source[index] for index in range(len(source))]

    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples("train", 1200):
        counts[sample.question][sample.answer] += 1
    test = samples("test", 500)
    right = sum(bool(counts[s.question]) and counts[s.question].most_common(1)[0][0] == s.answer for s in test)
    assert 100 * right / len(test) < ceiling


# Determinism

_SHOW = """
import hashlib
from ommatidia.core.source import SourceConfig
import ommatidia.data
for kind in sorted(k for k in SourceConfig.kinds() if k.startswith("drawn_")):
    source = SourceConfig.parse({"kind": kind, "pictures": 5, "seed": 3}).open()
    for index in (17, 2, 9):
        sample = source[index]
        image = sample.images[0]
        pixels = hashlib.sha256(image.open().tobytes()).hexdigest()
        print(sample.id, sample.question, sample.answer, image.digest, pixels)
"""


def test_the_same_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = []
    for salt in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", salt)
        done = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True)
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 18


@pytest.mark.parametrize("kind", KINDS)
def test_more_pictures_change_none_and_seeds_change_all(kind: str) -> None:
    few, many = KINDS[kind](pictures=5).open(), KINDS[kind](pictures=50).open()
    assert [few.scene(k) for k in range(5)] == [many.scene(k) for k in range(5)]
    other = KINDS[kind](pictures=5, seed=1).open()
    assert all(few.scene(k) != other.scene(k) for k in range(5))
    large = KINDS[kind](pictures=5, size=64).open()
    assert few.scene(0) == large.scene(0)
    assert few[0].images[0].digest != large[0].images[0].digest
    image = few[0].images[0]
    assert digest_of(image.open()) == digest_of(image.open())


def test_fingerprints() -> None:
    configs = [KINDS[kind](**given) for kind in KINDS for given in ({}, {"seed": 1}, {"size": 64}, {"split": "test"})]
    assert len({config.fingerprint() for config in configs}) == len(configs)


# Configs


def test_variants_can_be_chosen() -> None:
    source = KINDS["drawn_words"](asks=["first", "last"], per_picture=2, pictures=10).open()
    assert {source[index].meta["variant"] for index in range(20)} == {"first", "last"}
    with pytest.raises(ConfigError, match="did you mean 'first'"):
        KINDS["drawn_words"](asks=["frist"], per_picture=1)
    with pytest.raises(ConfigError, match="per_picture is 3, but every picture of words is only sure to have 2"):
        KINDS["drawn_words"](asks=["first", "last"], per_picture=3)
    with pytest.raises(ConfigError, match="per_picture"):
        KINDS["drawn_words"](per_picture=0)
    with pytest.raises(ConfigError, match="split"):
        KINDS["drawn_words"](split="validation")


def test_missing_tables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ommatidia.data.synthetic import tables

    tables.panels.cache_clear()
    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="vega_datasets"):
        KINDS["drawn_charts"]().open()
    monkeypatch.undo()
    tables.panels.cache_clear()
