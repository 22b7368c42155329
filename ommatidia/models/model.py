"""The multimodal language model: encode, fuse, project, inject, speak.

Shapes: B batch, T tokens, K views of the whole batch, H rows, W columns, D feature channels, E language width,
S supervised positions, V vocabulary.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.types import IGNORE_LABEL, Batch, Example
from ommatidia.models.fusion.fusion import BlockEdits, Fusion
from ommatidia.models.injection import Injection, VisualContext
from ommatidia.models.language import LanguageModel
from ommatidia.models.language.apart import family_of, unsteered
from ommatidia.models.vision.encoder import VisionEncoder
from ommatidia.models.vision.tilings.cutting import cut_maps


class MLLM(nn.Module):
    """Built by ``build_model``. Its parts are the unit of training, saving, sharing and reporting."""

    encoders: nn.ModuleDict
    language: LanguageModel
    fusion: Fusion
    projector: nn.Module
    injection: Injection
    """Fusion, projector and injection are absent where there are no encoders."""
    seen_whole: dict[str, tuple[int, int]]
    """Encoders that see whole images, and the rows and columns of what is cut from their maps for one view."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict()
        self.seen_whole = {}

    def parts(self) -> dict[str, nn.Module]:
        """The parts by their stable names; a model without encoders has only ``language``."""
        if not self.encoders:
            return {"language": self.language}
        return {
            **{f"encoders.{name}": encoder for name, encoder in self.encoders.items()},
            "fusion": self.fusion,
            "projector": self.projector,
            "injection": self.injection,
            "language": self.language,
        }

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """x_KHWD of every encoder, from pixels, or from stored trunk features where the batch brings them."""

        def look(name: str, between: BlockEdits | None = None) -> Tensor:
            encoder = cast(VisionEncoder, self.encoders[name])
            if name in batch.features:
                x_KHWD = encoder.refine(batch.features[name])
            else:
                x_KHWD = encoder(batch.pixels[name], *(() if between is None else (between,)))
            if name in self.seen_whole and batch.views is not None:  # one row an image so far
                return cut_maps(x_KHWD, batch.views, *self.seen_whole[name])
            return x_KHWD

        return self.fusion.encode(tuple(self.encoders), look)

    def embed(self, batch: Batch) -> tuple[Tensor, VisualContext | None]:
        """The sequence as embeddings x_BTE, visual tokens in place, and what was seen if there were images."""
        x_BTE = self.language.embed(batch.ids_BT)
        if batch.views is None or not self.encoders:  # text only: no encoder runs
            return x_BTE, None
        fused = self.fusion(self.encode(batch), batch.views.asked(_question(x_BTE, batch)))
        v_KHWE = self.projector(fused.y_KHWD)
        seen = VisualContext.by(batch, v_KHWE, fused.memory)
        return self.injection(x_BTE, seen), seen

    def read(
        self, x_BTE: Tensor, mask_BT: Tensor, seen: VisualContext | None, lengths: tuple[int, ...] | None = None
    ) -> Tensor:
        """Hidden states h_BTE of embedded text, looking again at what was seen where the injection has such layers."""
        if seen is None:
            return self.language(x_BTE, mask_BT, lengths)
        if lengths is not None and self.injection.steers and not self.language.in_rows:
            raise ConfigError(unsteered(family_of(self.language.decoder.config)))
        with self.injection.inside(self.language, seen):
            return self.language(x_BTE, mask_BT, lengths)

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states h_BTE. Raises AlignmentError when placeholders and visual tokens differ in number."""
        x_BTE, seen = self.embed(batch)
        return self.read(x_BTE, batch.mask_BT, seen, batch.lengths)

    @staticmethod
    def targets(example: Example) -> int:
        """Positions that the model is scored on: the first one has nothing before it to be predicted from."""
        return int((example.labels[1:] != IGNORE_LABEL).sum())

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum of the next-token losses and how many tokens they are; logits are made for those positions alone."""
        targets_BT = batch.labels_BT[:, 1:]
        chosen_BT = targets_BT != IGNORE_LABEL
        h_SE = self(batch)[:, :-1][chosen_BT]
        return self.language.loss(h_SE, targets_BT[chosen_BT]), int(chosen_BT.sum())


def _question(x_BTE: Tensor, batch: Batch) -> Tensor:
    """The mean embedding of the user's words in each sample, zero where none are marked."""
    asked_BT1 = (
        torch.zeros_like(batch.mask_BT) if batch.question_mask_BT is None else batch.question_mask_BT
    ).unsqueeze(-1)
    if batch.lengths is None:
        return (x_BTE * asked_BT1).sum(1) / asked_BT1.sum(1).clamp(min=1)
    said, words = ((whole[0]).split(list(batch.lengths)) for whole in (x_BTE * asked_BT1, asked_BT1))
    return torch.stack([one.sum(0) / count.sum(0).clamp(min=1) for one, count in zip(said, words, strict=True)])
