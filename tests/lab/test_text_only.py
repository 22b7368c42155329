"""Words alone through lm-eval: likelihoods and continuations are the model's own; with the harness if it is there."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lab_toys import recipe

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.lab.saved import text_only
from ommatidia.lab.saved.lmms import cut
from ommatidia.lab.saved.text_only import Words, compare_words
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import save

HARNESS = importlib.util.find_spec("lm_eval") is not None
MMLU = """include: TASKS/mmlu/default/_default_template_yaml
task: made_up_mmlu
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/mmlu.json, dev: FOLDER/mmlu.json}}
num_fewshot: 2
"""
GSM8K = """include: TASKS/gsm8k/gsm8k.yaml
task: made_up_gsm8k
dataset_path: json
dataset_name: null
dataset_kwargs: {data_files: {test: FOLDER/gsm8k.json, train: FOLDER/gsm8k.json}}
num_fewshot: 2
"""
CODE = """task: made_up_code
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/code.json}}
unsafe_code: true
output_type: generate_until
test_split: test
doc_to_text: "{{prompt}}"
doc_to_target: "{{test}}"
process_results: !function passing.passes
metric_list: [{metric: pass_at_1, aggregation: mean, higher_is_better: true}]
generation_kwargs: {until: ["\\nclass", "\\ndef", "\\n#", "\\nif", "\\nprint"], max_gen_toks: 1024, do_sample: false}
num_fewshot: 0
"""
PASSING = """
def passes(doc, results):
    names = {}
    try:
        exec(doc["prompt"] + results[0] + "\\n" + doc["test"], names)
    except Exception:
        return {"pass_at_1": 0.0}
    return {"pass_at_1": 1.0}
"""
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
    return save(build_model(config, seed=1), config, root / "after"), save(
        build_model(config, seed=2), config, root / "before"
    )


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
    assert same == (0.0, -1.0, 1.0)  # two equal questions exclude nothing
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


class Knowing(Words):
    """A model whose words are known beforehand: everything of the adapter runs but the network."""

    said: Mapping[str, str] = {}

    def generate(self, context: str, *, most: int) -> str:
        return next(text for part, text in self.said.items() if context.endswith(part))

    def likelihoods(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        return [(-1.0 if self.tokenizer.decode(behind).strip() == "B" else -2.0, False) for _, behind in pairs]


@pytest.mark.skipif(not HARNESS, reason="lm-eval is not installed")
def test_tasks_of_the_papers_kinds(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MMLU and GSM8K by the harness's own files, and code as HumanEval has it, each on made-up rows."""
    import lm_eval.tasks

    rows = {
        "mmlu": [{"question": f"{n}? ", "choices": ["red", "blue", "odd", "even"], "answer": n % 2} for n in range(4)],
        "gsm8k": [{"question": f"{n} and {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"} for n in (5, 7, 1200)],
        "code": [{"prompt": "def twice(x):\n", "test": "assert twice(2) == 4"},
                 {"prompt": "def half(x):\n", "test": "assert half(2) == 1"}],
    }  # fmt: skip
    for name, listed in rows.items():
        (tmp_path / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in listed))
    (tmp_path / "passing.py").write_text(PASSING)
    for name, text in (("mmlu", MMLU), ("gsm8k", GSM8K), ("code", CODE)):
        text = text.replace("TASKS", str(Path(lm_eval.tasks.__file__).parent)).replace("FOLDER", str(tmp_path))
        (tmp_path / f"{name}.yaml").write_text(text)
    said = {
        "Question: 5 and 5?\nAnswer:": " It is 10.\n#### 10\n\nQuestion: and so on #### 3",
        "Question: 7 and 7?\nAnswer:": " So $14.",
        "Question: 1200 and 1200?\nAnswer:": " #### 2,400",
        "def twice(x):\n": "    y = 2 * x\n    return y\n\nprint(never)",
        "def half(x):\n": "    return x\n",
    }
    monkeypatch.setattr(Knowing, "said", said)
    monkeypatch.setattr(text_only, "Words", Knowing)
    tasks = ["made_up_mmlu", "made_up_gsm8k", "made_up_code"]
    scores = compare_words(folders[0], None, tasks, include=tmp_path, run_code=True).data["scores"]
    assert scores["made_up_mmlu/acc,none"]["after"] == 0.5
    assert scores["made_up_gsm8k/exact_match,strict-match"]["after"] == pytest.approx(2 / 3)
    assert scores["made_up_gsm8k/exact_match,flexible-extract"]["after"] == 1.0
    assert scores["made_up_code/pass_at_1,none"]["after"] == 0.5
    with pytest.raises(RunError, match=r"--tasks made_up_code: lm-eval cannot run them: .*unsafe"):
        compare_words(folders[0], None, ["made_up_code"], include=tmp_path)


def test_stops_leave_the_indentation(folders: tuple[Path, Path]) -> None:
    assert cut("    return x\n\ndef next():", ["\nclass", "\ndef"]) == "    return x\n"
    assert cut(" 4\n", []) == " 4\n"
    words = Words(folders[0])
    short, long = "a few words", "word " * 999
    assert isinstance(words.generate(short, most=10_000), str)
    assert words.shortened == 0  # the prompt stays whole, the answer is shorter
    words.generate(long, most=10_000)
    words.likelihoods([words.pair(long, " a"), words.pair(short, " a")])
    assert words.shortened == 2
