"""A whole published Eagle X5 folder, tiny, imported and run: logits, loss and greedy words as recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_toys import save_tokenizer
from safetensors.torch import load_file
from torch import Tensor

from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Batch, View, Views
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load
from ommatidia.models.processor import Processor
from ommatidia.models.published import import_checkpoint

TOKENS = 1024


@pytest.fixture(scope="module")
def case(golden: Callable[[str], Any]) -> Any:
    return golden("eagle_full_x5")


@pytest.fixture(scope="module")
def imported(case: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[MLLM, Processor]:
    folder = tmp_path_factory.mktemp("published")
    shutil.copyfile(case.path / "weights.safetensors", folder / "model.safetensors")
    shutil.copyfile(case.path / "weights.safetensors", folder / "model-00001-of-00001_old.safetensors")
    (folder / "config.json").write_text(json.dumps(case.json("published_config.json")))
    save_tokenizer(folder)
    det = case.config["towers"]["det"]
    blocks = sorted(set(range(det["depth"])) - set(det["window_blocks"]))
    done = import_checkpoint(folder, folder.with_name("ours"), changes=[("encoders.eva02_det.global_blocks", blocks)])
    assert done.family == "eagle"
    assert set(done.account.used) | set(done.account.ignored) == set(load_file(folder / "model.safetensors"))
    assert set(done.account.ignored.values()) == {
        "ConvNeXt's classifier", "takes no part in Eagle's features"
    }  # fmt: skip
    return load(folder.with_name("ours"))


def batch_of(case: Any, processor: Processor, name: str, rows: int) -> Batch:
    """The recorded token ids with the single image mark spread over its 1024 places."""
    given = case.tensors("inputs")
    scenario = next(s for s in case.config["scenarios"] if s["name"] == name)
    pictures = scenario["images"]
    most = scenario.get("tokenizer_model_max_length", case.config["tokenizer_model_max_length"])
    ids, labels, masks, views, pixels = [], [], [], [], []
    for row in range(rows):
        tokens = given[f"{name}.input_ids"][row]
        mask = given.get(f"{name}.attention_mask", torch.ones_like(given[f"{name}.input_ids"]))[row].bool()
        label = given.get(f"{name}.labels", torch.full_like(given[f"{name}.input_ids"], IGNORE_LABEL))[row]
        tokens, label = tokens[mask], label[mask]
        at = (tokens == IMAGE_TOKEN_ID).nonzero().flatten().tolist()
        for place in at:
            spread = torch.full((TOKENS,), IMAGE_TOKEN_ID)
            tokens = torch.cat([tokens[:place], spread, tokens[place + 1 :]])
            label = torch.cat([label[:place], torch.full((TOKENS,), IGNORE_LABEL), label[place + 1 :]])
        ids.append(tokens[:most])
        labels.append(label[:most])
        masks.append(torch.ones(len(ids[-1]), dtype=torch.bool))
        views.append(tuple(View(0, (1024, 1024)) for _ in at))
        if at:
            image = case.image(pictures[row])
            pixels.append(next(iter(processor.preprocess.values()))(image))
    pad = torch.nn.utils.rnn.pad_sequence
    stacked = torch.stack(pixels)
    return Batch(
        tuple(map(str, range(rows))),
        pad(ids, batch_first=True, padding_value=0),
        pad(labels, batch_first=True, padding_value=IGNORE_LABEL),
        pad(masks, batch_first=True, padding_value=False),
        dict.fromkeys(processor.preprocess, stacked),
        views=Views.of(views),
    )


@pytest.mark.parametrize(("name", "rows"), [("single", 1), ("batch", 3), ("truncated", 2)])
def test_logits_and_loss(
    case: Any, imported: tuple[MLLM, Processor], close: Callable[[Tensor, Tensor, str], None], name: str, rows: int
) -> None:
    model, processor = imported
    out, batch = case.tensors("outputs"), batch_of(case, processor, name, rows)
    with torch.no_grad():
        x_BTE, seen = model.embed(batch)
        h_BTE = model.read(x_BTE, batch.mask_BT, seen)
        for row in range(rows):
            kept = out[f"{name}.logits_pos.{row}"]
            close(x_BTE[row, kept, ::8], out[f"{name}.embeds_sub.{row}"], f"eagle_full_x5 {name} embeddings {row}")
            close(
                model.language.head(h_BTE[row, kept]), out[f"{name}.logits.{row}"], f"eagle_full_x5 {name} logits {row}"
            )
        if f"{name}.loss" in out:
            total, count = model.loss(batch)
            assert float(total) / count == pytest.approx(float(out[f"{name}.loss"]), abs=1e-5)


def test_greedy_words(case: Any, imported: tuple[MLLM, Processor]) -> None:
    model, processor = imported
    batch, out = batch_of(case, processor, "single", 1), case.tensors("outputs")
    with torch.no_grad():
        x_BTE, _ = model.embed(batch)
        said = model.language.decoder.generate(
            inputs_embeds=x_BTE, attention_mask=batch.mask_BT.long(), max_new_tokens=8, do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    key = next(name for name in out if name.startswith("single.greedy") and not out[name].is_floating_point())
    assert said[0].tolist() == out[key].flatten().tolist()[-8:]
