"""How a decoder keeps the samples of a pack apart: in one row where its family is known to, one by one otherwise.

Attention can be told where a sample ends (``packed``). What carries a state along the row (linear attention, Mamba,
convolutions), positions that a decoder counts by itself, and attention with terms of its own (sinks, ALiBi) cannot, or
not in a way that every family of transformers shares. Such a decoder runs once for each sample of the pack, which is
exact for any decoder there is.
"""

from __future__ import annotations

from typing import Any

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


def family_of(config: Any) -> str:
    """The model type of a transformers config's decoder."""
    return str(config.get_text_config().model_type)


def unsteered(family: str) -> str:
    """Why a pack of images cannot run: what an injection's layers look at is laid out for the whole row."""
    return (
        f"packing: {family} runs a pack sample by sample, which the layers of this injection inside the decoder "
        "do not; train without engine.packing, or inject inline"
    )
