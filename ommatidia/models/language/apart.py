"""How a decoder keeps the samples of a pack apart: in one row where its family is known to, one by one otherwise.

Attention can be told where a sample ends (``packed``). What carries a state along the row (linear attention, Mamba,
convolutions), positions that a decoder counts by itself, and attention with terms of its own (sinks, ALiBi) cannot, or
not in a way that every family of transformers shares. Such a decoder runs once for each sample of the pack, which is
exact for any decoder there is.

Shapes: T tokens of a pack, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ommatidia.core.errors import RunError

if TYPE_CHECKING:
    from ommatidia.models.language.language import LanguageModel

ROWS = frozenset({
    "afmoe", "apertus", "arcee", "aria_text", "beam", "bitnet", "codegen", "cohere", "cohere2", "cohere2_moe", "cwm",
    "deepseek_v2", "deepseek_v3", "diffllama", "dots1", "ernie4_5", "ernie4_5_moe", "exaone4", "exaone_moe",
    "flex_olmo", "gemma", "gemma2", "gemma3_text", "gemma4_unified_text", "glm", "glm4", "glm4_moe", "glm4_moe_lite",
    "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_neox_japanese", "gptj", "granite", "granite_swa", "granitemoe",
    "granitemoe_swa", "granitemoeshared", "helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3", "hyperclovax",
    "internlm3", "iquestcoder", "jais2", "llama", "minicpm3", "minimax_m2", "ministral", "ministral3", "mistral",
    "mixtral", "modernbert-decoder", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon",
    "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "solar_open",
    "stablelm", "starcoder2", "vaultgemma", "youtu",
})  # fmt: skip
"""``model_type`` of the decoders whose packs run as one row: proven by ``tests/contracts/test_pack_families.py``."""

_LENGTHS = (5, 7)
_EXACT = 1e-3
"""Largest difference that float32 arithmetic may make, relative to the largest hidden state; mixing makes far more."""
_ROUNDED = 2e-2
"""The same in 16 bits, for the middle one of a sample's positions: one expert chosen otherwise is no mixing."""


def family_of(config: Any) -> str:
    """The model type of a transformers config's decoder."""
    return str(config.get_text_config().model_type)


def unsteered(family: str) -> str:
    """Why a pack of pictures cannot run: what an injection's layers look at is laid out for the whole row."""
    return (
        f"packing: {family} runs a pack sample by sample, which the layers of this injection inside the decoder "
        "do not; train without engine.packing, or inject inline"
    )


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
