"""Training on interleaved documents: a loss on every word, images where they belong, packed as well as padded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lab_toys import recipe_data
from PIL import Image
from safetensors.torch import load_file

from ommatidia.core.console import Console, use
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan
from ommatidia.models.processor import Processor
from ommatidia.train.metrics import read_metrics

COLOURS = ("red", "green", "blue")
PACKED = {"packing": {"tokens": 160, "views": 5}}


def sources(folder: Path) -> dict[str, Any]:
    """Documents of both layouts over three images: with two of them, with one, and with none."""
    for colour in COLOURS:
        Image.new("RGB", (32, 24), colour).save(folder / f"{colour}.png")
    matched = [
        {
            "text_list": [f"A {one} box.", f"Then a {two} one."],
            "image_info": [
                {"image_name": f"{colour}.png", "matched_text_index": place, "matched_sim": 0.3}
                for place, colour in enumerate((one, two))
            ],
        }
        for one, two in zip(COLOURS, COLOURS[::-1], strict=True)
    ]
    page = {"texts": ["Look.", None, "It is blue."], "images": [None, "blue.png", None]}
    documents = {"mmc4": matched, "obelics": [page, {"texts": ["Words alone."], "images": [None]}]}
    for name, records in documents.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return {name: {"source": {"kind": "interleaved", "path": str(folder / f"{name}.jsonl")}} for name in documents}


def recipe(folder: Path, engine: dict[str, Any]) -> Recipe:
    data = recipe_data("coarse", "vit")
    stage = data["stages"][2] | {"name": "documents", "data": {"sources": sources(folder)}, "batch": 6, "longest": 64}
    return Recipe.parse(data | {"stages": [stage | {"engine": engine}], "benchmarks": []})


def trained(recipe: Recipe, folder: Path) -> tuple[list[Any], dict[str, torch.Tensor]]:
    plan, store = Plan.of([recipe]), Store(folder)
    with use(Console(quiet=True)), store.writing():
        assert execute(plan, store).failed == {}
    done = plan.trials[0].training[-1].folder(store)
    return read_metrics(done / "metrics.jsonl"), load_file(done / "trained.safetensors")


def test_documents_are_learned_word_by_word_packed_as_well_as_padded(tmp_path: Path) -> None:
    one = recipe(tmp_path, {})
    processor, mixture = Processor(one.model), one.stages[0].data.open()
    seen = set()
    learned = []
    for position in range(18):
        sample = mixture.draw(position, seed=0)
        example = processor(sample)
        text = example.ids != IMAGE_TOKEN_ID
        assert torch.equal(example.labels[text], example.ids[text])
        assert (example.labels[~text] == IGNORE_LABEL).all()
        learned.append(int((example.labels[1:] != IGNORE_LABEL).sum()))
        words = processor.tokenizer.inner.decode(example.ids[text].tolist())
        places = "".join("#" if token == IMAGE_TOKEN_ID else "." for token in example.ids.tolist())
        seen.add((words, len(places.replace(".", " ").split()), places[0]))
    assert seen == {
        *((f"A {a} box.Then a {b} one.<|end|>", 2, "#") for a, b in zip(COLOURS, COLOURS[::-1], strict=True)),
        ("Look.It is blue.<|end|>", 1, "."),
        ("Words alone.<|end|>", 0, "."),
    }

    steps, padded = trained(one, tmp_path / "padded")
    assert [step.supervised for step in steps] == [sum(learned[at : at + 6]) for at in (0, 6, 12)]
    assert steps[-1].loss < steps[0].loss
    again, packed = trained(recipe(tmp_path, PACKED), tmp_path / "packed")
    assert [step.supervised for step in again] == [step.supervised for step in steps]
    for name, tensor in padded.items():
        torch.testing.assert_close(packed[name], tensor, rtol=1e-3, atol=2e-4)
