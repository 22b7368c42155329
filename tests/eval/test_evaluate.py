"""Predict and score: nothing asked twice, nothing lost, nothing mixed up, nothing silently zero."""

from __future__ import annotations

import json
import random

import pytest
from eval_toys import CountingSource, Oracle, benchmark_of
from filelock import FileLock

from ommatidia.core.errors import DataError, RunError
from ommatidia.eval import Scored, predict, score_file
from ommatidia.eval.answers import read_answers


class KilledError(BaseException):
    """Stands for kill -9: nothing in the package may catch it."""


def test_predict_then_score(tmp_path):
    benchmark, oracle, path = benchmark_of(), Oracle(), tmp_path / "deep" / "answers.jsonl"
    done = predict(benchmark, oracle, path, batch=4, model="m1", count_tokens=len)
    assert (done.asked, done.kept, done.unreadable) == (20, 0, {})
    assert sorted(oracle.ids) == sorted(s.id for s in benchmark.samples())
    assert list(path.parent.iterdir()) == [path]
    line = json.loads(path.read_text().splitlines()[0])
    assert set(line) == {"id", "benchmark", "mode", "model", "prompt", "images", "answer", "seconds", "tokens"}
    scored = score_file(benchmark, path)
    assert (scored.mean, scored.n, scored.mode, scored.model) == (1.0, 20, "full", "m1")
    assert (scored.scorer, scored.scorer_version, scored.group) == ("exact", 1, "general")
    assert scored.ids == tuple(s.id for s in benchmark.samples())
    assert len(set(scored.clusters)) == scored.interval.clusters == 10
    assert scored.interval.low < 1.0 == scored.interval.high
    assert Scored.from_dict(json.loads(json.dumps(scored.to_dict()))) == scored


def test_batches_are_by_length_and_keep_questions_on_a_picture_together(tmp_path):
    benchmark, asked = benchmark_of(), []

    def answerer(prompts):
        asked.append(prompts)
        return ["x"] * len(prompts)

    predict(benchmark, answerer, tmp_path / "a.jsonl", batch=5)
    assert [len(batch) for batch in asked] == [5, 5, 5, 5]
    flat = [prompt for batch in asked for prompt in batch]
    pairs = list(zip(flat[::2], flat[1::2]))
    assert all(one.images == other.images for one, other in pairs)
    longest = [max(len(prompt.question) for prompt in pair) for pair in pairs]
    assert longest == sorted(longest, reverse=True)
    asked.clear()
    predict(benchmark, answerer, tmp_path / "blind.jsonl", mode="blind", batch=5)
    lengths = [len(prompt.question) for batch in asked for prompt in batch]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_and_resumed(tmp_path, seed):
    chance = random.Random(seed)
    straight, path = tmp_path / "straight.jsonl", tmp_path / "killed.jsonl"
    benchmark = benchmark_of()
    predict(benchmark, Oracle(), straight, batch=3)
    asked: list[str] = []
    while True:
        fatal = chance.randint(1, 3)

        def change(call, answer, fatal=fatal):
            if call == fatal:
                raise KilledError
            return answer

        oracle = Oracle(change)
        try:
            predict(benchmark, oracle, path, batch=3)
        except KilledError:
            kept = read_answers(path) if path.exists() else {}
            asked += [name for name in oracle.ids if name in kept]
            if path.exists() and path.stat().st_size and chance.random() < 0.5:  # the kill came amid a line
                whole = path.read_bytes()
                torn = whole[: whole.rstrip(b"\n").rfind(b"\n") + 1 + chance.randint(1, 20)]
                lost = set(kept) - set(read_answers_of(torn, tmp_path))
                asked = [name for name in asked if name not in lost]
                path.write_bytes(torn)
            continue
        asked += oracle.ids
        break
    assert sorted(asked) == sorted(s.id for s in benchmark.samples())  # each once
    assert path.read_bytes().count(b"\n") == 20
    a, b = score_file(benchmark, straight), score_file(benchmark, path)
    assert a.scores == b.scores
    assert predict(benchmark, Oracle(), path).asked == 0


def read_answers_of(content, folder):
    copy = folder / "copy.jsonl"
    copy.write_bytes(content)
    return read_answers(copy)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    predict(benchmark_of(), Oracle(), path, model="m1")
    for benchmark, options, what in (
        (benchmark_of(name="other"), {"model": "m1"}, "benchmark 'counting', expected 'other'"),
        (benchmark_of(), {"model": "m2"}, "model 'm1', expected 'm2'"),
        (benchmark_of(), {"model": "m1", "mode": "blind"}, "mode 'full', expected 'blind'"),
        (benchmark_of(prompt_suffix="!"), {"model": "m1"}, "other prompt"),
        (benchmark_of(max_new_tokens=3), {"model": "m1"}, "other prompt"),
        (benchmark_of(CountingSource(size=10)), {"model": "m1"}, "does not ask"),
    ):
        before = path.read_bytes()
        with pytest.raises(RunError, match=what):
            predict(benchmark, Oracle(), path, **options)
        assert path.read_bytes() == before
    for benchmark in (
        benchmark_of(name="other"),
        benchmark_of(prompt_suffix="!"),
        benchmark_of(CountingSource(size=10)),
    ):
        with pytest.raises(RunError):
            score_file(benchmark, path)


def test_other_pictures_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    predict(benchmark_of(), Oracle(), path)
    lines = path.read_text().splitlines()
    lines[0] = lines[0].replace("dot-", "spot-")
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match="other images"):
        predict(benchmark_of(), Oracle(), path)


def test_damage_and_gaps_are_told(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(RunError, match="cannot read"):
        score_file(benchmark_of(), path)
    path.write_text("")
    with pytest.raises(RunError, match="no answer"):
        score_file(benchmark_of(), path)
    predict(benchmark_of(), Oracle(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 9])
    with pytest.raises(RunError, match="1 of 20 samples have no answer yet"):
        score_file(benchmark_of(), path)
    for damage in (b"nonsense\n", b"[1]\n", b'{"id": "q1"}\n', b'{"colour": 3}\n'):
        path.write_bytes(damage + whole)
        with pytest.raises(RunError, match="line 1"):
            predict(benchmark_of(), Oracle(), path)


def test_unreadable_samples_are_counted_and_listed(tmp_path):
    path, source = tmp_path / "a.jsonl", CountingSource(broken=(3,))
    with pytest.raises(DataError, match=r"'#3': 1 of 20 samples unreadable, tolerated 0.0%.*image is missing"):
        predict(benchmark_of(source), Oracle(), path)
    tolerant = benchmark_of(source, tolerance=0.05)
    assert predict(tolerant, Oracle(), path).unreadable == {"#3": "the image is missing"}
    assert predict(tolerant, Oracle(), path).asked == 0
    assert path.read_text().count("unreadable") == 1
    scored = score_file(tolerant, path)
    assert (scored.n, scored.mean, scored.unreadable) == (19, 1.0, {"#3": "the image is missing"})
    with pytest.raises(DataError, match="1 of 20"):
        score_file(benchmark_of(source), path)
    mended = benchmark_of()
    assert predict(mended, Oracle(), path).asked == 1
    assert score_file(mended, path).n == 20


@pytest.mark.parametrize("named", [True, False])
def test_a_sample_the_answerer_cannot_read(tmp_path, named):
    path, benchmark, oracle = tmp_path / "a.jsonl", benchmark_of(tolerance=0.05), Oracle()

    def answerer(prompts):
        if any(p.id == "q7" for p in prompts):
            raise DataError("truncated file", sample="q7" if named else "")
        return oracle(prompts)

    done = predict(benchmark, answerer, path, batch=5)
    assert (done.asked, done.unreadable) == (19, {"q7": "truncated file"})
    assert score_file(benchmark, path).unreadable == {"q7": "truncated file"}
    with pytest.raises(DataError, match="truncated"):
        predict(benchmark_of(), answerer, tmp_path / "b.jsonl")


def test_answers_must_match_prompts(tmp_path):
    for answerer in (lambda prompts: ["x"], lambda prompts: [None] * len(prompts)):
        with pytest.raises(RunError, match="answers to 8 prompts"):
            predict(benchmark_of(), answerer, tmp_path / "a.jsonl")


def test_odd_answers_survive(tmp_path):
    odd = '\ud800 \u2028 caf\u00e9 \x00\n\r"{'
    path = tmp_path / "a.jsonl"
    predict(benchmark_of(), lambda prompts: [odd] * len(prompts), path)
    assert {record.answer for record in read_answers(path).values()} == {odd}
    assert score_file(benchmark_of(), path).mean == 0.0


def test_blind_answers_without_pictures(tmp_path):
    def answerer(prompts):
        assert all(p.images == () for p in prompts)
        return ["1"] * len(prompts)

    path = tmp_path / "a.jsonl"
    predict(benchmark_of(), answerer, path, mode="blind")
    scored = score_file(benchmark_of(), path)
    assert (scored.mode, scored.mean) == ("blind", 0.05)
    assert scored.interval.clusters == 10  # still clustered by the image that was hidden


@pytest.mark.parametrize("mode", ["blank", "shuffled"])
def test_false_pictures(tmp_path, mode):
    path, benchmark = tmp_path / "a.jsonl", benchmark_of()
    predict(benchmark, Oracle(), path, mode=mode)
    assert predict(benchmark, Oracle(), path, mode=mode).asked == 0
    assert score_file(benchmark, path).mode == mode


def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    with FileLock(f"{path}.lock"), pytest.raises(RunError, match="another process"):
        predict(benchmark_of(), Oracle(), path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write answers"):
        predict(benchmark_of(), Oracle(), tmp_path / "file" / "a.jsonl")
