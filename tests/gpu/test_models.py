"""Every encoder, fusion and injection gives on the device what it gives on the CPU, gradients included."""

from __future__ import annotations

import copy

import pytest
import torch
from model_toys import config as tiny
from model_toys import lively, mixed_samples, parts_of
from tiles import Halves, cut_samples, opened

from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.fusion import FusionConfig
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.injection import InjectionConfig
from ommatidia.models.language import packed
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.models.vision import EncoderConfig

pytestmark = pytest.mark.gpu

LANGUAGE = {"kind": "scratch", "width": 32, "layers": 2, "heads": 2, "context": 256}


@pytest.mark.parametrize("kind", sorted(EncoderConfig.kinds()))
def test_an_encoder_is_the_same_on_the_device(kind: str) -> None:
    config = EncoderConfig.kinds()[kind].tiny()
    if kind == "diffusion":
        pytest.importorskip("diffusers")
    encoder = config.build()
    pixels_BCHW = torch.randn(2, 3, *config.preprocess().size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        here = encoder(pixels_BCHW)
        there = encoder.cuda()(pixels_BCHW.cuda())
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            half = encoder(pixels_BCHW.cuda()).float().cpu()
    assert (half - here).norm() < 0.05 * here.norm()


def joined(kind: str) -> MLLMConfig:
    fusion = FusionConfig.kinds()[kind].tiny()
    return (
        tiny("a", language=LANGUAGE, fusion=fusion)
        if kind == "none"
        else tiny("a", "b", language=LANGUAGE, fusion=fusion)
    )


def injected(kind: str) -> MLLMConfig:
    injection = InjectionConfig.kinds()[kind].tiny()
    if kind != "deep_sva":
        return tiny("a", language=LANGUAGE, injection=injection, tiling=Halves())
    fusion = {"kind": "sva", "side": 2, "width": 16, "depth": 1, "heads": 2, "groups": [2]}
    return tiny("a", "b", language=LANGUAGE, fusion=fusion, injection=injection, tiling=Halves())


def loss_and_gradients(model: MLLM, cfg: MLLMConfig, device: str) -> tuple[float, dict[str, torch.Tensor]]:
    processor, model = Processor(cfg), copy.deepcopy(model).to(device)
    batch = processor.collate([processor(sample) for sample in cut_samples()]).to(device)
    total, count = model.loss(batch)
    (total / count).backward()
    found = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    return float(total.detach() / count), found


@pytest.mark.parametrize("kind", sorted(InjectionConfig.kinds()))
def test_loss_and_gradients_of_every_injection(kind: str) -> None:
    cfg = injected(kind)
    model = lively(build_model(cfg, seed=0))
    opened(model.injection)
    here, gradients = loss_and_gradients(model, cfg, "cpu")
    there, others = loss_and_gradients(model, cfg, "cuda")
    assert there == pytest.approx(here, rel=1e-4)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-5, name


@pytest.mark.parametrize("kind", sorted(FusionConfig.kinds()))
def test_a_fusion_is_the_same_on_the_device(kind: str) -> None:
    try:
        cfg = joined(kind)
    except ValueError as error:
        pytest.skip(f"its tiny value does not join the toy encoders: {error}")
    model = lively(build_model(cfg, seed=0))
    here, _ = loss_and_gradients(model, cfg, "cpu")
    there, _ = loss_and_gradients(model, cfg, "cuda")
    assert there == pytest.approx(here, rel=1e-4)


def test_greedy_answers_are_the_same_words() -> None:
    cfg = tiny("a", "b", language=LANGUAGE)
    model, processor = parts_of(cfg)
    samples, decoding = mixed_samples(), Decoding(max_new_tokens=8)
    here = generate(model, processor, samples, decoding)
    assert generate(model.cuda(), processor, samples, decoding) == here


@pytest.mark.parametrize("kind", sorted(InjectionConfig.kinds()))
@pytest.mark.parametrize("half", [False, True])
def test_a_pack_is_its_samples_on_the_device(kind: str, half: bool) -> None:
    cfg = injected(kind)
    model = lively(build_model(cfg, seed=0)).cuda()
    opened(model.injection)
    processor = Processor(cfg)
    examples = [processor(sample) for sample in cut_samples()]
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
        padded, count = model.loss(processor.collate(examples).to("cuda"))
        together, counted = model.loss(processor.pack(examples).to("cuda"))
    assert counted == count
    assert float(together) == pytest.approx(float(padded), rel=0.02 if half else 1e-4)


def test_packs_in_half_precision_go_through_the_kernel_of_unlike_lengths() -> None:
    q_BATd = torch.randn(1, 4, 50, 32, device="cuda", dtype=torch.bfloat16)
    k_BNTd, v_BNTd = torch.randn(2, 1, 2, 50, 32, device="cuda", dtype=torch.bfloat16)
    mask = packed.boundaries((7, 1, 42), torch.device("cuda"))
    assert packed._kernel_takes(q_BATd, 0.0)
    for window in (None, 5):
        out, _ = packed.attend(torch.nn.Module(), q_BATd, k_BNTd, v_BNTd, mask, scaling=0.2, sliding_window=window)
        wide = [part.float().cpu() for part in (q_BATd, k_BNTd, v_BNTd)]
        exact, _ = packed.attend(torch.nn.Module(), *wide, mask.cpu(), scaling=0.2, sliding_window=window)
        assert (out.float().cpu() - exact).norm() < 0.01 * exact.norm()
