"""Every published setting of a config or image processor: the stock model's logits and pixels, or refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from model_toys import save_tokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ommatidia.core.errors import ConfigError, OmmatidiaError, RunError
from ommatidia.core.types import IMAGE_TOKEN_ID, ImagePart, Message, Sample
from ommatidia.models.pretrained import load
from ommatidia.models.published import export_checkpoint, import_checkpoint
from ommatidia.models.published.fields import (
    CAMBRIAN,
    CLIP_VISION,
    EAGLE,
    LLAVA,
    LLAVA_AUTHORS,
    LLAVA_NEXT,
    PRETRAINED,
    SIGLIP_VISION,
    Fields,
)
from ommatidia.models.published.images import PROCESSOR

MARK = 4
"""An id of the toy tokenizer that these texts do not use."""
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
TEXT: dict[str, Any] = {
    **SIZES, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION: dict[str, Any] = {**SIZES, "num_hidden_layers": 3, "image_size": 28, "patch_size": 14}
TEXTS = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
VISIONS = {"clip": "CLIPVision", "siglip": "SiglipVision"}
PINPOINTS = [[28, 56], [56, 28], [56, 56]]
OTHER: dict[str, list[Any]] = {
    "hidden_size": [48], "num_attention_heads": [2], "num_key_value_heads": [4, 1], "head_dim": [16],
    "num_hidden_layers": [4], "intermediate_size": [40], "patch_size": [7], "image_size": [42], "num_channels": [1],
    "hidden_act": ["gelu", "relu"], "projector_hidden_act": ["relu", "gelu_pytorch_tanh"],
    "layer_norm_eps": [1e-2], "rms_norm_eps": [1e-2],
    "rope_parameters": [
        {"rope_type": "default", "rope_theta": 100.0},
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0},
        {
            "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ],
    "sliding_window": [3, None], "layer_types": [["sliding_attention", "full_attention"]],
    "max_position_embeddings": [256], "initializer_range": [0.5], "vision_feature_layer": [-1, -3, 1, [-2, -1], 0],
    "vision_feature_select_strategy": ["full", "default"], "image_grid_pinpoints": [[[28, 56], [84, 28]], [[30, 60]]],
    "image_token_index": [5], "vocab_size": [700], "pad_token_id": [3], "bos_token_id": [3], "eos_token_id": [3],
    "max_window_layers": [1], "image_seq_length": [7],
}  # fmt: skip
"""Other values of a field. Fields that are not here: the other bool, another number."""
TOGETHER: dict[str, dict[str, Any]] = {
    "use_sliding_window": {"sliding_window": 3, "max_window_layers": 1, "layer_types": None},
    "sliding_window": {"use_sliding_window": True, "max_window_layers": 0, "layer_types": None},
    "max_window_layers": {"use_sliding_window": True, "sliding_window": 3, "layer_types": None},
    "layer_types": {"use_sliding_window": True, "sliding_window": 3},
}  # fmt: skip
"""What a field needs beside it to mean anything, where its config has that too."""


@dataclass(frozen=True)
class Odd:
    """An image of odd sides with something to see everywhere."""

    width: int = 61
    height: int = 30

    @property
    def digest(self) -> str:
        return f"odd-{self.width}-{self.height}"

    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def open(self) -> Image.Image:
        draws = np.random.default_rng(self.width * 1000 + self.height)
        coarse = draws.integers(0, 256, (self.height // 7 + 2, self.width // 7 + 2, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((self.width, self.height), Image.Resampling.BICUBIC)


def sample(image: Any) -> Sample:
    return Sample("one", (Message("user", (ImagePart(0), "What is it?")),), (image,))


def stock(
    folder: Path,
    *,
    kind: str = "llava",
    vision: str = "clip",
    text: str = "llama",
    changes: tuple[str, dict[str, Any]] = ("top", {}),
) -> Any:
    """A random model of transformers whose ``changes`` are made to its vision, text or top config; saved."""
    folder.mkdir()
    rows = save_tokenizer(folder)
    where, fields = changes
    of = {"vision": VISION, "text": {**TEXT, "vocab_size": rows}, "top": {"image_token_index": MARK}}
    of[where] = of[where] | fields
    made = {
        "vision_config": getattr(transformers, f"{VISIONS[vision]}Config")(**of["vision"]),
        "text_config": getattr(transformers, f"{TEXTS[text]}Config")(**of["text"]),
    }
    if vision == "siglip":
        made["vision_feature_select_strategy"] = "full"
    if kind == "llava_next":
        made["image_grid_pinpoints"] = PINPOINTS
    name = "LlavaNext" if kind == "llava_next" else "Llava"
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**made, **of["top"]})
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return model


def logits(model: Any, folder: Path, image: Any) -> tuple[Tensor, Tensor]:
    """Ours and theirs for one prompt with an image, from the same pixels."""
    ours, processor = load(folder)
    batch = processor.collate([processor(sample(image), answer=False)])
    mark = model.config.image_token_index
    ids_BT = torch.where(batch.ids_BT == IMAGE_TOKEN_ID, mark, batch.ids_BT)
    (pixels,) = batch.pixels.values()
    extra: dict[str, Any] = {"pixel_values": pixels}
    if model.config.model_type == "llava_next":
        extra = {"pixel_values": pixels[None], "image_sizes": torch.tensor([image.size()])}
    with torch.no_grad():
        theirs = model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), return_dict=True, **extra).logits
        return ours.language.head(ours(batch)), theirs


def alike_or_refused(tmp_path: Path, name: str, value: Any, **of: Any) -> str:
    """``same`` or ``refused``; any other end is a failure of the test."""
    where, fields = of.pop("changes")
    try:
        model = stock(tmp_path / "stock", changes=(where, fields), **of)
    except (ValueError, TypeError, RuntimeError, KeyError) as error:  # what transformers cannot build is no checkpoint
        return f"no such model: {error}"
    try:
        import_checkpoint(tmp_path / "stock", tmp_path / "ours")
    except OmmatidiaError as error:
        assert name in str(error), str(error)  # noqa: PT017
        return "refused"
    image = Odd(61, 61) if name == "image_size" else Odd()
    mine, theirs = logits(model, tmp_path / "ours", image)
    assert (mine - theirs).abs().max() <= 2e-5 * theirs.abs().max(), (name, value)
    return "same"


def others(name: str, default: Any) -> list[Any]:
    if name in OTHER:
        return [value for value in OTHER[name] if value != default]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int | float):
        return [default * 2 + 1]
    return []


def own_fields(cls: Any) -> dict[str, Any]:
    """The settings of a class beyond those of every config, with their defaults."""
    skipped = {*PRETRAINED, "vision_config", "text_config"}
    return {name: value for name, value in cls().to_dict().items() if name not in skipped and name[0] != "_"}


def cases() -> list[Any]:
    found = []
    for where, kinds in (("vision", VISIONS), ("text", TEXTS), ("top", {"llava": "Llava", "llava_next": "LlavaNext"})):
        for kind, title in kinds.items():
            fields = own_fields(getattr(transformers, f"{title}Config"))
            # The other decoders differ from Llama in their windows; what they share goes to their own class too.
            windows = {name: one for name, one in fields.items() if name in TOGETHER or name == "attention_bias"}
            for name, default in (windows if kind in ("mistral", "qwen2", "qwen3") else fields).items():
                start = (VISION if where == "vision" else TEXT if where == "text" else {}).get(name, default)
                for value in others(name, start):
                    beside = {key: one for key, one in TOGETHER.get(name, {}).items() if key in fields and key != name}
                    found.append(pytest.param(where, kind, name, value, beside, id=f"{kind}-{name}-{value}"[:70]))
    return found


REFUSED = {
    "num_channels", "multimodal_projector_bias", "projector_hidden_act", "image_size", "patch_size",
    "vision_feature_layer", "vision_feature_select_strategy", "image_grid_pinpoints",
}  # fmt: skip
"""Settings of which some value is refused; every other must give the stock model's logits."""


@pytest.mark.parametrize(("where", "kind", "name", "value", "beside"), cases())
def test_a_setting_means_what_it_says_or_is_refused_by_name(
    tmp_path: Path, where: str, kind: str, name: str, value: Any, beside: dict[str, Any]
) -> None:
    of = {{"vision": "vision", "text": "text", "top": "kind"}[where]: kind}
    end = alike_or_refused(tmp_path, name, value, changes=(where, {**beside, name: value}), **of)
    assert end == "same" or name in REFUSED or end.startswith("no such model"), end


@pytest.mark.parametrize("where", ["vision", "text", "top"])
def test_bookkeeping_has_no_effect(tmp_path: Path, where: str) -> None:
    fields = {
        "output_hidden_states": True, "use_cache": False, "problem_type": "regression", "chunk_size_feed_forward": 3,
        "id2label": {0: "a"}, "temperature": 0.3, "tokenizer_class": "X",
    }  # fmt: skip
    fields = {name: value for name, value in fields.items() if where == "text" or name != "use_cache"}
    assert alike_or_refused(tmp_path, "", None, changes=(where, fields)) == "same"


def changed(folder: Path, path: tuple[str, ...], value: Any, file: str = "config.json") -> None:
    data = json.loads((folder / file).read_text())
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    (folder / file).write_text(json.dumps(data))


@pytest.mark.parametrize("path", [("vision_config",), ("text_config",), ()])
def test_a_setting_that_nobody_knows_is_refused(tmp_path: Path, path: tuple[str, ...]) -> None:
    stock(tmp_path / "stock")
    changed(tmp_path / "stock", (*path, "hidden_akt"), "relu")
    with pytest.raises(ConfigError, match="hidden_akt 'relu' is a setting that is not known here"):
        import_checkpoint(tmp_path / "stock", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_the_page_has_the_tables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    for table in (PROCESSOR, CLIP_VISION, SIGLIP_VISION, LLAVA, LLAVA_NEXT, LLAVA_AUTHORS, EAGLE, CAMBRIAN):
        assert f"| {' | '.join(table.cells())} |" in page, table.what


def test_every_field_of_the_config_classes_is_in_its_table() -> None:
    tables: dict[str, Fields] = {
        "CLIPVisionConfig": CLIP_VISION, "SiglipVisionConfig": SIGLIP_VISION, "LlavaConfig": LLAVA,
        "LlavaNextConfig": LLAVA_NEXT,
    }  # fmt: skip
    for title, table in tables.items():
        known = {*table.used, *table.idle, *table.only}
        unknown = {name for name in getattr(transformers, title)().to_dict() if name[0] != "_"} - known
        assert not unknown, title
    for title in ("CLIP", "Llava", "LlavaNext", "Siglip"):
        known = {*PROCESSOR.used, *PROCESSOR.idle, *PROCESSOR.only}
        assert not set(getattr(transformers, f"{title}ImageProcessor")().to_dict()) - known, title


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_a_tied_language_model_comes_and_goes(tmp_path: Path, kind: str, both: bool) -> None:
    model = stock(tmp_path / "stock", kind=kind, changes=("top", {"tie_word_embeddings": True}))
    if both:
        changed(tmp_path / "stock", ("text_config", "tie_word_embeddings"), True)
    import_checkpoint(tmp_path / "stock", tmp_path / "ours")
    mine, theirs = logits(model, tmp_path / "ours", Odd())
    assert (mine - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    export_checkpoint(tmp_path / "ours", tmp_path / "back")
    again, info = type(model).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values()), info
    assert again.lm_head.weight.data_ptr() == again.get_input_embeddings().weight.data_ptr()
    import_checkpoint(tmp_path / "back", tmp_path / "twice")
    assert torch.equal(logits(model, tmp_path / "twice", Odd())[0], mine)


@pytest.mark.parametrize("layer", [-1, -2, [-3, -1]])
def test_a_llava_that_sees_through_siglip(tmp_path: Path, layer: Any) -> None:
    model = stock(tmp_path / "stock", vision="siglip", changes=("top", {"vision_feature_layer": layer}))
    transformers.SiglipImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path / "stock")
    import_checkpoint(tmp_path / "stock", tmp_path / "ours")
    mine, theirs = logits(model, tmp_path / "ours", Odd())
    assert (mine - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    assert load(tmp_path / "ours")[1].preprocess["siglip"].mean == (0.5, 0.5, 0.5)


PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("llava", {}), "Llava": ("llava", {"do_pad": True}),
    "LlavaNext": ("llava_next", {"image_grid_pinpoints": PINPOINTS}),
}  # fmt: skip
SETTINGS: dict[str, list[Any]] = {
    "": [None], "image_mean": [[0.1, 0.2, 0.3]], "image_std": [[0.5, 0.6, 0.7]], "resample": [1, 2],
    "size": [{"shortest_edge": 40}, {"height": 28, "width": 28}], "crop_size": [{"height": 20, "width": 20}],
    "do_resize": [False], "do_center_crop": [False], "do_rescale": [False], "do_normalize": [False],
    "rescale_factor": [0.01], "do_convert_rgb": [False], "do_pad": [True, False],
}  # fmt: skip


@pytest.mark.parametrize("title", PROCESSORS)
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values])
def test_pixels_are_the_published_processors_or_it_is_refused(
    tmp_path: Path, title: str, name: str, value: Any
) -> None:
    kind, given = PROCESSORS[title]
    stock(tmp_path / "stock", kind=kind)
    given = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, "resample": 3, **given}
    given |= {name: value} if name else {}
    processor = getattr(transformers, f"{title}ImageProcessorPil")(**given)
    processor.save_pretrained(tmp_path / "stock")
    try:
        import_checkpoint(tmp_path / "stock", tmp_path / "ours")
    except ConfigError as error:
        assert name in str(error), str(error)  # noqa: PT017
        assert name not in ("", "image_mean", "image_std", "do_convert_rgb", "do_pad")
        return
    assert name not in ("crop_size", "do_resize", "do_rescale", "do_normalize", "rescale_factor")
    _, ours = load(tmp_path / "ours")
    for image in (Odd(), Odd(33, 97), Odd(57, 55), Odd(28, 28), Odd(301, 200)):
        (mine,) = ours.collate([ours(sample(image), answer=False)]).pixels.values()
        theirs = processor(image.open(), return_tensors="pt")["pixel_values"]
        theirs = theirs[0] if theirs.ndim == 5 else theirs
        assert mine.shape == theirs.shape
        assert (mine - theirs).abs().max() < 1e-5, (image, name, value)


def test_shards_without_an_index_and_a_file_of_another_name(tmp_path: Path) -> None:
    model = stock(tmp_path / "stock")
    import_checkpoint(tmp_path / "stock", tmp_path / "whole")
    expected = logits(model, tmp_path / "whole", Odd())[0]
    state = load_file(tmp_path / "stock" / "model.safetensors")
    file = (tmp_path / "stock" / "model.safetensors").rename(tmp_path / "stock" / "weights.safetensors")
    import_checkpoint(tmp_path / "stock", tmp_path / "named")
    assert torch.equal(logits(model, tmp_path / "named", Odd())[0], expected)
    file.unlink()
    names = sorted(state)
    for number, some in enumerate((names[:20], names[20:]), 1):
        save_file({n: state[n] for n in some}, tmp_path / "stock" / f"model-{number:05d}-of-00002.safetensors")
    import_checkpoint(tmp_path / "stock", tmp_path / "sharded")
    assert torch.equal(logits(model, tmp_path / "sharded", Odd())[0], expected)
    (tmp_path / "stock" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(RunError, match=r"model-00002-of-00002\.safetensors: missing; expected 2 shards, there are 1"):
        import_checkpoint(tmp_path / "stock", tmp_path / "cut")


@pytest.mark.parametrize("kind", ["llava_onevision", "qwen2_vl", "idefics3", "paligemma", "internvl_chat"])
def test_other_families_say_what_can_be_done(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=rf"model_type '{kind}'.*What can be done: .*its vision encoder alone"):
        import_checkpoint(tmp_path, tmp_path / "out")
