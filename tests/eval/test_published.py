"""Every published benchmark from a made-up copy in its layout: loading, prompting, predicting and scoring, offline."""

from __future__ import annotations

import datasets
import pytest
from published_fixtures import FILES, mme, pope, write

from ommatidia.core.config import override
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import ImagePart
from ommatidia.eval import Benchmark, BenchmarkConfig, predict, score_file
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.show.listing import listing

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def opened(name: str, data, **fields: object) -> Benchmark:
    size = write(name, data)
    return BenchmarkConfig.parse({**BENCHMARKS[name], "data": data, "size": size, **fields}).open()


def full_marks(benchmark: Benchmark) -> dict[str, str]:
    """The right answer to every sample, as a terse model gives it."""
    return {sample.id: sample.answer for _, sample in benchmark.readable()}  # type: ignore[union-attr]


JUDGED = ("mm_vet", "llava_bench")


@pytest.mark.parametrize("name", [name for name in FILES if name not in JUDGED])
def test_end_to_end(name, tmp_path):
    benchmark = opened(name, tmp_path)
    right = full_marks(benchmark)
    assert len(right) == len(benchmark.samples()) > 1
    for label, answers in (("right", right), ("silent", dict.fromkeys(right, ""))):
        path = tmp_path / f"{label}.jsonl"
        done = predict(benchmark, lambda prompts, answers=answers: [answers[p.id] for p in prompts], path)
        assert done.asked == len(right)
        scored = score_file(benchmark, path)
        # The first of several captions is right, and yet not equal to the others.
        slack = 0.1 if name in ("coco_captions", "nocaps", "flickr30k") else 1e-9
        assert scored.mean == pytest.approx(1.0 if label == "right" else 0.0, abs=slack)
        assert scored.summary["score"] == pytest.approx(scored.mean)
        assert scored.interval.low <= scored.mean <= scored.interval.high
    for _, sample in benchmark.readable():
        prompt = benchmark.prompt(sample)
        assert sample.answer not in ("", prompt.messages[-1].text)
        assert all(picture.open().mode == "RGB" for picture in prompt.images)
        assert len(prompt.images) >= 1


def text(benchmark: Benchmark, number: int = 0) -> str:
    return benchmark.prompt(benchmark.samples()[number]).question


PROMPTS = {
    ("pope", "lmms-eval"): "\nIs there a box in the image?" + SHORT,
    ("pope", "official"): "\nIs there a box in the image?",
    ("mme", "lmms-eval"): "\nIs there a box here?" + SHORT,
    ("mme", "official"): "\nIs there a box here? Please answer yes or no.",
    ("gqa", "cambrian"): "\nIs it to the left?" + SHORT,
    ("textvqa", "lmms-eval"): "\nWhat does the sign in nyc say?" + SHORT,
    ("textvqa", "cambrian"): "\nWhat does the Sign in NYC say?\nReference OCR tokens: STOP, 4U" + SHORT,
    ("vizwiz", "lmms-eval"): "\nWhich can is it?\nWhen the provided information is insufficient, respond with "
    "'Unanswerable'." + SHORT,
    ("docvqa", "cambrian"): "\nWhat is the date?\nGive the short answer directly.",
    ("chartqa", "lmms-eval"): "\nWhat is the value?\nAnswer the question with a single word.",
    ("chartqa", "cambrian"): "\nWhat is the value?\nAnswer the question using a single number or phrase.",
    ("ocrbench", "lmms-eval"): "\nwhat is written in the image?",
    ("ai2d", "lmms-eval"): "\nWhich part?\nA. root\nB. leaf\nC. stem\nD. bud" + LETTER,
    ("seed", "cambrian"): "\nHow many? Options:\nA. one\nB. two\nC. three\nD. four" + LETTER,
    ("mmbench", "lmms-eval"): "\nIt is bright. Which colour? There are several options:\nA. red\nB. blue\n" + LETTER,
    ("mmbench", "cambrian"): "\nIt is bright.\nWhich colour? Options:\nA. red\nB. blue" + LETTER,
    ("mathvista", "lmms-eval"): "\nWhich?\nA. 3/11\nB. 8/11" + LETTER,
    ("mathvista", "official"): "\nHint: x\nQuestion: Which?",
    ("mmvp", "lmms-eval"): "\nIs the door open or closed?\nA. Open\nB. Closed" + LETTER,
    ("cv_bench_2d", "lmms-eval"): "\nNote: You only need to respond with A, B, C, D without providing any additional "
    "information.\n\nHow many boxs are in the image? Select from the following choices.\n(A) 0\n(B) 1\n(C) 2\n(D) 3",
    ("mm_vet", "official"): "\nWhat is x?",
    ("mm_vet", "lmms-eval"): "\nFirst please perform reasoning, and think step by step to provide best answer to the "
    "following question: \n\nWhat is x?",
    ("llava_bench", "lmms-eval"): "\nWhat is shown, part 0?",
    ("coco_captions", "lmms-eval"): "\nProvide a one-sentence caption for the provided image.",
}


@pytest.mark.parametrize(("name", "prompt"), PROMPTS)
def test_prompts_to_the_letter(name, prompt, tmp_path):
    assert text(opened(name, tmp_path, prompt=prompt)) == PROMPTS[name, prompt]


def test_other_words_of_one_benchmark(tmp_path):
    hinted = opened("scienceqa", tmp_path)
    assert text(hinted) == "\nWhich is solid?\nA. rock\nB. water" + LETTER
    assert text(hinted, 1).startswith("\nContext: Look closely.\nWhich")
    assert "Reference OCR token: STOP, 4U\nAnswer" in text(opened("textvqa", tmp_path, ocr=True))
    floats = opened("mathvista", tmp_path)
    assert text(floats, 1) == (
        "\nHow far? (Unit: m)\nAnswer the question using a single floating-point number with one decimal place."
    )
    assert text(floats, 2).endswith("using a single integer number.")


def test_mmmu_places_its_pictures(tmp_path):
    parts = opened("mmmu", tmp_path).samples()[0].messages[0].parts
    assert parts[0] == ImagePart(0)
    assert parts[1] == " What is it?\nA. a circle\nB. the painter's house\nC. "
    assert parts[2] == ImagePart(1)
    assert parts[3] == "\n" + LETTER
    first = opened("mmmu", tmp_path, interleaved=False).samples()[0]
    assert first.messages[0].parts[:2] == (ImagePart(0), ImagePart(1))
    alone = opened("mmmu", tmp_path, prompt="cambrian").samples()[0]
    assert len(alone.images) == 1
    assert "<image" not in alone.question
    open_question = opened("mmmu", tmp_path).samples()[1]
    assert open_question.meta["references"] == ("12", "12.0")


def test_the_prompt_brings_its_scorer_and_tokens():
    cambrian = BenchmarkConfig.parse({"kind": "pope", "prompt": "cambrian"})
    assert cambrian.scorer.variant == "cambrian"  # type: ignore[attr-defined]
    mine = BenchmarkConfig.parse({"kind": "mme", "prompt": "cambrian", "max_new_tokens": 5, "scorer": "mme"})
    assert (mine.max_new_tokens, mine.scorer.variant) == (5, "mme")  # type: ignore[attr-defined]
    assert BenchmarkConfig.parse(mine.to_dict()) == mine
    with pytest.raises(ConfigError, match="did you mean 'cambrian'"):
        BenchmarkConfig.parse({"kind": "pope", "prompt": "cambrain"})
    with pytest.raises(ConfigError, match="unknown split 'val'"):
        BenchmarkConfig.parse({"kind": "pope", "split": "val"})


def test_limit_keeps_pairs_and_rotations_whole(tmp_path):
    for name in ("mme", "mmbench", "mmvp"):
        benchmark = opened(name, tmp_path, limit=1)
        assert len(benchmark.samples()) == 2
        right = full_marks(benchmark)
        predict(benchmark, lambda prompts, right=right: [right[p.id] for p in prompts], tmp_path / f"{name}.jsonl")
        assert score_file(benchmark, tmp_path / f"{name}.jsonl").n == 1
    assert len(opened("pope", tmp_path, limit=5).samples()) == 5
    assert len(override(opened("mme", tmp_path).config, "limit", 3).open().samples()) == 4


def test_other_layouts(tmp_path):
    table = datasets.Dataset.from_list(mme())
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "saved" / "MME")
    config = BenchmarkConfig.parse({"kind": "mme", "data": tmp_path / "saved", "size": 8})
    assert len(config.open().samples()) == 8
    folder = tmp_path / "lines" / "mine"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(pope()[0]["image"]["bytes"])
    line = '{"question_id": 1, "question": "Is it?", "answer": "no", "category": "random", "image": "a.png"}\n'
    (folder / "test.jsonl").write_text(line)
    config = BenchmarkConfig.parse({"kind": "pope", "data": tmp_path / "lines", "folder": "mine", "size": 1})
    assert config.open().samples()[0].images[0].open().size == (24, 16)
    (folder / "a.png").unlink()
    with pytest.raises(DataError, match="no such image file"):
        config.open().samples()[0]


def test_wrong_copies_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"pope: .* is no folder; expected the split 'test'"):
        BenchmarkConfig.parse({"kind": "pope", "data": tmp_path}).open()
    write("pope", tmp_path)
    with pytest.raises(DataError, match="12 rows in the split 'test', expected 9000; set size=12"):
        BenchmarkConfig.parse({"kind": "pope", "data": tmp_path}).open()
    write("mme", tmp_path)
    wrong = BenchmarkConfig.parse({"kind": "ai2d", "data": tmp_path, "folder": "MME"})
    with pytest.raises(DataError, match="no column 'options'; there are"):
        wrong.open()
    broken = next((tmp_path / "MME/data").glob("*.parquet"))
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        BenchmarkConfig.parse({"kind": "mme", "data": tmp_path, "size": 8}).open()


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path):
    first = opened("chartqa", tmp_path / "a").config
    other = opened("chartqa", tmp_path / "b").config
    assert first.fingerprint() == other.fingerprint()
    assert (
        first.questions_fingerprint()
        != opened("chartqa", tmp_path / "a", prompt="cambrian").config.questions_fingerprint()
    )
    file = next((tmp_path / "b/ChartQA/data").glob("*.parquet"))
    file.write_bytes(file.read_bytes() + b" ")
    assert first.fingerprint() != other.fingerprint()


def test_they_are_listed():
    ((_, columns, rows),) = listing("benchmarks")
    assert columns == ("name", "group", "split", "size", "metric", "scored by", "prompts", "traps")
    by_name = {row[0]: row for row in rows}
    assert set(FILES) <= set(by_name)
    assert by_name["pope"][2:4] == ["test", 9000]
    assert by_name["cv_bench_2d"][3] == 1438
    assert by_name["gqa"][5:7] == ["rules", "lmms-eval, cambrian"]
    assert by_name["mm_vet"][5] == "a judge"
    assert by_name["mmbench"][5] == "rules, then a judge if one is named; a server for test"
    assert all(all(str(cell) for cell in row[4:]) for name, row in by_name.items() if name in FILES)
