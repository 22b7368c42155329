"""Inside the language model: states as transformers counts them, likeness by hand, attention that adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lab_toys import APPEND, COARSE, CONCAT, FINE, benchmark, recipe
from PIL import Image

from ommatidia.core.errors import ConfigError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.lab.analysis.alignment import align_checkpoints, attend, look
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.pretrained import save
from ommatidia.models.probing import answer_attention, attention, deep_alignment, likeness, states
from ommatidia.models.processor import Processor
from ommatidia.models.vision.tiling import TilingConfig

LANGUAGE = {"kind": "scratch", "width": 32, "layers": 3, "heads": 2, "context": 256}


def mixture(fusion, **changes) -> MLLMConfig:
    data = recipe("coarse", "fine").model.to_dict()
    encoders = {"coarse": COARSE, "fine": FINE}
    return MLLMConfig.parse(data | {"encoders": encoders, "fusion": fusion, "language": LANGUAGE} | changes)


@pytest.fixture(scope="module")
def opened():
    return BenchmarkConfig.parse(benchmark("attributes", "general")).open()


@pytest.fixture(scope="module")
def appended():
    config = mixture(APPEND)
    return build_model(config, seed=1).eval(), Processor(config)


def test_states_are_those_of_transformers(appended, opened):
    model, processor = appended
    batch = processor.collate([processor(s) for s in opened.samples()[:2]])
    found = states(model, batch)
    x_BTE, _ = model.embed(batch)
    positions = (batch.mask_BT.long().cumsum(-1) - 1).clamp(min=0)
    out = model.language.decoder.base_model(
        inputs_embeds=x_BTE,
        attention_mask=batch.mask_BT.long(),
        position_ids=positions,
        use_cache=False,
        output_hidden_states=True,
    )
    assert len(found) == 4
    for ours, theirs in zip(found, out.hidden_states, strict=True):
        torch.testing.assert_close(ours[batch.mask_BT], theirs[batch.mask_BT])  # padding may say anything


def test_likeness_by_hand():
    v = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    t = torch.tensor([[3.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
    half = 2**-0.5
    rows, columns = (1 + half) / 2, (1 + half + 0) / 3
    assert likeness(v, t) == pytest.approx((rows + columns) / 2)
    assert likeness(v, v) == pytest.approx(1.0)


def test_alignment_does_not_depend_on_the_batch(appended, opened):
    model, processor = appended
    examples = [processor(s) for s in opened.samples()[:3]]
    together = deep_alignment(model, processor.collate(examples))
    alone = [deep_alignment(model, processor.collate([example]))[0] for example in examples]
    assert torch.tensor(together).shape == (3, 4)
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), atol=1e-5, rtol=1e-5)


def test_attention_is_a_distribution_and_leaves_no_trace(appended, opened):
    model, processor = appended
    batch = processor.collate([processor(opened.samples()[0])])
    before = model.language.decoder.config._attn_implementation
    plain = model(batch)
    a_LTT = attention(model, batch)
    torch.testing.assert_close(a_LTT.sum(-1), torch.ones(a_LTT.shape[:2]))
    assert not a_LTT.triu(1).any()
    assert model.language.decoder.config._attn_implementation == before
    assert torch.equal(model(batch), plain)


def test_answer_attention_is_what_predicts_the_answer(appended, opened):
    model, processor = appended
    example = processor(opened.samples()[0])
    batch = processor.collate([example])
    heat_LKHW = answer_attention(model, batch, (4, 2))
    assert heat_LKHW.shape == (3, 1, 4, 2)
    rows = [t - 1 for t in range(len(example.ids)) if example.labels[t] != -100]
    slots = [t for t in range(len(example.ids)) if example.ids[t] == -200]
    wanted = attention(model, batch)[:, rows][:, :, slots].mean(1)
    torch.testing.assert_close(heat_LKHW.flatten(1), wanted)


@pytest.mark.parametrize("kind", ["sequence_append", "interleave"])
def test_experts_share_the_attention_out(kind, opened):
    fusion = {**APPEND, "kind": kind}
    config = mixture(fusion)
    own = config.fusion.own_tokens(config.grids())
    fused = config.fused_grid()
    owner = torch.zeros(fused.height, fused.width, dtype=torch.long)
    model, processor = build_model(config, seed=1).eval(), Processor(config)
    batch = processor.collate([processor(opened.samples()[0])])
    features = {n: torch.full_like(x, float(i + 1)) for i, (n, x) in enumerate(model.encode(batch).items())}
    for number, (rows, columns) in enumerate(own.values(), start=1):
        assert not owner[rows, columns].any()
        owner[rows, columns] = number
    assert owner.all()
    # Constant features of one encoder give one constant token: the map says where they stand.
    y_HWD = model.fusion(features, batch.views).y_KHWD[0]
    for number in (1, 2):
        tokens = y_HWD[owner == number]
        torch.testing.assert_close(tokens, tokens[:1].expand_as(tokens))
    assert not torch.allclose(y_HWD[owner == 1][0], y_HWD[owner == 2][0])
    assert mixture(CONCAT).fusion.own_tokens(config.grids()) == {}


def test_tiles_are_put_back_in_their_place(opened):
    config = mixture(APPEND, tiling=TilingConfig.kinds()["dynamic"].tiny().to_dict())
    model, processor = build_model(config, seed=1).eval(), Processor(config)
    heat_LKHW = look(model, processor, opened.samples()[0])
    assert heat_LKHW.shape[1] == len(processor(opened.samples()[0]).views)


def test_both_commands_end_to_end(opened, tmp_path: Path):
    config = mixture(APPEND)
    folders = {
        name: save(build_model(config, seed=s), config, tmp_path / name) for s, name in enumerate(("one", "two"))
    }
    told = align_checkpoints(folders, opened, out=tmp_path / "out", batch=5)
    data = json.loads((tmp_path / "out" / "alignment.json").read_text())
    assert {name: len(curve) for name, curve in data["models"].items()} == {"one": 4, "two": 4}
    assert all(p["low"] <= p["mean"] <= p["high"] for curve in data["models"].values() for p in curve)
    assert len(told.tables[0][2]) == 2
    assert (tmp_path / "out" / "alignment.svg").read_text().count("polyline") == 4

    Image.new("RGB", (48, 30), (200, 30, 30)).save(tmp_path / "red.png")
    found = attend(folders["one"], tmp_path / "red.png", "what colour?", out=tmp_path / "see.png", answer="red")
    assert Image.open(tmp_path / "see.png").size[0] > 300
    numbers = json.loads((tmp_path / "see.json").read_text())
    assert set(numbers["shares"]) == {"coarse", "fine"}
    assert sum(numbers["shares"].values()) == pytest.approx(sum(numbers["share_by_layer"]) / 3)
    assert 0 < sum(found.data["shares"].values()) < 1


def test_a_design_without_visual_tokens_is_refused(opened, tmp_path: Path):
    config = mixture(CONCAT, injection="cross_attention")
    folder = save(build_model(config, seed=1), config, tmp_path / "model")
    with pytest.raises(ConfigError, match="puts no visual token into the sequence"):
        align_checkpoints({"x": folder}, opened, out=tmp_path)
