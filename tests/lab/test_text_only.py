"""Words alone through lm-eval: likelihoods and continuations are the model's own; with the harness if it is there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lab_toys import recipe

from ommatidia.core.errors import ConfigError
from ommatidia.lab import text_only
from ommatidia.lab.text_only import Words, compare_words
from ommatidia.models.pretrained import save

HARNESS = importlib.util.find_spec("lm_eval") is not None
TASK = """task: toy_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}]
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    config, root = recipe("coarse").model, tmp_path_factory.mktemp("models")
    return save(config.build(seed=1), config, root / "after"), save(config.build(seed=2), config, root / "before")


def by_hand(words: Words, before: list[int], behind: list[int]) -> tuple[float, bool]:
    """Token by token, each from everything before it."""
    total, greedy = 0.0, True
    for n, token in enumerate(behind):
        ids_BT = torch.tensor([[*before, *behind[:n]]])
        with torch.no_grad():
            h_BTE = words.model.language(words.model.language.embed(ids_BT), torch.ones_like(ids_BT, dtype=torch.bool))
            said_V = words.model.language.head(h_BTE[0, -1:])[0].log_softmax(-1)
        total, greedy = total + float(said_V[token]), greedy and int(said_V.argmax()) == token
    return total, greedy


def test_likelihoods_are_sums_over_the_continuation(folders: tuple[Path, Path]) -> None:
    words = Words(folders[0], batch=3)
    asked = [
        ("What colour is it?", " red"),
        ("Two words ", "blue and green"),
        ("", "red"),
        ("a", " b"),
        ("x y z", " w"),
    ]
    pairs = [words.pair(*one) for one in asked]
    for (score, greedy), (before, behind) in zip(words.likelihoods(pairs), pairs, strict=True):
        expected = by_hand(words, before, behind)
        assert score == pytest.approx(expected[0], abs=1e-3)
        assert greedy == expected[1]
    assert words.tokenizer.decode(pairs[1][0]) == "Two words"  # the space went over to the continuation
    assert pairs[2][0] == [words.first]


def test_a_greedy_continuation_is_greedy_and_fits(folders: tuple[Path, Path]) -> None:
    words = Words(folders[0])
    ids = list(words.tokenizer.encode("count to three", special=False))
    said: list[int] = []
    for _ in range(5):
        with torch.no_grad():
            ids_BT = torch.tensor([[*ids, *said]])
            h_BTE = words.model.language(words.model.language.embed(ids_BT), torch.ones_like(ids_BT, dtype=torch.bool))
            said.append(int(words.model.language.head(h_BTE[0, -1:])[0].argmax()))
    end = words.tokenizer.eos_id
    said = said[: said.index(end)] if end in said else said
    assert words.generate("count to three", most=5) == words.tokenizer.decode(said)
    assert isinstance(words.generate("word " * 999, most=3), str)  # longer than the context: its beginning goes
    text = "one two three four"
    tokens = list(words.tokenizer.encode(text, special=False))
    assert words.rolling(text) == pytest.approx(by_hand(words, [words.first], tokens)[0], abs=1e-3)
    words.context = 3
    windows = [tokens[n : n + 3] for n in range(0, len(tokens), 3)]
    before = [[words.first], *([w[-1]] for w in windows[:-1])]
    expected = sum(by_hand(words, b, w)[0] for b, w in zip(before, windows, strict=True))
    assert words.rolling(text) == pytest.approx(expected, abs=1e-3)


def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of lm-eval as the adapter touches: two questions, an answer's likelihood and a continuation each."""

    class Base:
        pass

    def evaluate(model: Any, tasks: list[str], **rest: Any) -> dict[str, Any]:
        assert isinstance(model, Base)
        assert rest["confirm_run_unsafe_code"] is False
        asked = [SimpleNamespace(args=(f"question {n}", f" {word}")) for n in range(2) for word in ("yes", "no")]
        scores = [score for score, _ in model.loglikelihood(asked)]
        said = model.generate_until([SimpleNamespace(args=("q", {"until": ["\n"], "max_gen_toks": 2}))])
        assert len(said) == len(model.loglikelihood_rolling([SimpleNamespace(args=("a b",))])) == 1
        right = [float(scores[2 * n] > scores[2 * n + 1]) for n in range(2)]
        samples = [{"doc_id": n, "filter": "none", "acc": value} for n, value in enumerate(right)]
        figures = {"alias": "toy", "acc,none": sum(right) / 2, "acc_stderr,none": "N/A"}
        return {"results": {"toy": figures}, "samples": {"toy": samples}, "n-samples": {"toy": {"effective": 2}}}

    class Tasks:
        def __init__(self, include_path: str | None = None) -> None:
            self.known = {"toy"}

        def match_tasks(self, names: list[str]) -> list[str]:
            return [name for name in names if name in self.known]

    parts = {
        "lm_eval": {"simple_evaluate": evaluate}, "lm_eval.api": {}, "lm_eval.api.model": {"LM": Base},
        "lm_eval.tasks": {"TaskManager": Tasks},
    }  # fmt: skip
    for name, held in parts.items():
        module = ModuleType(name)
        module.__dict__.update(held)
        monkeypatch.setitem(sys.modules, name, module)


def test_before_and_after_in_a_table(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    text_only.model_class.cache_clear()
    fake(monkeypatch)
    told = compare_words(*folders, ["toy"])
    one = told.data["scores"]["toy/acc,none"]
    assert one["difference"][0] == pytest.approx(one["after"] - one["before"])
    assert told.tables[0][2][0][:3] == ["toy", "acc (none)", 2]
    same = compare_words(folders[0], folders[0], ["toy"]).data["scores"]["toy/acc,none"]["difference"]
    assert same == (0.0, 0.0, 0.0)
    assert compare_words(folders[0], None, ["toy"]).data["scores"]["toy/acc,none"]["before"] is None
    with pytest.raises(ConfigError, match="lm-eval knows no task 'mmluu'"):
        compare_words(*folders, ["mmluu"])
    adapter = text_only.model_class()(Words(folders[0]))
    with pytest.raises(ConfigError, match="generation setting 'num_beams' is not known"):
        adapter.generate_until([SimpleNamespace(args=("q", {"num_beams": 3}))])
    text_only.model_class.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(ConfigError, match=r"pip install 'ommatidia\[text\]'"):
        compare_words(*folders, ["toy"])
    text_only.model_class.cache_clear()


@pytest.mark.skipif(not HARNESS, reason="lm-eval is not installed")
def test_the_harness_itself(folders: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [{"question": f"{n} and {n}?", "choices": ["red", "blue"], "answer": n % 2} for n in range(6)]
    (tmp_path / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "toy.yaml").write_text(TASK.replace("FILE", str(tmp_path / "rows.json")))
    told = compare_words(*folders, ["toy_choice"], include=tmp_path)
    one = told.data["scores"]["toy_choice/acc,none"]
    assert one["n"] == 6
    assert one["difference"][0] == pytest.approx(one["after"] - one["before"])
