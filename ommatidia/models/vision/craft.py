"""CRAFT, the text-detection network (Baek et al., 2019): VGG-16 with batch norm and a U-shaped decoder.

Its decoder maps say where characters are, and the link between them: an expert for text that no classifier is.
Module names follow the published checkpoint. Shapes: B batch, C channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision.encoder import ImageEncoderConfig
from ommatidia.models.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from ommatidia.models.vision.weights import FileWeights, PackageWeights, RandomWeights, check_names

_STAGES = {"s16": 1, "s8": 2, "s4": 3, "s2": 4}


class CraftEncoder(ImageEncoderConfig):
    """Decoder features of CRAFT at stride 16 (256 channels), 8 (128), 4 (64) or 2 (32).

    ``score`` appends the two output maps, text and link, averaged to the grid; it needs the whole network.
    """

    kind: Literal["craft"] = "craft"
    features: Literal["s16", "s8", "s4", "s2"] = "s8"
    score: bool = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if not isinstance(self.weights, RandomWeights | FileWeights | PackageWeights):
            raise ConfigError(f"weights: craft reads random, file or package, not {self.weights.to_dict()['kind']!r}")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bilinear")

    def trunk(self, *, pretrained: bool) -> nn.Module:
        network = Craft(_STAGES[self.features], score=self.score)
        if pretrained and isinstance(self.weights, FileWeights | PackageWeights):
            state, wanted = self.weights.tensors(), network.state_dict()
            # Shallower features leave the later decoder stages of the file aside; everything else must fit.
            later = () if self.score else ("upconv", "conv_cls.")
            kept = {name: t for name, t in state.items() if name in wanted or not name.startswith(later)}
            check_names(kept, wanted)
            network.load_state_dict(kept)
        return network

    @classmethod
    def tiny(cls) -> Self:
        return cls(features="s4", score=True, image_size=(32, 48))


class Craft(nn.Module):
    """The first ``stages`` decoder stages, and with ``score`` the rest for the output maps."""

    def __init__(self, stages: int, *, score: bool) -> None:
        super().__init__()
        self.stages = stages
        self.basenet = _VGG()
        depth = 4 if score else stages
        widths = ((1024 + 512, 512, 256), (256 + 512, 256, 128), (128 + 256, 128, 64), (64 + 128, 64, 32))
        for i, (wide, middle, narrow) in enumerate(widths[:depth], 1):
            self.add_module(f"upconv{i}", _UpConv(wide, middle, narrow))
        self.conv_cls = _score_head() if score else None

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        deep, *skips = self.basenet(pixels_BCHW.contiguous(memory_format=torch.channels_last))
        maps = [self.get_submodule("upconv1")(torch.cat([deep, skips[0]], 1))]
        for i, skip in enumerate(skips[1 : 4 if self.conv_cls else self.stages], 2):
            upsampled = functional.interpolate(maps[-1], skip.shape[2:], mode="bilinear", align_corners=False)
            maps.append(self.get_submodule(f"upconv{i}")(torch.cat([upsampled, skip], 1)))
        x_BDHW = maps[self.stages - 1]
        if self.conv_cls is not None:
            score = functional.adaptive_avg_pool2d(self.conv_cls(maps[-1]), x_BDHW.shape[2:])
            x_BDHW = torch.cat([x_BDHW, score], 1)
        return x_BDHW.permute(0, 2, 3, 1)


class _VGG(nn.Module):
    """VGG-16-BN without its classifier; gives the maps at strides 16 (dilated head), 16, 8, 4 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.slice1 = _convolutions(0, (3, 64), (64, 64), "pool", (64, 128), (128, 128))
        self.slice2 = _convolutions(12, "after", "pool", (128, 256), (256, 256))
        self.slice3 = _convolutions(19, "after", (256, 256), "pool", (256, 512), (512, 512))
        self.slice4 = _convolutions(29, "after", (512, 512), "pool", (512, 512), (512, 512))
        self.slice5 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.Conv2d(1024, 1024, 1),
        )

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, ...]:
        # Slices end before their ReLU. The published network rectifies in place, so that its skips see the rectified
        # maps, except the last, behind which no ReLU stands.
        s2 = functional.relu(self.slice1(pixels_BCHW))
        s4 = functional.relu(self.slice2(s2))
        s8 = functional.relu(self.slice3(s4))
        s16 = self.slice4(s8)
        return self.slice5(s16), s16, s8, s4, s2


class _UpConv(nn.Module):
    def __init__(self, wide: int, middle: int, narrow: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(wide, middle, 1), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, narrow, 3, padding=1), nn.BatchNorm2d(narrow), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return self.conv(x_BDHW)


def _convolutions(start: int, *layers: tuple[int, int] | Literal["after", "pool"]) -> nn.Sequential:
    """VGG layers named by their position in the published network: (convolution, batch norm, ReLU)*, no last ReLU."""
    modules: list[nn.Module] = []
    for layer in layers:
        if layer == "after":
            modules.append(nn.Identity())  # the published network's ReLU, which ``_VGG.forward`` applies
        elif layer == "pool":
            modules.append(nn.MaxPool2d(2))
        elif isinstance(layer, tuple):
            modules += [nn.Conv2d(*layer, 3, padding=1), nn.BatchNorm2d(layer[1]), nn.ReLU()]
    return nn.Sequential(OrderedDict((str(start + i), module) for i, module in enumerate(modules[:-1])))


def _score_head() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 2, 1),
    )  # fmt: skip
