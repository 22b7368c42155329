"""The plugin for lmms-eval: requests become our prompts, answers come in order; with the harness where there is one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from lab_toys import recipe
from PIL import Image

from ommatidia.core.errors import ConfigError
from ommatidia.core.types import ImagePart
from ommatidia.lab.saved import lmms
from ommatidia.models.build import build_model
from ommatidia.models.generate import generate
from ommatidia.models.pretrained import load, save

HARNESS = importlib.util.find_spec("lmms_eval") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = recipe("coarse", "vit").model
    return save(build_model(cfg, seed=0), cfg, tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As much of lmms-eval as the plugin touches, where it is not installed."""

    class Base:
        def __init__(self) -> None:
            self.task_dict: dict[str, Any] = {}

    if not HARNESS:
        for name, held in (
            ("lmms_eval", {}),
            ("lmms_eval.api", {}),
            ("lmms_eval.api.model", {"lmms": Base}),
            ("lmms_eval.models", {}),
            ("lmms_eval.models.registry_v2", {"ModelManifest": SimpleNamespace}),
        ):
            module = ModuleType(name)
            vars(module).update(held)
            monkeypatch.setitem(sys.modules, name, module)
    lmms.model_class.cache_clear()
    yield
    lmms.model_class.cache_clear()


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 30), (60 * n, 20, 200)) for n in range(count)]


def test_requests_are_answered_in_order_as_we_would(stand_in: None, folder: Path) -> None:
    model = lmms.OmmatidiaLmms(pretrained=str(folder), batch_size="4")  # type: ignore[attr-defined]
    shown = pictures(2)
    model.task_dict = {"toy": {"test": [{"image": shown[n % 2]} for n in range(6)]}}
    requests = [
        SimpleNamespace(
            args=("What?" * (n + 1), {"max_new_tokens": 3 + n % 2}, lambda doc: [doc["image"]], n, "toy", "test")
        )
        for n in range(6)
    ]
    said = model.generate_until(requests)
    own, processor = load(folder)
    for n, answer in enumerate(said):
        one = lmms.asked("x", "What?" * (n + 1), [shown[n % 2]], {"max_new_tokens": 3 + n % 2})
        assert generate(own, processor, [one.sample], one.decoding) == [answer]
    assert model.answering.shared.looked == 2
    with pytest.raises(NotImplementedError):
        model.loglikelihood([])
    named = lmms.manifest()
    assert (named.model_id, named.simple_class_path) == ("ommatidia", "ommatidia.lab.saved.lmms.OmmatidiaLmms")


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lmms.model_class.cache_clear()
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    monkeypatch.setitem(sys.modules, "lmms_eval.api", None)
    monkeypatch.setitem(sys.modules, "lmms_eval.api.model", None)
    with pytest.raises(ConfigError, match="needs the package lmms-eval"):
        lmms.model_class()


def test_a_request_becomes_a_prompt() -> None:
    one, two = pictures(2)
    plain = lmms.asked("x", "What?", [one, two], {"until": "\n\n"})
    assert plain.sample.messages[0].parts == (ImagePart(0), ImagePart(1), "\nWhat?")
    assert (plain.decoding.max_new_tokens, plain.decoding.temperature, plain.until) == (1024, 0.0, ("\n\n",))
    placed = lmms.asked("x", "In <image> and <image>, what?", [one, two], {})
    assert placed.sample.messages[0].parts == ("In ", ImagePart(0), " and ", ImagePart(1), ", what?")
    assert lmms.asked("x", "Hi", [], {}).sample.messages[0].parts == ("Hi",)
    gray = lmms.asked("x", "?", [one.convert("L")], {}).sample.images[0]
    assert (gray.open().mode, gray.size()) == ("RGB", (30, 40))
    sampled = lmms.asked("x", "?", [], {"do_sample": True, "temperature": 0.7, "top_p": None}).decoding
    assert (sampled.temperature, sampled.top_p) == (0.7, 1.0)
    assert lmms.asked("x", "?", [], {"do_sample": False, "temperature": 0.7}).decoding.temperature == 0.0
    for how, says in (({"num_beams": 3}, "only one beam"), ({"penalty_alpha": 1}, "'penalty_alpha' is not known")):
        with pytest.raises(ConfigError, match=says):
            lmms.asked("x", "?", [], how)
    with pytest.raises(ConfigError, match="1 places for 2 images"):
        lmms.asked("x", "<image>?", [one, two], {})
    assert lmms.cut("a b STOP c. d", ("STOP", ". ")) == "a b "
    assert lmms.cut("a b", ("", "x")) == "a b"


TASK = """
task: toy_colours
dataset_path: parquet
dataset_kwargs:
  data_files: {test: DATA}
test_split: test
output_type: generate_until
doc_to_visual: !function toy_task.visual
doc_to_text: !function toy_task.text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 3, do_sample: false, until: ["ASSISTANT:"]}
process_results: !function toy_task.results
metric_list:
  - {metric: told, aggregation: mean, higher_is_better: true}
"""
CODE = """
def visual(doc):
    return [doc["image"].convert("RGB")]
def text(doc, kwargs=None):
    return doc["question"]
def results(doc, said):
    return {"told": float(isinstance(said[0], str))}
"""


@pytest.mark.skipif(not HARNESS, reason="lmms-eval is not installed")
def test_the_harness_itself_runs_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [
        {"question": f"Which colour{'?' * (n + 1)}", "answer": "x", "image": one} for n, one in enumerate(pictures(4))
    ]
    features = datasets.Features({"question": datasets.Value("string"), "answer": datasets.Value("string")})
    features["image"] = datasets.Image()
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "test.parquet"))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/toy.yaml").write_text(TASK.replace("DATA", str(tmp_path / "test.parquet")))
    (tmp_path / "tasks/toy_task.py").write_text(CODE)
    lmms.model_class.cache_clear()
    found = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    model = lmms.OmmatidiaLmms(pretrained=str(folder))  # type: ignore[attr-defined]
    done = simple_evaluate(model=model, tasks=["toy_colours"], task_manager=found, batch_size=2, device="cpu")
    assert done["results"]["toy_colours"]["told,none"] == 1.0
    own, processor = load(folder)
    for n, sample in enumerate(done["samples"]["toy_colours"]):
        one = lmms.asked("x", rows[n]["question"], [rows[n]["image"]], {"max_new_tokens": 3})
        assert sample["filtered_resps"] == generate(own, processor, [one.sample], one.decoding)
