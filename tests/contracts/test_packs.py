"""A pack is its samples one by one: over every injection and every fusion, losses, gradients and hidden states."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_toys import config, lively
from tiles import Halves, cut_samples, opened

from ommatidia.core.types import IGNORE_LABEL, Batch, Example
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.fusion import FusionConfig
from ommatidia.models.injection import InjectionConfig
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor

LANGUAGE = {"kind": "scratch", "width": 32, "layers": 2, "heads": 2, "context": 256}
SVA = {"kind": "sva", "side": 2, "width": 16, "depth": 1, "heads": 2, "groups": [2]}


def injected(kind: str) -> MLLMConfig:
    injection = InjectionConfig.kinds()[kind].tiny()
    if kind != "deep_sva":
        return config("a", language=LANGUAGE, injection=injection, tiling=Halves())
    return config("a", "b", language=LANGUAGE, fusion=SVA, injection=injection, tiling=Halves())


def fused(kind: str) -> MLLMConfig:
    member = FusionConfig.parse(SVA) if kind == "sva" else FusionConfig.kinds()[kind].tiny()
    if kind == "mixture_of_resolution":  # it steers blocks, which the patches of ``a`` have none of
        blocks = {"kind": "clip", "width": 16, "depth": 2, "heads": 2, "hidden": 16, "patch": 8, "pretrained_size": 16}
        encoders = {name: {**blocks, "image_size": size} for name, size in (("slow", 16), ("fast", 32))}
        return config("a", language=LANGUAGE, encoders=encoders, fusion=member.model_copy(update={"adapters": 1}))
    return config(*(("a",) if kind == "none" else ("a", "b")), language=LANGUAGE, fusion=member)


DESIGNS = {f"injection {kind}": injected for kind in InjectionConfig.kinds()}
DESIGNS |= {f"fusion {kind}": fused for kind in FusionConfig.kinds()}


@pytest.fixture(params=sorted(DESIGNS))
def cfg(request: pytest.FixtureRequest) -> MLLMConfig:
    return DESIGNS[request.param](request.param.partition(" ")[2])


@pytest.fixture
def model(cfg: MLLMConfig) -> MLLM:
    model = lively(build_model(cfg, seed=0))
    opened(model.injection)
    return model


def learned(model: MLLM, batch: Batch) -> tuple[float, int, dict[str, torch.Tensor]]:
    model.zero_grad()
    total, count = model.loss(batch)
    (total / count).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(total.detach()), count, gradients


def test_losses_and_gradients_are_those_of_padded_rows(model: MLLM, cfg: MLLMConfig) -> None:
    processor = Processor(cfg)
    examples = [processor(sample) for sample in cut_samples()]
    total, count, gradients = learned(model, processor.collate(examples))
    packed, counted, others = learned(model, processor.pack(examples))
    assert counted == count == sum(map(model.targets, examples))
    assert packed == pytest.approx(total, rel=1e-4)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name


def test_no_sample_hears_of_another(model: MLLM, cfg: MLLMConfig) -> None:
    processor = Processor(cfg)
    examples = [processor(sample) for sample in cut_samples()]
    with torch.no_grad():
        h_1TE = model(processor.pack(examples))
        changed = [_reworded(examples[0]), *examples[1:]]
        others = model(processor.pack(changed))
        alone = torch.cat([model(processor.collate([example]))[0] for example in examples])
    first = len(examples[0].ids)
    assert not torch.equal(others[:, :first], h_1TE[:, :first])
    torch.testing.assert_close(others[:, first:], h_1TE[:, first:], rtol=0, atol=1e-6)
    torch.testing.assert_close(h_1TE[0], alone, rtol=1e-3, atol=1e-4)


def _reworded(example: Example) -> Example:
    """The same sample with other words: ids that are no visual place move by one."""
    ids = torch.where(example.ids > 8, example.ids - 1, example.ids)
    return replace(example, ids=ids)


def test_the_first_word_of_a_sample_is_never_predicted_from_the_one_before() -> None:
    cfg = config("a", language=LANGUAGE)
    processor = Processor(cfg)
    examples = [processor(sample) for sample in cut_samples()]
    for example in examples:
        example.labels.copy_(example.ids.clamp(min=0))  # everything is to be predicted
    batch = processor.pack(examples)
    assert batch.lengths == tuple(len(example.ids) for example in examples)
    starts = torch.tensor([0, *batch.lengths]).cumsum(0)[:-1]
    assert (batch.labels_BT[0, starts] == IGNORE_LABEL).all()
    assert build_model(cfg, seed=0).loss(batch)[1] == sum(len(example.ids) - 1 for example in examples)


def test_a_pack_of_words_runs_no_encoder() -> None:
    cfg = config("a", "b", language=LANGUAGE)
    processor, model = Processor(cfg), build_model(cfg, seed=0)
    words = [processor(sample) for sample in cut_samples() if not sample.images]
    ran = [0]
    for encoder in model.encoders.values():
        encoder.register_forward_hook(lambda *_: ran.append(1))
    model(processor.pack(words * 2))
    assert words
    assert ran == [0]
