"""Patch info mining against the recorded Mini-Gemini: one view, and the HD variant with crops of one map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ommatidia.core.grid import Grid
from ommatidia.core.types import View, Views
from ommatidia.models.fusion import Fusion, PatchMining
from ommatidia.models.fusion.patch_mining import published
from ommatidia.models.projector import MLPProjector
from ommatidia.models.vision.timm import TimmTrunk

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BOXES = [(0, 0, 1, 1), (0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0.5, 0, 1, 0.5), (0.5, 0.5, 1, 1)]
Close = Callable[[Tensor, Tensor, str], None]
VISION = "model.vision_tower_aux.vision_"


class Recorded:
    """The case's tensors in float32, and the published parts rebuilt from ours."""

    def __init__(self, case: Any) -> None:
        self.case, self.config = case, case.config
        self.weights, self.inputs, self.outputs = (case.tensors(name) for name in ("weights", "inputs", "outputs"))

    def pyramid(self) -> Tensor:
        """The four stages of the ConvNeXt on the grid of the first, m_P_H_W_C, by our timm trunk."""
        import timm

        dims = tuple(self.config["convnext_dims"])
        model = timm.create_model("convnext_tiny", depths=tuple(self.config["convnext_depths"]), dims=dims)
        trunk = TimmTrunk(model, (0, 1, 2, 3), None, name="convnext_tiny").eval()
        state = {k.removeprefix(VISION): v for k, v in self.weights.items() if k.startswith(VISION)}
        missing, unexpected = trunk.model.load_state_dict(state, strict=False)
        assert (missing, unexpected) == ([], [])
        pictures = [self.case.image(name).convert("RGB") for name in self.config["runs"][0]["images"]]
        x_PHWC = torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).float() / 255
        with torch.no_grad():
            return trunk(((x_PHWC - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2))

    def fusion(self, config: PatchMining, side: int) -> Fusion:
        module = config.build({"clip": Grid(side, side, 128), "convnext": Grid(64, 64, 120)})
        module.load_state_dict(published(self.weights, "convnext"))
        return module.eval()

    def projector(self) -> torch.nn.Module:
        module = MLPProjector().build(Grid(1, 1, 128), 96)
        prefix = "model.mm_projector."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)})
        return module


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], Any]) -> Recorded:
    return Recorded(golden("mgm_mining"))


@torch.no_grad()
def test_one_view(recorded: Recorded, close: Close) -> None:
    map_PHWC, outputs = recorded.pyramid(), recorded.outputs
    close(map_PHWC.mean((1, 2)), outputs["base.aux.channel_mean"], "mini-gemini base.aux.channel_mean")
    index = outputs["base.aux_index"]
    close(map_PHWC[:, index][:, :, index].permute(0, 3, 1, 2), outputs["base.aux.sub"], "mini-gemini base.aux.sub")
    features = {"clip": recorded.inputs["base.lr_features"].unflatten(1, (8, 8)), "convnext": map_PHWC}
    fusion, views = recorded.fusion(PatchMining(), 8), Views.whole(2)
    close(fusion.mine(features, views).flatten(1, 2), outputs["base.mining_only"], "mini-gemini base.mining_only")
    fused = fusion(features, views).y_KHWD
    close(fused.flatten(1, 2), outputs["base.mined"], "mini-gemini base.mined")
    close(recorded.projector()(fused).flatten(1, 2), outputs["base.tokens"], "mini-gemini base.tokens")


@torch.no_grad()
def test_crops_and_the_whole_mine_one_map_of_the_picture(recorded: Recorded, close: Close) -> None:
    # The recording's input has the whole view last, its output first; ours is in the order of the output.
    low_KND = recorded.inputs["hd.lr_features"].roll(1, 1).flatten(0, 1)
    features = {"clip": low_KND.unflatten(1, (4, 4)), "convnext": recorded.pyramid()}
    views = Views.of([[View(0, (256, 256), box) for box in BOXES]] * 2)
    fused = recorded.fusion(PatchMining(window=8), 4)(features, views).y_KHWD
    close(fused.reshape(2, 80, 128), recorded.outputs["hd.mined"], "mini-gemini hd.mined")
    close(recorded.projector()(fused).reshape(2, 80, 96), recorded.outputs["hd.tokens"], "mini-gemini hd.tokens")
