"""A benchmark: what it asks, what it hides, how it scores, when it refuses."""

from __future__ import annotations

import pytest
from eval_toys import CountingSource, Dot, benchmark_of, sample_of
from hypothesis import given
from hypothesis import strategies as st

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.eval import BenchmarkConfig, Score, SourceBenchmark
from ommatidia.eval.benchmark import Benchmark, choose, cluster_of
from ommatidia.eval.prompts import exchange, prompt_of


def test_prompt_hides_the_answer():
    sample = sample_of(3, picture=2, references=["3"], options=["3", "4"])
    prompt = prompt_of(sample, suffix="\nOne word.")
    assert [m.role for m in prompt.messages] == ["user"]
    assert prompt.messages[0].parts[0] == ImagePart(0)
    assert prompt.question.endswith("3?\nOne word.")
    assert prompt.images == sample.images
    assert dict(prompt.meta) == {}
    assert prompt.id == sample.id


def test_blind_has_no_pictures_and_the_same_words():
    sample = sample_of(3, picture=2)
    blind = prompt_of(sample, mode="blind", suffix=" Now.")
    assert blind.images == ()
    assert all(isinstance(part, str) for m in blind.messages for part in m.parts)
    assert blind.question == sample.question.strip() + " Now."
    only_picture = Sample("s", (Message("user", (ImagePart(0),)), Message("assistant", ("x",))), (Dot(1),))
    with pytest.raises(DataError, match="empty"):
        prompt_of(only_picture, mode="blind")


def test_blank_keeps_the_size():
    prompt = prompt_of(sample_of(3, picture=2), mode="blank")
    image = prompt.images[0].open()
    assert image.size == Dot(2).open().size
    assert image.getcolors() == [(image.width * image.height, (128, 128, 128))]
    assert prompt.images[0].digest != Dot(2).digest


def test_shuffled_moves_every_picture():
    benchmark = benchmark_of()
    samples = benchmark.samples()
    shown = [benchmark.prompt(sample, mode="shuffled").images for sample in samples]
    assert all(images != sample.images and len(images) == 1 for images, sample in zip(shown, samples))
    assert shown[0] == shown[1]  # the two questions on one image still share one
    assert {i[0].digest for i in shown} == {s.images[0].digest for s in samples}
    assert shown == [benchmark_of().prompt(sample, mode="shuffled").images for sample in samples]
    with pytest.raises(DataError, match="only one distinct"):
        exchange({"a": (Dot(1),), "b": (Dot(1),), "c": ()})


def test_questions_must_be_there():
    for messages in ((), (Message("assistant", ("yes",)),), (Message("system", ("Be brief.",)),)):
        with pytest.raises(DataError, match="no question"):
            prompt_of(Sample("s", messages))
    drawn = Sample("s", (Message("user", ("Draw",)), Message("assistant", (ImagePart(0),))), (Dot(1),))
    with pytest.raises(DataError, match="holds an image"):
        prompt_of(drawn)


def test_earlier_turns_stay():
    turns = (*sample_of(1).messages, *sample_of(2).messages)
    assert [m.role for m in prompt_of(Sample("s", turns)).messages] == ["user", "assistant", "user"]


def test_limit_is_a_nested_permutation():
    assert choose(5, None) == choose(5, 9) == [0, 1, 2, 3, 4]
    assert choose(100, 10) == choose(100, 20)[:10]
    assert choose(100, 10) != list(range(10))
    assert len(benchmark_of(limit=7).samples()) == 7


def test_refusals():
    with pytest.raises(DataError, match="counting: the source is empty"):
        benchmark_of(CountingSource(size=0))
    with pytest.raises(ConfigError, match="group"):
        benchmark_of(group="ocr")
    with pytest.raises(DataError, match="counting, sample '#3': the image is missing"):
        benchmark_of(CountingSource(broken=(3,))).samples()[3]


def test_ids_that_occur_twice_are_told_apart_by_position():
    benchmark = benchmark_of(CountingSource(size=4, twice=True, broken=(1,)))
    assert benchmark.repeats == {3: "q0#2"}
    assert [s.id for _, s in benchmark.readable() if isinstance(s, Sample)] == ["q0", "q2", "q0#2"]
    first, last = benchmark.samples()[0], benchmark.samples()[-1]
    assert (first.id, last.id) == ("q0", "q0#2")
    assert (first.messages, first.images) == (last.messages, last.images)
    assert benchmark_of().repeats == {}


@given(st.lists(st.sampled_from(["a", "a#2", "b", "a#3"]), max_size=12))
def test_every_sample_gets_an_id_of_its_own(names: list[str]):
    samples = [Sample(name, (Message("user", ("?",)), Message("assistant", ("!",)))) for name in names]
    benchmark = Benchmark(benchmark_of().config, samples, scorer=benchmark_of().scorer)
    given_ids = [sample.id for sample in benchmark.samples()]
    assert len(set(given_ids)) == len(names)
    assert all(given_ids[names.index(name)] == name for name in names), "the first keeps its own"


def test_score_and_clusters():
    benchmark = benchmark_of()
    sample = benchmark.samples()[5]
    score = benchmark.score(sample, " 5.\n")
    assert score == Score("q5", 1.0, "dot-3", "parsed", {"task": "parity 1"})
    assert benchmark.score(sample, " ").status == "empty"
    number = benchmark_of(scorer="number")
    assert number.score(sample, "a few").status == "unparsed"
    assert cluster_of(sample_of(1, picture=4, cluster=7)) == "7"
    assert cluster_of(sample_of(1)) == "q1"


def test_a_score_out_of_range_is_refused(monkeypatch):
    benchmark = benchmark_of()
    for value in (float("nan"), 1.5):
        monkeypatch.setattr(type(benchmark.scorer), "score", lambda self, sample, answer, value=value: value)
        with pytest.raises(RunError, match="expected 0 to 1"):
            benchmark.score(benchmark.samples()[0], "x")


def test_summary():
    benchmark = benchmark_of(scorer="number")
    answers = ["0", "1", "", "many"]
    summary = benchmark.summary([benchmark.score(s, a) for s, a in zip(benchmark.samples(), answers)])
    assert summary == {"score": 0.5, "empty": 0.25, "unparsed": 0.25, "task:parity 0": 0.5, "task:parity 1": 0.5}
    with pytest.raises(RunError, match="no score"):
        benchmark.summary([])


def test_fingerprints(monkeypatch):
    def config(**fields: object) -> SourceBenchmark:
        values = {"name": "n", "group": "general", "source": CountingSource(), "scorer": "exact", **fields}
        return SourceBenchmark(**values)

    plain = config()
    assert BenchmarkConfig.parse(plain.to_dict()) == plain
    assert config(scorer="number").questions_fingerprint() == plain.questions_fingerprint()
    assert config(scorer="number").fingerprint() != plain.fingerprint()
    for change in ({"prompt_suffix": "!"}, {"limit": 3}, {"max_new_tokens": 3}, {"source": CountingSource(size=3)}):
        assert config(**change).questions_fingerprint() != plain.questions_fingerprint()
        assert config(**change).fingerprint() != plain.fingerprint()
    before = plain.fingerprint(), plain.questions_fingerprint()
    changed = Contents.of([("the files changed", 1, "00")])
    monkeypatch.setattr(CountingSource, "reads", lambda self: changed)
    assert plain.fingerprint() != before[0]
    assert plain.questions_fingerprint() != before[1]
