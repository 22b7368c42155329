"""Described scenes: text alone, the same questions, and every answer word that the drawn tasks need."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from ommatidia.core.errors import ConfigError
from ommatidia.core.source import SourceConfig
from ommatidia.data.synthetic import DescribedScenes
from ommatidia.data.synthetic.described import TASKS
from ommatidia.data.synthetic.drawn import DrawnConfig

KINDS = {
    kind: config
    for kind, config in SourceConfig.kinds().items()
    if issubclass(config, DrawnConfig) and kind.startswith("drawn_")
}


def test_described_scenes_are_text_with_the_same_questions() -> None:
    source = DescribedScenes(pictures=len(TASKS) * 200, per_picture=4).open()
    samples = [source[index] for index in range(len(source))]
    assert not any(sample.images for sample in samples)
    assert {sample.meta["task"] for sample in samples} == {f"described_{task.name}" for task in TASKS}
    assert len({sample.id for sample in samples}) == len(samples)
    answers = {sample.answer for sample in samples}
    letters = {letter for answer in answers for letter in answer}
    for kind, config in KINDS.items():
        drawn = config(pictures=200, split="test").open()
        for sample in (drawn[index] for index in range(len(drawn))):
            closed = "options" in sample.meta or sample.answer.islower()
            assert sample.answer in answers if closed else set(sample.answer) <= letters, (kind, sample.answer)
            for option in sample.meta.get("options", ()):
                assert option in answers


def test_descriptions_say_what_is_asked() -> None:
    """Every answer that is read or named stands in the text; the rest was recomputed above from the same scenes."""
    source = DescribedScenes(tasks=["words", "numbers", "charts", "attributes"], pictures=400, per_picture=4).open()
    for sample in (source[index] for index in range(len(source))):
        if sample.meta["variant"] in ("word", "number", "value", "label", "extreme_label", "extreme_colour", "colour"):
            assert sample.answer in sample.question.replace(".", " ").replace(",", " ").split()


def test_described_words_of_train_are_not_those_of_test() -> None:
    words = []
    for split in ("train", "test"):
        source = DescribedScenes(tasks=["words"], split=split, pictures=300, per_picture=1).open()
        words.append({source[index].question.split()[3] for index in range(300)})
    assert not words[0] & words[1]


def test_described_configs() -> None:
    with pytest.raises(ConfigError, match="did you mean 'charts'"):
        DescribedScenes(tasks=["chart"])
    with pytest.raises(ConfigError, match="tasks is empty"):
        DescribedScenes(tasks=[])
    assert DescribedScenes(seed=1).fingerprint() != DescribedScenes().fingerprint()


def test_the_words_of_easy_vqa_are_the_packages_own() -> None:
    pytest.importorskip("easy_vqa")
    from ommatidia.data.easy_vqa import EasyVQA

    real = EasyVQA(split="test").open()
    wordings = {real[index].question for index in range(len(real))}
    source = DescribedScenes(tasks=["easy_vqa"], pictures=1000, per_picture=8).open()
    said = {sample.question.partition(". ")[2] for sample in (source[index] for index in range(len(source)))}
    assert said == wordings
    right: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in (source[index] for index in range(len(source))):
        if sample.meta["variant"] == "present":
            right[sample.question.partition(". ")[2]][sample.answer] += 1
    shares = [counts["yes"] / counts.total() for counts in right.values()]
    assert all(0.25 < share < 0.75 for share in shares)
