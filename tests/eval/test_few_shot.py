"""Few-shot: seeded examples with their images in place, never the question's own, and told apart in every digest."""

from __future__ import annotations

from collections import Counter

import datasets
import pytest
from eval_toys import CountingSource, Oracle, benchmark_of
from published_fixtures import FILES, _write, mme, write

from ommatidia.core.config import override
from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.core.types import ImagePart
from ommatidia.eval import BenchmarkConfig, predict, score_file
from ommatidia.eval.few_shot import FewShot


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def shown(shots: int, **fields: object):
    source = {"kind": "test_counting", "size": 40}
    return benchmark_of(few_shot=FewShot.parse({"shots": shots, "source": source, **fields}))


@pytest.mark.parametrize("shots", [4, 8])
def test_turns_and_pictures_interleave(shots):
    benchmark = shown(shots, seed=3)
    for sample in benchmark.samples():
        prompt = benchmark.prompt(sample)
        assert [m.role for m in prompt.messages] == ["user", "assistant"] * shots + ["user"]
        places = [part.index for m in prompt.messages for part in m.parts if isinstance(part, ImagePart)]
        assert places == list(range(shots + 1)) == list(range(len(prompt.images)))
        assert prompt.images[-1] == sample.images[0]
        assert sample.images[0] not in prompt.images[:-1]
        for question, answer in zip(prompt.messages[:-1:2], prompt.messages[1::2]):
            assert question.text.split("?")[0].split()[-1] == answer.text
        assert prompt.question == benchmark_of().prompt(sample).question
        assert benchmark.prompt_digest(sample) == benchmark.digest_of(prompt, mode="full")
    assert benchmark.config.prompt_version() == f"{shots}-shot-seed3"


def test_they_follow_the_seed_and_the_question():
    def drawn(benchmark):
        return [benchmark.prompt(sample).images[:-1] for sample in benchmark.samples()]

    assert drawn(shown(4)) == drawn(shown(4))
    assert drawn(shown(4)) != drawn(shown(4, seed=1))
    assert [images[:2] for images in drawn(shown(4))] == drawn(shown(2))  # fewer shots are the first of more
    each = drawn(shown(4))
    assert len(set(each)) > len(each) // 2
    narrow = Counter(image for images in drawn(shown(2, support=6)) for image in images)
    assert len(narrow) <= 6


def test_modes_and_words_alone():
    sample = benchmark_of().samples()[0]
    blind = shown(4).prompt(sample, mode="blind")
    assert (blind.images, len(blind.messages)) == ((), 9)
    blank = shown(4).prompt(sample, mode="blank")
    assert all(picture.open().getpixel((0, 0)) == (128, 128, 128) for picture in blank.images)
    mixed = shown(4).prompt(sample, mode="shuffled")
    full = shown(4).prompt(sample)
    assert (mixed.images[:-1], mixed.messages) == (full.images[:-1], full.messages)
    assert mixed.images[-1] != full.images[-1]
    words = shown(2, pictures=False)
    prompt = words.prompt(sample)
    assert len(prompt.images) == 1
    assert prompt.messages[-1].parts[0] == ImagePart(0)
    assert not any(isinstance(part, ImagePart) for message in prompt.messages[:-1] for part in message.parts)
    assert words.config.prompt_version() == "2-shot-text"
    for mode in ("full", "blind", "blank", "shuffled"):
        asked = shown(2).prompt(sample, mode=mode)
        assert shown(2).prompt_digest(sample, mode=mode) == shown(2).digest_of(asked, mode=mode)


def test_answers_to_other_examples_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    predict(shown(2), Oracle(), path)
    scored = score_file(shown(2), path)
    assert (scored.mean, scored.prompt) == (1.0, "2-shot")
    for other in (benchmark_of(), shown(3), shown(2, seed=1), shown(2, pictures=False)):
        with pytest.raises(RunError, match="another prompt"):
            score_file(other, path)
    prints = {b.config.questions_fingerprint() for b in (benchmark_of(), shown(2), shown(2, seed=1), shown(4))}
    assert len(prints) == 4
    plain = benchmark_of().config
    assert "few_shot" not in plain.hashed()  # stored answers without examples keep their address


def test_too_few_and_unusable_examples_are_errors():
    with pytest.raises(DataError, match="4 of 5 examples"):
        shown(5, source={"kind": "test_counting", "size": 6}).prompt(benchmark_of().samples()[0])
    silent = shown(2, source={"kind": "test_counting", "size": 40, "broken": tuple(range(1, 40))})
    with pytest.raises(DataError, match="image is missing"):
        silent.prompt(benchmark_of().samples()[9])
    with pytest.raises(ConfigError, match=r"few_shot\.source must name"):
        benchmark_of(CountingSource(), few_shot={"shots": 2}).prompt(benchmark_of().samples()[0])


def test_a_published_benchmark_draws_from_another_split_or_its_own(tmp_path):
    size = write("mme", tmp_path)
    config = BenchmarkConfig.parse({"kind": "mme", "data": tmp_path, "size": size, "few_shot": {"shots": 2}})
    with pytest.raises(DataError, match="expected the split 'train'"):
        config.open().prompt(config.open().samples()[0])
    before = override(config, "few_shot.split", "test").questions_fingerprint()
    _write(tmp_path / FILES["mme"][0].replace("test-", "train-"), mme()[4:])
    benchmark = config.open()
    prompt = benchmark.prompt(benchmark.samples()[0])
    assert sorted({m.text for m in prompt.messages[1:-1:2]} | {"No", "Yes"}) == ["No", "Yes"]
    assert (len(prompt.messages), len(prompt.images)) == (5, 3)
    assert config.prompt_version() == "lmms-eval+2-shot"
    own = override(config, "few_shot.split", "test").open()
    for sample in own.samples():
        asked = own.prompt(sample)
        assert asked.images[-1].digest not in {picture.digest for picture in asked.images[:-1]}
    assert own.config.questions_fingerprint() == before != config.questions_fingerprint()
