"""Published LLaVA, Cambrian and Eagle folders, tiny: imported, equal to the stock model, exported, imported again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from model_toys import Colour, save_tokenizer
from PIL import Image
from safetensors.torch import load_file, save_file

from ommatidia.core.errors import ConfigError, OmmatidiaError, RunError
from ommatidia.core.types import IMAGE_TOKEN_ID, ImagePart, Message, Sample
from ommatidia.models.adapters import LoRA, is_adapter, plain_state
from ommatidia.models.build import build_model
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.pretrained import load, save
from ommatidia.models.published import export_checkpoint, import_checkpoint
from ommatidia.models.shards import Shards, copy_into

CLIP = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
IMAGE = 4
"""An id of the toy tokenizer that these texts do not use."""


def stock(folder: Path, kind: str) -> Any:
    """A random model of transformers, saved with a tokenizer."""
    rows = save_tokenizer(folder)
    text = transformers.LlamaConfig(
        vocab_size=rows, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=512,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(**CLIP)
    torch.manual_seed(0)
    if kind == "next":
        pinpoints = [[28, 56], [56, 28], [56, 56]]
        config: Any = transformers.LlavaNextConfig(
            vision_config=vision, text_config=text, image_token_index=IMAGE, image_grid_pinpoints=pinpoints
        )
        model: Any = transformers.LlavaNextForConditionalGeneration(config)
    else:
        config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
        model = transformers.LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    return model.eval()


def sample(image: Any, question: str = "What is it?") -> Sample:
    return Sample("one", (Message("user", (ImagePart(0), question)),), (image,))


class Wide(Colour):
    """An image twice as wide as high."""

    def size(self) -> tuple[int, int]:
        return 30, 61

    def open(self) -> Image.Image:
        return super().open().resize((61, 30))


def logits(folder: Path, model: Any, one: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """Ours and the stock model's for one prompt with an image."""
    ours, processor = load(folder)
    batch = processor.collate([processor(one, answer=False)])
    ids = torch.where(batch.ids_BT == IMAGE_TOKEN_ID, IMAGE, batch.ids_BT)
    pixels = batch.pixels["clip"]
    extra: dict[str, Any] = {"pixel_values": pixels}
    if "Next" in type(model).__name__:
        extra = {"pixel_values": pixels[None], "image_sizes": torch.tensor([one.images[0].size()])}
    with torch.no_grad():
        theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits
        mine = ours.language.head(ours(batch))
    return mine, theirs


@pytest.mark.parametrize("kind", ["llava", "next"])
@pytest.mark.parametrize("picture", [Colour(9), Wide(200)])
def test_an_imported_llava_equals_the_stock_model_and_comes_back(tmp_path: Path, kind: str, picture: Any) -> None:
    (tmp_path / "stock").mkdir()
    model = stock(tmp_path / "stock", kind)
    done = import_checkpoint(tmp_path / "stock", tmp_path / "ours")
    assert done.family == "llava (transformers)"
    torch.testing.assert_close(*logits(tmp_path / "ours", model, sample(picture)), rtol=1e-4, atol=1e-4)

    out = export_checkpoint(tmp_path / "ours", tmp_path / "back")
    assert out.architecture == type(model).__name__
    again, info = type(model).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values()), info
    given = again.config.image_token_index
    ours, processor = load(tmp_path / "ours")
    batch = processor.collate([processor(sample(picture), answer=False)])
    prepared = transformers.AutoProcessor.from_pretrained(tmp_path / "back")
    extra = prepared(text="<image>x", images=picture.open(), return_tensors="pt")
    ids = torch.where(batch.ids_BT == IMAGE_TOKEN_ID, given, batch.ids_BT)
    assert int((extra["input_ids"] == given).sum()) == int((ids == given).sum()), "as many places as theirs"
    sizes = {"image_sizes": extra["image_sizes"]} if "image_sizes" in extra else {}
    with torch.no_grad():
        theirs = again.eval()(input_ids=ids, pixel_values=extra["pixel_values"], **sizes).logits
        mine = ours.language.head(ours(batch))
    assert theirs[..., : mine.shape[-1]].sub(mine).abs().max() < 0.05 * mine.abs().max(), "their own resizing of pixels"

    import_checkpoint(tmp_path / "back", tmp_path / "twice")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "twice"))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items()), "bit-exact"


def test_a_llava_with_adapters_becomes_the_stock_model_with_them_merged(tmp_path: Path) -> None:
    (tmp_path / "stock").mkdir()
    model = stock(tmp_path / "stock", "llava")
    import_checkpoint(tmp_path / "stock", tmp_path / "ours")
    ours, processor = load(tmp_path / "ours")
    adapters = {"language": LoRA(rank=2), "encoders.clip": LoRA(rank=2)}
    config = processor.config.model_copy(update={"adapters": adapters})
    adapted = build_model(config, seed=0, pretrained=False)
    copy_into({n: t for n, t in plain_state(adapted).items() if not is_adapter(n)}, Shards(tmp_path / "ours"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    save(adapted, config, tmp_path / "adapted")
    out = export_checkpoint(tmp_path / "adapted", tmp_path / "out")
    assert (out.architecture, out.merged) == (type(model).__name__, ("encoders.clip", "language"))
    again, info = type(model).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    batch = processor.collate([processor(sample(Colour(9)), answer=False)])
    ids = torch.where(batch.ids_BT == IMAGE_TOKEN_ID, again.config.image_token_index, batch.ids_BT)
    with torch.no_grad():
        theirs = again.eval()(input_ids=ids, pixel_values=batch.pixels["clip"]).logits
        mine = adapted.eval().language.head(adapted(batch))
        before = ours.language.head(ours(batch))
    torch.testing.assert_close(theirs[..., : mine.shape[-1]], mine, rtol=1e-3, atol=1e-3)
    assert (mine - before).abs().max() > 0.1


def llava_original(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    """The authors' layout of the same kind of model."""
    folder.mkdir()
    model = stock(folder, "llava")
    state = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("model.language_model.", "model.").replace(
            "model.vision_tower.", "model.vision_tower.vision_tower.vision_model."
        )
        name = name.replace("model.multi_modal_projector.linear_1", "model.mm_projector.0")
        state[name.replace("model.multi_modal_projector.linear_2", "model.mm_projector.2")] = tensor.clone()
    text = json.loads((folder / "config.json").read_text())["text_config"]
    config = {
        **text, "model_type": "llava_llama", "mm_hidden_size": 32, "mm_vision_select_layer": -2,
        "image_aspect_ratio": "pad", "mm_" + "vision_tower": "openai/clip-vit-large-patch14-336", **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return state


def test_the_authors_layout_and_that_of_transformers_are_one_model(tmp_path: Path) -> None:
    llava_original(tmp_path / "original")
    import_checkpoint(tmp_path / "original", tmp_path / "ours")
    (tmp_path / "hf").mkdir()
    stock(tmp_path / "hf", "llava")
    import_checkpoint(tmp_path / "hf", tmp_path / "theirs")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert load(tmp_path / "ours")[1].preprocess["clip"].fit == "pad_first"


def cambrian(folder: Path) -> dict[str, Any]:
    """A tiny Cambrian folder with random weights under the published names; the encoders that stand before it."""
    from ommatidia.models.config import MLLMConfig
    from ommatidia.models.published.cambrian import rules

    folder.mkdir()
    rows = save_tokenizer(folder)
    encoder = {"kind": "patches", "patch": 8, "image_size": 32, "fit": "pad_first"}
    encoders = {"e0": encoder, "e1": {**encoder, "patch": 4, "neck": "none"}}
    language = {
        "model_type": "llama", "vocab_size": rows, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "max_position_embeddings": 256,
    }  # fmt: skip
    config = {
        **language, "model_type": "cambrian_llama", "mm_projector_type": "sva", "vision_hidden_size": 64,
        "mm_" + "vision_tower_" + "aux_list": ["stub/a", "stub/b"], "query_num_list": [16], "image_token_len": 16,
        "mm_" + "vision_tower_" + "aux_token_len_list": [16, 64], "connector_depth": 2, "connector_only": False,
        "num_of_vision_sampler_layers": 2, "start_of_vision_sampler_layers": 0, "stride_of_vision_sampler_layers": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    ours = MLLMConfig.parse(
        {
            "encoders": encoders, "tiling": "unpad", "projector": "mlp", "chat": "vicuna_v1",
            "fusion": {
                "kind": "sva", "side": 4, "width": 64, "depth": 2, "heads": 1, "groups": [4],
                "sides": {"e0": 4, "e1": 8},
            },
            "injection": {"kind": "deep_sva", "row_end": True, "count": 2, "start": 0, "stride": 2},
            "language": {"kind": "hf", "path": str(folder), "config": language},
        }
    )  # fmt: skip
    model = build_model(ours, seed=0, pretrained=False)
    published = _published_names(rules(list(encoders)), model.state_dict())
    save_file(published, folder / "model.safetensors", metadata={"format": "pt"})
    return encoders


def _published_names(rules: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cambrian's names for our tensors, written out by hand so that the importer is tested against something else."""
    out = {}
    for name, tensor in state.items():
        if name.startswith("encoders."):
            continue
        name = name.replace("language.decoder.", "").replace("projector.", "model.mm_projector.")
        for k in ("0", "1"):
            name = name.replace(f"fusion.adapters.e{k}.", "model.mm_projector_" + f"aux_{k}.")
            name = name.replace(f"positions.e{k}", f"pos_embed_{k}")
            for letter in "kv":
                name = name.replace(f"{letter}_proj.e{k}.", f"{letter}_proj_{k}.")
        name = name.replace("fusion.groups.0.", "model.vision_sampler_0.layers.")
        if name.startswith("injection.layers."):
            number, _, rest = name.removeprefix("injection.layers.").partition(".")
            name = f"model.vision_sampler_layers.{number}.layers.0.{rest}"
        name = name.replace("proj_out.0.", "proj_out.linear_1.").replace("proj_out.2.", "proj_out.linear_2.")
        name = {"fusion.query_GC": "model.vision_query", "injection.row_end_E": "model.image_newline"}.get(name, name)
        out[name] = tensor.clone()
    return out


def test_a_tiny_cambrian_folder_chats_is_exported_and_comes_back(tmp_path: Path) -> None:
    encoders = cambrian(tmp_path / "published")
    done = import_checkpoint(tmp_path / "published", tmp_path / "ours", encoders=encoders)
    assert done.family == "cambrian"
    assert len(done.account.used) == len(load_file(tmp_path / "published" / "model.safetensors"))
    model, processor = load(tmp_path / "ours")
    said = generate(model, processor, [sample(Wide(3))], Decoding(max_new_tokens=4))
    again = generate(*load(tmp_path / "ours"), [sample(Wide(3))], Decoding(max_new_tokens=4))
    assert said == again, "encoders that the folder does not hold are the same every time"
    assert export_checkpoint(tmp_path / "ours", tmp_path / "out").architecture == "OmmatidiaModel"
    import_checkpoint(tmp_path / "out", tmp_path / "twice")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "twice"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    with pytest.raises(ConfigError, match=r"encoders\.e0: 'stub/a' is not known here"):
        import_checkpoint(tmp_path / "published", tmp_path / "other")


@pytest.mark.slow
def test_automodel_knows_our_folders_when_it_is_told(tmp_path: Path) -> None:
    encoders = cambrian(tmp_path / "published")
    import_checkpoint(tmp_path / "published", tmp_path / "ours", encoders=encoders)
    code = (
        "import sys\nbefore = list(sys.meta_path)\nimport ommatidia\nassert sys.meta_path == before\n"
        "assert 'transformers' not in sys.modules\nommatidia.register_auto_classes()\n"
        "from transformers import AutoModel\n"
        f"model = AutoModel.from_pretrained({str(tmp_path / 'ours')!r})\n"
        "print(type(model).__name__, sum(p.numel() for p in model.parameters()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held = sum(p.numel() for p in load(tmp_path / "ours")[0].parameters())
    assert done.stdout.split() == ["OmmatidiaModel", str(held)]


def spoiled(folder: Path, how: str) -> None:
    weights, config = folder / "model.safetensors", json.loads((folder / "config.json").read_text())
    state = load_file(weights)
    if how == "missing":
        state.pop("model.layers.1.mlp.up_proj.weight")
    elif how == "extra":
        state["model.layers.1.mlp.down_proj.bias"] = torch.zeros(3)
    elif how == "shape":
        state["model.mm_projector.0.weight"] = torch.zeros(32, 31)
    elif how == "family":
        config["model_type"] = "qwen3_omni"
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
        return
    elif how == "mixed up":
        index = {"weight_map": dict.fromkeys(state, "model-00002-of-00002.safetensors")}
        save_file(state, folder / "model-00001-of-00002.safetensors")
        save_file({"lm_head.weight": state["lm_head.weight"]}, folder / "model-00002-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    elif how == "pickles":
        weights.unlink()
        torch.save(state, folder / "pytorch_model.bin")
        return
    save_file(state, weights, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            "missing",
            "1 tensors are missing; the first would become .*layers.1.mlp.up_proj.weight",
        ),
        ("extra", "'model.layers.1.mlp.down_proj.bias' would be"),
        ("shape", r"'model.mm_projector.0.weight' has the shape \[32, 31\], the config says \[32, 32\]"),
        ("family", "unknown family: model_type 'qwen3_omni'"),
        ("truncated", "model.safetensors: unreadable or truncated"),
        ("mixed up", "is not in this shard, but model.safetensors.index.json says so"),
        ("pickles", "only pickles .pytorch_model.bin.; --allow-pickle"),
    ],
)
def test_what_cannot_be_a_checkpoint_is_refused_and_writes_nothing(tmp_path: Path, how: str, said: str) -> None:
    llava_original(tmp_path / "bad")
    spoiled(tmp_path / "bad", how)
    with pytest.raises(OmmatidiaError, match=said):
        import_checkpoint(tmp_path / "bad", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad"]


def test_pickles_are_read_when_asked_for_and_never_run(tmp_path: Path) -> None:
    llava_original(tmp_path / "good")
    import_checkpoint(tmp_path / "good", tmp_path / "ours")
    spoiled(tmp_path / "good", "pickles")
    import_checkpoint(tmp_path / "good", tmp_path / "again", pickles=True)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "again"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())

    class Evil:
        def __reduce__(self) -> Any:
            return print, ("run",)

    torch.save({"x": Evil()}, tmp_path / "good" / "pytorch_model.bin")
    with pytest.raises((RunError, ConfigError)):
        import_checkpoint(tmp_path / "good", tmp_path / "evil", pickles=True)


def test_sixteen_bits_stay_sixteen_bits_and_shards_are_streamed(tmp_path: Path) -> None:
    state = llava_original(tmp_path / "half")
    half = {name: tensor.bfloat16() for name, tensor in state.items()}
    names = sorted(half)
    placed = {}
    for number, some in enumerate((names[:20], names[20:]), 1):
        title = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: half[name] for name in some}, tmp_path / "half" / title)
        placed |= dict.fromkeys(some, title)
    (tmp_path / "half" / "model.safetensors").unlink()
    (tmp_path / "half" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    done = import_checkpoint(tmp_path / "half", tmp_path / "ours")
    assert done.dtype == "bfloat16"
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert all(torch.equal(stored[ours], half[theirs]) for theirs, ours in done.account.used.items())
    model, processor = load(tmp_path / "ours", dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert len(generate(model, processor, [sample(Colour(3))], Decoding(max_new_tokens=2))) == 1
