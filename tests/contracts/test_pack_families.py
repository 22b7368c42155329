"""No decoder family of transformers mixes the samples of a pack, in one row or sample by sample; who does is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from model_toys import config
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.models.language import LanguageModel, apart
from ommatidia.models.language.apart import ROWS
from ommatidia.models.language.hf import HFLanguage
from ommatidia.models.language.mixing import refuse_mixing
from ommatidia.models.language.scratch import ScratchLanguage
from ommatidia.train.prepare import check_packing
from ommatidia.train.stage import Stage

PAGE = Path(__file__).parents[2] / "docs" / "packing.md"
SMALL: dict[int, tuple[str, ...]] = {
    64: ("vocab_size", "vocab_size_per_layer_input"),
    128: (
        "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length", "max_sequence_length",
    ),
    48: (
        "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "intermediate_size_mlp", "decoder_ffn_dim",
        "encoder_ffn_dim",
    ),
    32: (
        "hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim", "mamba_d_ssm", "lru_width",
    ),
    16: (
        "moe_intermediate_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
        "qk_head_dim", "attention_window_size", "block_size",
    ),
    8: (
        "head_dim", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
        "linear_key_head_dim", "linear_value_head_dim", "mamba_d_head", "mamba_d_state", "mamba_head_dim",
        "ssm_state_size", "state_size", "mamba_chunk_size", "chunk_size", "mamba_headdim", "index_head_dim",
    ),
    4: (
        "sliding_window",
        "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads",
        "num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "linear_num_value_heads",
        "mamba_n_heads", "mamba_num_heads", "mamba_dt_rank", "time_step_rank", "index_topk",
    ),
    3: ("conv_L_cache",),
    2: (
        "num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "encoder_layers",
        "num_key_value_heads", "num_experts_per_tok", "moe_k", "linear_num_key_heads", "n_mamba_heads",
        "index_n_heads", "eos_token_id", "num_decoder_layers", "num_encoder_layers",
    ),
    1: (
        "num_mem_blocks", "n_group", "topk_group", "n_shared_experts", "first_k_dense_replace", "mamba_n_groups",
        "mamba_expand", "n_groups", "mamba_ngroups", "bos_token_id",
    ),
    0: ("pad_token_id",),
}  # fmt: skip
"""What configs call their sizes, and the size that is wanted; where a family has the field."""
OWN: dict[str, dict[str, Any]] = {
    **{
        family: {"num_key_value_heads": 4}
        for family in ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu", "axk1", "dots3_note_text")
    },
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"expand": 1},
    "zaya": {"num_experts_per_tok": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gemma4_text": {"hidden_size_per_layer_input": 0, "global_head_dim": 8},
    "llama4_text": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "bamba": {"attn_layer_indices": [1]},
    "kimi_linear": {"num_experts_per_token": 2},
}
"""What the sizes alone do not settle."""
LENGTHS = (7, 9)


def documented(way: str) -> list[str]:
    """Families of one row of the page's table."""
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {way} |")]
    return re.findall(r"`([^`]+)`", line)


ONE_BY_ONE = documented("sample by sample")


def settings(family: str) -> dict[str, Any]:
    cls = transformers.CONFIG_MAPPING[family]
    fields = set(cls().to_dict())
    return {name: value for value, names in SMALL.items() for name in names if name in fields} | OWN.get(family, {})


def built(family: str) -> LanguageModel:
    """Tiny, with large random matrices, so that whatever leaks shows."""
    torch.manual_seed(0)
    cls = transformers.CONFIG_MAPPING[family]
    decoder = transformers.AutoModelForCausalLM.from_config(cls(**settings(family))).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    return LanguageModel(decoder)


def off(language: LanguageModel) -> float:
    """The largest difference between a pack and its samples alone, relative to the largest hidden state."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(5, 64, (1, length), generator=generator) for length in LENGTHS]
    ids_1T = torch.cat(rows, 1)
    with torch.no_grad():
        together = language(language.embed(ids_1T), torch.ones_like(ids_1T, dtype=torch.bool), LENGTHS)
        alone = [language(language.embed(row), torch.ones_like(row, dtype=torch.bool)) for row in rows]
    expected = torch.cat(alone, 1)
    return float((together - expected).abs().max() / expected.abs().max())


def families(names: Iterator[str] | list[str]) -> list[str]:
    """Those that the installed transformers has."""
    return sorted(name for name in names if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@pytest.mark.parametrize("family", families([*ROWS, *ONE_BY_ONE]))
def test_a_pack_is_its_samples_alone(family: str) -> None:
    language = built(family)
    assert language.in_rows == (family in ROWS)
    assert off(language) < 1e-5
    refuse_mixing(language)


def stage(**engine: Any) -> Stage:
    data: dict[str, Any] = {"sources": {"a": {"source": {"kind": "drawn_counts"}}}}
    of = {"name": "one", "train": {"projector": 1e-3}, "data": data, "steps": 1, "batch": 2, "engine": engine}
    return Stage.parse(of)


@pytest.mark.parametrize("family", ["qwen3_5_text", "falcon_h1", "gpt_oss", "bloom", "mamba", "lfm3"])
def test_a_family_wrongly_taken_to_keep_samples_apart_is_named(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    language = built(family)
    monkeypatch.setattr(apart, "ROWS", ROWS | {family})
    assert off(language) > 1e-3
    with pytest.raises(RunError, match=rf"^packing: {family} \(\w+\) mixes the samples of a pack: .*engine\.packing"):
        check_packing({"language": language}, stage(packing={"tokens": 64}))
    check_packing({"language": language}, stage())


def test_the_check_leaves_the_model_and_the_draws_as_they_were() -> None:
    language = ScratchLanguage(width=16, layers=1, heads=1, dropout=0.5).build().train()
    before = torch.get_rng_state()
    refuse_mixing(language)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in language.modules())
    refuse_mixing(language.bfloat16())


def test_the_page_lists_every_family_once() -> None:
    listed = documented("one row") + ONE_BY_ONE + documented("not tried")
    assert len(set(listed)) == len(listed)
    assert set(documented("one row")) == ROWS
    if f"transformers {transformers.__version__}" in PAGE.read_text():
        assert set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) | ROWS == set(listed)


def test_layers_inside_a_decoder_that_runs_sample_by_sample_are_refused_before_anything_is_built() -> None:
    language = {"kind": "hf", "path": "none", "config": {"model_type": "bloom", "hidden_size": 32, "n_layer": 2}}
    plain, packing = stage(), stage(packing={"tokens": 64})
    inline, gated = (config("a", language=language, injection=kind) for kind in ("inline", "cross_attention"))
    assert HFLanguage.parse(language).family() == "bloom"
    for one, model in ((plain, gated), (plain, inline), (packing, inline)):
        one.model_for_stage(model)
    with pytest.raises(ConfigError, match=r"stage 'one': packing: bloom runs a pack sample by sample"):
        packing.model_for_stage(gated)
