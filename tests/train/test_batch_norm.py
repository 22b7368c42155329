"""Batch norms while something trains: a trunk's keep their statistics, others learn theirs from their batches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import model_toys
import pytest
import torch
import train_toy
from torch import Tensor, nn

from ommatidia.core.errors import RunError
from ommatidia.core.types import Example, View
from ommatidia.models.adapters import LoRA, adapt
from ommatidia.models.vision import EncoderConfig, VisionEncoder
from ommatidia.train.batch_norm import refusing_single_values
from ommatidia.train.freeze import freeze, select, trained_state
from ommatidia.train.stage import Stage
from ommatidia.train.trainer import Trainer

NORMS = {
    "batch": lambda: nn.BatchNorm2d(4),
    "sync batch": lambda: nn.SyncBatchNorm(4),
    "instance": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
}


class Trunk(nn.Module):
    """A convolution, a norm with statistics, and dropout."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3, padding=1), norm, nn.Dropout(0.5)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(pixels_BCHW))).permute(0, 2, 3, 1)


class Seeing(nn.Module):
    """Learns to make an encoder's features small; an image is a target."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def parts(self) -> dict[str, nn.Module]:
        return {"encoders.eye": self.encoder}

    def targets(self, example: Example) -> int:
        return len(example.views)

    def loss(self, batch: Any) -> tuple[Tensor, int]:
        return self.encoder(batch.pixels["eye"]).square().mean((1, 2, 3)).sum(), len(batch.pixels["eye"])


def training(encoder: nn.Module, pattern: str = "encoders.eye") -> nn.Module:
    parts = {"encoders.eye": encoder}
    freeze(parts, select(parts, {pattern: 1e-2}))
    return encoder


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("size", [5, 1])
def test_in_a_trained_trunk_a_view_stands_alone_and_statistics_stay(kind: str, size: int) -> None:
    encoder = VisionEncoder(Trunk(NORMS[kind]()), nn.Dropout(0.0))
    encoder.trunk.norm.running_mean.uniform_(-1, 1)
    before = copy.deepcopy(encoder.state_dict())
    training(encoder)
    pixels_BCHW = torch.randn(3, 3, size, size)
    together = encoder(pixels_BCHW)
    torch.testing.assert_close(together[:1], encoder(pixels_BCHW[:1]))
    torch.testing.assert_close(together[:1], encoder(torch.cat([pixels_BCHW[:1], 9 * pixels_BCHW]))[:1])
    together.square().sum().backward()
    assert encoder.trunk.norm.weight.grad.abs().sum() > 0, "scales and shifts still train"
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    parts = {"encoders.eye": encoder}
    left = trained_state(parts, select(parts, {"encoders.eye": 1.0}))
    assert left.keys() == {f"encoders.eye:{name}" for name, _ in encoder.named_parameters()}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "craft"])
def test_catalog_trunks_with_batch_norm_give_training_what_they_give_evaluation(name: str) -> None:
    value = {"kind": "craft"} if name == "craft" else {"kind": "timm", "model": "efficientnet_lite0"}
    encoder = EncoderConfig.parse(value | {"image_size": 64}).build()
    pixels_BCHW = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = encoder.eval()(pixels_BCHW)
        assert torch.equal(training(encoder)(pixels_BCHW), wanted)
        assert torch.equal(training(encoder, "*:trunk.*")(pixels_BCHW), wanted)


def test_adapters_in_a_trunk_keep_their_dropout() -> None:
    encoder = EncoderConfig.parse(model_toys.VIT).build()
    adapt(encoder, LoRA(rank=2, dropout=0.5), field="adapters.encoders.eye")
    training(encoder)
    modes = {name: module.training for name, module in encoder.trunk.named_modules()}
    dropped = [name for name in modes if name.endswith("lora_dropout.default")]
    assert dropped
    for name in dropped:
        layer = name.removesuffix(".lora_dropout.default")
        assert modes[name]
        assert modes[layer]
        assert not modes[layer.rpartition(".")[0]]


def test_a_training_leaves_the_statistics_of_the_trunk_and_the_result_without_them(tmp_path: Path) -> None:
    encoder = VisionEncoder(Trunk(nn.BatchNorm2d(4)), nn.Identity())
    before = copy.deepcopy(encoder.state_dict())
    model = Seeing(encoder)
    value = train_toy.stage(train={"*": 1e-2}, steps=3, micro_batch=1, batch=2)
    run = trainer(model, value, tmp_path, size=1)
    run.fit()
    after = encoder.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} >= {"trunk.norm.bias"}
    for name in ("trunk.norm.running_mean", "trunk.norm.running_var", "trunk.norm.num_batches_tracked"):
        assert torch.equal(after[name], before[name])
        assert f"encoders.eye:{name}" not in run.result()


def test_one_value_a_channel_is_refused_where_the_norm_is_to_learn_from_it(tmp_path: Path) -> None:
    value = train_toy.stage(train={"*": 1e-2}, steps=3, micro_batch=1, batch=2)
    wrong = r"encoders.eye:norm: .* one value a channel \(one view on a 1x1 map, shape \[1, 4, 1, 1\]\)"
    with pytest.raises(RunError, match=wrong):
        trainer(Seeing(Trunk(nn.BatchNorm2d(4))), value, tmp_path / "one", size=1).fit()
    trainer(Seeing(Trunk(nn.BatchNorm2d(4))), value, tmp_path / "more", size=2).fit()


def test_the_refusal_ends_with_the_training() -> None:
    norm = nn.BatchNorm1d(4)
    with refusing_single_values({"part": norm}), pytest.raises(RunError, match="part:"):
        norm(torch.zeros(1, 4))
    with refusing_single_values({"part": norm.eval()}):
        norm(torch.zeros(1, 4))
    assert not norm._forward_pre_hooks


def trainer(model: Any, value: Stage, folder: Path, *, size: int) -> Trainer:
    """Batches of one image an example, which the model learns to see as nothing."""

    def batches(start: int) -> Any:
        while True:
            made = []
            for place in range(value.batch * start, value.batch * (start + 1)):
                pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(place))
                one = train_toy.example(place)
                made.append(Example(one.id, one.ids, one.labels, {"eye": pixels}, {}, (View(0, (size, size)),)))
            yield made
            start += 1

    return Trainer(model, value, batches, train_toy.collate, steps=value.steps or 0, folder=folder, seed=3)
