"""Whether a decoder mixes the samples of a pack: two short ones are run as a pack and each alone.

Shapes: T tokens of a pack, E width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ommatidia.core.errors import RunError
from ommatidia.models.language.apart import family_of
from ommatidia.models.language.language import LanguageModel

_LENGTHS = (5, 7)
_EXACT = 1e-3
"""Largest difference that float32 arithmetic may make, relative to the largest hidden state; mixing makes far more."""
_ROUNDED = 2e-2
"""The same in 16 bits, for the middle one of a sample's positions: one expert chosen otherwise is no mixing."""


def refuse_mixing(language: LanguageModel) -> None:
    """Run two short samples as a pack and each alone. Raises RunError, naming the family, when they differ.

    Only a decoder that takes packs as one row is asked; the others run sample by sample.
    """
    if not language.in_rows:
        return
    training = language.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        language.eval()
        difference, allowed = _difference(language)
        language.train(training)
    if not difference <= allowed:
        raise RunError(
            f"packing: {family_of(language.decoder.config)} ({type(language.decoder).__name__}) mixes the samples of a "
            f"pack: two samples differ from themselves alone by {difference:.1e} of the largest value, "
            f"{allowed:.0e} is rounding; train without engine.packing"
        )


def _difference(language: LanguageModel) -> tuple[float, float]:
    """How far a pack is from its samples alone, and how far it may be."""
    weight = language.decoder.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(len(weight), (1, length), generator=generator).to(weight.device) for length in _LENGTHS]
    together_TE = _states(language, torch.cat(rows, 1), _LENGTHS)
    alone = [_states(language, row) for row in rows]
    scale = max(float(part.abs().max()) for part in alone)
    off = [
        (part - one).abs().amax(-1) / scale
        for part, one in zip(together_TE.split(_LENGTHS), alone, strict=True)
    ]  # fmt: skip
    if weight.dtype == torch.float32:
        return max(float(part.max()) for part in off), _EXACT
    return max(float(part.median()) for part in off), _ROUNDED


def _states(language: LanguageModel, ids_1T: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
    """Hidden states h_TE in float32."""
    mask_1T = torch.ones_like(ids_1T, dtype=torch.bool)
    return language(language.embed(ids_1T), mask_1T, None if lengths is None else tuple(lengths))[0].float()
