"""NVLM 1.0 (Dai et al., 2024, arXiv 2409.11402): tiles of 448 px through a frozen InternViT-6B, in three designs.

D: all views stand in the text; X: none does, gated cross-attention looks at them; H: the thumbnail stands in the text,
the tiles are looked at. Not published: the code of X and H, the shares of the data (here one file a stage), the
init of the gates (here Flamingo's 0). D and X pre-train on one tile an image, and all three without a chat template.
The learning rate falls to 0 here, not to the published minimum; the released projectors have no biases, these do.
"""

from __future__ import annotations

from typing import Any, Literal

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, sources

Tags = Literal["none", "one_d", "two_d", "box"]

_LANGUAGES: dict[str, dict[str, Any]] = {
    "qwen2_72b": {"hidden": 29568, "every": 8, "tag": "<tile_global_thumbnail>"},
    "yi_34b": {"hidden": 20480, "every": 6, "tag": "<tile_global>"},
}
"""Width inside the projector, blocks from one cross-attention layer to the next, and the thumbnail's tag."""

_LAYERS = 10
_BARE = {"name": "nvlm_pretrain", "user_suffix": "\n", "end": "<|im_end|>"}
"""How pre-training writes a sample: the image, what is asked, a newline, the answer. Which mark ends it is not told:
here that of the chat format."""


def d_72b(data: str = "data", tags: Tags = "one_d", language: str = "qwen2_72b") -> Recipe:
    """NVLM-D: up to seven views of 256 tokens and a tag each, all in the text. ``language``: or yi_34b."""
    known = _known(language)
    tune = _stage("tune", data, {"projector": 2e-6, "language": 2e-6}, 40_000, 128, warmup=1000, **_D)
    return _recipe(
        "nvlm_d", language, tags,
        projector={"kind": "pixel_shuffle_mlp", "hidden": known["hidden"]},
        injection={"kind": "inline"},
        stages=[
            _stage("align", data, {"projector": 1e-4}, 20_000, 2048, warmup=500, tiling=_tiles(known, tags, 1), **_D),
            tune,
        ],
    )  # fmt: skip


def x(data: str = "data", tags: Tags = "one_d", language: str = "qwen2_72b") -> Recipe:
    """NVLM-X: tags alone stand in the text; ten gated cross-attention layers look at the tiles."""
    known, batch = _known(language), 256 if language == "qwen2_72b" else 512
    eyes = {"projector": 1e-4, "injection": 1e-4}
    tune = _stage("tune", data, _all(1e-5), 20_000, batch, warmup=500, betas=(0.9, 0.95), weight_decay=0.05)
    return _recipe(
        "nvlm_x", language, tags,
        projector={"kind": "pixel_shuffle_mlp", "depth": 1, "norm": False},
        injection={"kind": "cross_attention", "layers": _LAYERS, "every": known["every"], "pictures": "all"},
        stages=[
            _stage(
                "align", data, eyes, 20_000, 2048, warmup=1000, betas=(0.9, 0.95), weight_decay=0.05,
                tiling=_tiles(known, tags, 1),
            ),
            tune,
        ],
    )  # fmt: skip


def h(data: str = "data", tags: Tags = "one_d", language: str = "qwen2_72b") -> Recipe:
    """NVLM-H: the thumbnail stands in the text; ten gated cross-attention layers look at the tiles and their tags."""
    known = _known(language)
    eyes = {"projector": 1e-4, "injection": 1e-4}
    return _recipe(
        "nvlm_h", language, tags,
        projector={"kind": "pixel_shuffle_mlp", "hidden": known["hidden"]},
        injection={"kind": "hybrid", "layers": _LAYERS, "every": known["every"]},
        stages=[
            _stage("align", data, eyes, 20_000, 2048, warmup=1000, betas=(0.9, 0.98), weight_decay=0.05),
            _stage("tune", data, _all(1e-5), 40_000, 256, warmup=1000, betas=(0.9, 0.98), weight_decay=0.05),
        ],
    )  # fmt: skip


_D: dict[str, Any] = {"betas": (0.9, 0.95), "weight_decay": 0.1, "clip": 10.0}


def _known(language: str) -> dict[str, Any]:
    if language not in _LANGUAGES:
        raise ConfigError(unknown("language model of NVLM", language, _LANGUAGES))
    return _LANGUAGES[language]


def _all(rate: float) -> dict[str, float]:
    return {"projector": rate, "injection": rate, "language": rate}


def _stage(
    name: str, data: str, train: dict[str, float], steps: int, batch: int, *, warmup: int, **fields: Any
) -> dict[str, Any]:
    return {
        "name": name, "train": train, "data": sources(data, **{name: (f"NVLM/{name}.jsonl", None)}), "steps": steps,
        "batch": batch, "warmup": warmup / steps, "precision": "bf16", **({"chat": _BARE} if name == "align" else {}),
        **fields,
    }  # fmt: skip


def _tiles(known: dict[str, Any], tags: Tags, most: int) -> dict[str, Any]:
    """At most so many tiles, and the whole image beside them where there are several."""
    return {"kind": "dynamic", "max_tiles": most, "tags": tags, "overview_tag": known["tag"]}


def _recipe(
    name: str,
    language: str,
    tags: Tags,
    *,
    projector: dict[str, Any],
    injection: dict[str, Any],
    stages: list[dict[str, Any]],
) -> Recipe:
    known = _known(language)
    return Recipe.parse(
        {
            "name": f"{name}_{language.rpartition('_')[2]}",
            "model": {
                "encoders": {"internvit": encoder("internvit_6b_448")},
                "tiling": _tiles(known, tags, 6),
                "projector": projector,
                "injection": injection,
                "language": language,
                "chat": "chatml",
            },
            "stages": stages,
        }
    )
