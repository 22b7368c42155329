"""A recipe with adapters from training to export: what trains, what resumes, what is saved, asked and merged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lab_toys import COMMAND, benchmark, recipe_data
from PIL import Image
from safetensors.torch import load_file

import ommatidia
from ommatidia.core.console import Console, use
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.data.loader import Loader
from ommatidia.lab.drive import run_recipe
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.plan import plan_trial
from ommatidia.lab.saved.evaluation import Choices, evaluate_checkpoint
from ommatidia.lab.saved.exchange import export_folder
from ommatidia.models.adapters import is_adapter
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.train.interrupt import StoppedError

LANGUAGE, VIT = {"rank": 4}, {"rank": 2, "dropout": 0.1}


def adapted(quantize: str) -> Recipe:
    """Words from scratch, then adapters on the decoder and on one of two trunks, saved at every step."""
    data = recipe_data("coarse", "vit")
    both = {"language": LANGUAGE, "encoders.vit": VIT}
    data["model"]["adapters"] = {part: {**one, "quantize": quantize} for part, one in both.items()}
    words, _, tune = data["stages"]
    words["train"] = {"language:*": 3e-3}
    tune |= {"train": {"projector": 1e-3, "language": 5e-3, "encoders.vit": 5e-3}, "steps": 4, "save_every": 1}
    return Recipe.parse(data | {"stages": [words, tune], "benchmarks": [benchmark("attributes", "general")]})


def carried_out(recipe: Recipe, folder: Path) -> Path:
    with use(Console(quiet=True)):
        done = run_recipe(recipe, Store(folder / "store"), out=folder / "out", command=COMMAND)
    return Path(done.data["model"])


def stopping(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Of the streams of samples with images, each ends behind so many batches, as a signal would end it."""
    batches = Loader.__iter__

    def stop(loader: Loader) -> Iterator[Any]:
        for number, batch in enumerate(batches(loader)):
            if number == after and batch[0].views:
                raise StoppedError("stopped")
            yield batch

    monkeypatch.setattr(Loader, "__iter__", stop)


def asked(folder: Path, picture: Path) -> tuple[MLLM, Processor, torch.Tensor]:
    """The loaded model, and its hidden states for a question that it also answers."""
    model, processor = ommatidia.load(folder)
    parts = ImagePart(0), "what colour is it?"
    sample = Sample("one", (Message("user", parts),), (FilePicture(picture),))
    assert len(generate(model, processor, [sample], Decoding(max_new_tokens=2))) == 1
    with torch.no_grad():
        return model, processor, model(processor.collate([processor(sample, answer=False)]))


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_adapters_train_resume_answer_and_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantize: str
) -> None:
    recipe = adapted(quantize)
    straight = carried_out(recipe, tmp_path / "straight")
    with monkeypatch.context() as patched:
        stopping(patched, after=2)
        with pytest.raises(StoppedError):
            carried_out(recipe, tmp_path / "resumed")
    resumed = carried_out(recipe, tmp_path / "resumed")
    wanted, got = (load_file(folder / "model.safetensors") for folder in (straight, resumed))
    assert wanted.keys() == got.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in wanted.items())

    tune = plan_trial(recipe).training[-1]
    left = load_file(tune.folder(Store(tmp_path / "straight" / "store")) / "trained.safetensors")
    assert {name.partition(":")[0] for name in left} == {"projector", "language", "encoders.vit"}
    assert all(is_adapter(name) for name in left if name.startswith("language:"))
    assert all(tensor.any() for name, tensor in left.items() if "lora_B" in name)

    Image.new("RGB", (32, 32), (200, 20, 20)).save(tmp_path / "red.png")
    _, processor, h_BTE = asked(straight, tmp_path / "red.png")
    assert set(processor.config.adapted()) == {"language", "encoders.vit"}
    assert "adapters on encoders.vit: LoRA of rank 2" in (straight / "README.md").read_text()
    told = export_folder(straight, tmp_path / "merged")
    assert told.lines[-1] == "adapters of encoders.vit, language: added into the matrices; the folder has none"
    plain, without, merged_BTE = asked(tmp_path / "merged", tmp_path / "red.png")
    assert without.config.adapters == {}
    assert not any(is_adapter(name) for name, _ in plain.named_parameters())
    torch.testing.assert_close(merged_BTE, h_BTE, rtol=1e-4, atol=1e-4)

    (tmp_path / "asked.yaml").write_text(yaml.safe_dump([benchmark("attributes", "general")]))
    with use(Console(quiet=True)):
        scores = [
            evaluate_checkpoint(folder, str(tmp_path / "asked.yaml"), out=tmp_path / name, choices=Choices())
            for name, folder in (("straight asked", straight), ("merged asked", tmp_path / "merged"))
        ]
    assert scores[0].tables == scores[1].tables
