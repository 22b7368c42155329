"""Contracts of every registered injection, inside a tiny model. A new injection needs no test here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_toys import config, lively
from tiles import Halves, cut_samples, opened
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ommatidia.core.types import Batch
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.injection import InjectionConfig
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load, save
from ommatidia.models.processor import Processor

LANGUAGE = {"kind": "scratch", "width": 32, "layers": 2, "heads": 2, "context": 256}


def model_config(kind: str, tiling: Halves | str = "whole") -> MLLMConfig:
    injection = InjectionConfig.kinds()[kind].tiny()
    if kind != "deep_sva":
        return config("a", language=LANGUAGE, injection=injection, tiling=tiling)
    fusion = {"kind": "sva", "side": 2, "width": 16, "depth": 1, "heads": 2, "groups": [2]}  # what it looks at again
    return config("a", "b", language=LANGUAGE, fusion=fusion, injection=injection, tiling=tiling)


@pytest.fixture(params=sorted(InjectionConfig.kinds()))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cfg(kind: str) -> MLLMConfig:
    return model_config(kind, Halves())


@pytest.fixture
def model(cfg: MLLMConfig) -> MLLM:
    """As a training would leave it: matrices and gates that matter."""
    model = lively(build_model(cfg, seed=0))
    opened(model.injection)
    return model


def batch(cfg: MLLMConfig, *rows: int, left: bool = False) -> Batch:
    processor, samples = Processor(cfg), cut_samples()
    return processor.collate([processor(samples[row]) for row in rows or range(len(samples))], left=left)


def learn(model: MLLM, cfg: MLLMConfig, parts: list[torch.nn.Module]) -> None:
    parameters = [p for part in parts for p in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=0.05)
    model.loss(batch(cfg))[0].backward()
    optimiser.step()


def test_gradient_reaches_every_parameter_through_a_frozen_language_model(model: MLLM, cfg: MLLMConfig) -> None:
    model.language.requires_grad_(False)
    model.loss(batch(cfg))[0].backward()
    learning = [(n, p) for part in (model.injection, model.projector) for n, p in part.named_parameters()]
    assert learning
    assert [n for n, p in learning if p.grad is None or not p.grad.abs().any()] == []
    assert all(p.grad is None for p in model.language.parameters())


def test_frozen_is_bit_identical_after_others_have_learned(model: MLLM, cfg: MLLMConfig) -> None:
    model.injection.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.injection.state_dict().items()}
    learn(model, cfg, [model.projector, model.language])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.injection.state_dict().items())


@pytest.mark.parametrize("left", [False, True])
def test_every_row_of_a_mixed_batch_is_as_if_alone(model: MLLM, cfg: MLLMConfig, left: bool) -> None:
    with torch.no_grad():
        together = batch(cfg, left=left)
        h_BTE = model(together)
        assert h_BTE.isfinite().all()
        for row in range(len(cut_samples())):
            alone = model(batch(cfg, row))[0]
            torch.testing.assert_close(h_BTE[row][together.mask_BT[row]], alone, rtol=1e-3, atol=1e-4)


def test_words_without_pictures_are_the_language_models_own(model: MLLM, cfg: MLLMConfig) -> None:
    words = batch(cfg, 0)
    with torch.no_grad():
        own = model.language(model.language.embed(words.ids_BT), words.mask_BT)
        together = batch(cfg)
        row = model(together)[0][together.mask_BT[0]]
        torch.testing.assert_close(row, own[0], rtol=1e-3, atol=1e-4)
        ran = [0]
        for module in model.injection.modules():
            module.register_forward_hook(lambda *_: ran.append(1))
        assert torch.equal(model(words), own)
    assert ran == [0]


def test_at_the_start_the_decoder_is_what_it_was_and_a_step_changes_that(cfg: MLLMConfig) -> None:
    model = build_model(cfg, seed=0).eval()
    pictures = batch(cfg)

    def layers_change() -> float:
        with torch.no_grad():
            x_BTE, seen = model.embed(pictures)
            plain = model.language(x_BTE, pictures.mask_BT)
            return float((model.read(x_BTE, pictures.mask_BT, seen) - plain).abs().max())

    assert layers_change() == 0.0
    if cfg.injection.attends == "none":
        return
    learn(model, cfg, [model.injection])
    assert layers_change() > 1e-4


def test_state_and_config_round_trips(model: MLLM, cfg: MLLMConfig) -> None:
    other = build_model(cfg, seed=1).eval()
    assert list(other.injection.state_dict()) == list(model.injection.state_dict())
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(batch(cfg)), other(batch(cfg)))
    again = InjectionConfig.parse(cfg.injection.to_dict())
    assert again == cfg.injection
    assert again.digest() == cfg.injection.digest()


def test_same_seed_same_weights(cfg: MLLMConfig) -> None:
    one, two = (build_model(cfg, seed=3).injection.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("row", [1, 3])
def test_cost(kind: str, row: int) -> None:
    """Of an image that is cut and one that is not: what the decoder does is counted elsewhere and subtracted here."""
    cfg = model_config(kind, Halves(tags=False))
    model, one = build_model(cfg, seed=0).eval(), batch(cfg, row)
    assert one.views is not None
    cost = cfg.injection.cost(cfg.injection_context(), tokens=one.ids_BT.shape[1], views=len(one.views))
    assert cost.parameters == sum(p.numel() for p in model.injection.parameters())
    with torch.no_grad():
        x_BTE, seen = model.embed(one)
        counts = []
        for shown in (seen, None):
            with FlopCounterMode(display=False) as counter:
                model.read(x_BTE, one.mask_BT, shown)
            counts.append(counter.get_total_flops())
    assert counts[0] - counts[1] == pytest.approx(cost.flops, rel=0.01)


def test_bf16_stays_close_to_fp32(kind: str) -> None:
    cfg = model_config(kind, Halves())
    model = build_model(cfg, seed=0).eval()
    opened(model.injection)
    exact = model(batch(cfg))
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(batch(cfg)).float()
    assert (rough - exact).norm() <= 0.02 * exact.norm()


def test_generating_in_a_batch_with_a_cache_says_what_one_by_one_without_says(model: MLLM, cfg: MLLMConfig) -> None:
    processor, samples = Processor(cfg), cut_samples()
    processor.end_id = None
    decoding = Decoding(max_new_tokens=6)
    together = generate(model, processor, samples, decoding)
    assert len(set(together)) > 2
    assert together == [generate(model, processor, [one], decoding)[0] for one in samples]
    for one, said in zip(samples, together, strict=True):
        assert (
            said
            == processor.tokenizer.decode(uncached(model, processor.collate([processor(one, answer=False)]))).strip()
        )


def uncached(model: MLLM, prompt: Batch) -> list[int]:
    """Greedy ids of one row from the whole sequence at every step."""
    new: list[int] = []

    def behind(tensor: Tensor, more: Tensor) -> Tensor:
        return torch.cat([tensor, more], 1)

    with torch.no_grad():
        for _ in range(6):
            new.append(int(model.language.head(model(prompt)[:, -1]).argmax()))
            prompt.ids_BT = behind(prompt.ids_BT, torch.tensor([new[-1:]]))
            prompt.mask_BT = behind(prompt.mask_BT, torch.tensor([[True]]))
            if prompt.visible_views_BT2 is not None:
                prompt.visible_views_BT2 = behind(prompt.visible_views_BT2, prompt.visible_views_BT2[:, -1:])
            prompt.question_mask_BT = None
    return new


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_decoder_that_recomputes_its_blocks_has_the_same_gradients(
    model: MLLM, cfg: MLLMConfig, reentrant: bool
) -> None:
    model.train()

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model.loss(batch(cfg))[0].backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.language.decoder.gradient_checkpointing_enable({"use_reentrant": reentrant})
    recomputed = gradients()
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-3, atol=1e-4)


def test_a_saved_model_comes_back(kind: str, tmp_path: Path) -> None:
    cfg = model_config(kind)
    model = build_model(cfg, seed=0).eval()
    opened(model.injection)
    loaded, processor = load(save(model, cfg, tmp_path / "model"))
    assert processor.config.injection == cfg.injection
    with torch.no_grad():
        assert torch.equal(loaded(batch(cfg)), model(batch(cfg)))
