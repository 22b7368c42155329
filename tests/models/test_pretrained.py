"""Saved models: bit-exact back, self-describing, and clear about what is wrong with a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from model_toys import config, mixed_samples, parts_of, sample
from safetensors.torch import load_file, save_file

import ommatidia
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.folders import SEAL, seal
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load, read_config, save
from ommatidia.models.processor import Processor


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[MLLM, MLLMConfig, Path]:
    cfg = config("a", "b")
    model, _ = parts_of(cfg, seed=5)
    return model, cfg, save(model, cfg, tmp_path_factory.mktemp("saved") / "model", notes={"design": "tiny, a + b"})


@pytest.fixture
def copied(original: tuple[MLLM, MLLMConfig, Path], tmp_path: Path) -> Path:
    return shutil.copytree(original[2], tmp_path / "model")


def test_what_comes_back_is_bit_exact(original: tuple[MLLM, MLLMConfig, Path]) -> None:
    model, cfg, folder = original
    loaded, processor = load(folder)
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not loaded.training
    ours = Processor(cfg)
    for one in [*mixed_samples(), sample("naïve  café\n\t42 %, <|end|> </s> 日本語")]:
        a, b = ours(one), processor(one)
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.labels, b.labels)
        assert all(torch.equal(a.pixels[name], b.pixels[name]) for name in a.pixels)
    decoding = Decoding(max_new_tokens=6)
    said = generate(model, ours, mixed_samples(), decoding)
    assert generate(loaded, processor, mixed_samples(), decoding) == said


def test_the_config_comes_back_but_for_where_the_language_model_is(original: tuple[MLLM, MLLMConfig, Path]) -> None:
    _, cfg, folder = original
    back = read_config(folder)
    for name in ("encoders", "fusion", "projector", "injection", "chat"):
        assert getattr(back, name) == getattr(cfg, name)
    assert back.language.shape() == cfg.language.shape()
    assert load(folder)[1].config == back


def test_the_folder_describes_itself(original: tuple[MLLM, MLLMConfig, Path]) -> None:
    _, cfg, folder = original
    files = {"config.json", "model.safetensors", "language", "README.md", SEAL}
    assert {p.name for p in folder.iterdir()} == files
    document = json.loads((folder / "config.json").read_text())
    assert document["ommatidia_version"] == ommatidia.__version__
    assert MLLMConfig.parse(document["model"]) == cfg
    card = (folder / "README.md").read_text()
    assert "tiny, a + b" in card
    assert "| encoders.b |" in card
    assert "Visual tokens a view: 4" in card
    assert not list(folder.parent.glob(".*")), "no draft is left behind"
    (folder.parent / "ordinary").mkdir()
    assert folder.stat().st_mode == (folder.parent / "ordinary").stat().st_mode, "as readable as any folder"


def test_tied_matrices_are_stored_once_and_tied_again(original: tuple[MLLM, MLLMConfig, Path]) -> None:
    stored = load_file(original[2] / "model.safetensors")
    assert sum(name.endswith(("embed_tokens.weight", "lm_head.weight")) for name in stored) == 1
    decoder = load(original[2])[0].language.decoder
    assert decoder.get_input_embeddings().weight is decoder.get_output_embeddings().weight


def test_a_model_loads_and_saves_again_and_moves(original: tuple[MLLM, MLLMConfig, Path], tmp_path: Path) -> None:
    loaded, processor = load(original[2])
    second = save(loaded, processor.config, tmp_path / "second")
    moved = second.rename(tmp_path / "moved")
    again, _ = load(moved)
    before, after = original[0].state_dict(), again.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_without_encoders(tmp_path: Path) -> None:
    cfg = config()
    model, processor = parts_of(cfg)
    loaded, back = load(save(model, cfg, tmp_path / "blind"))
    one = mixed_samples()[0]
    with torch.no_grad():
        batches = [p.collate([p(one)]) for p in (processor, back)]
        assert torch.equal(model(batches[0]), loaded(batches[1]))


def test_a_new_model_replaces_an_old_one(original: tuple[MLLM, MLLMConfig, Path], copied: Path) -> None:
    cfg = config("a")
    (copied / "stray.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'stray\.txt', which we did not write"):
        save(build_model(cfg, seed=0), cfg, copied)
    assert list(read_config(copied).encoders) == ["a", "b"]
    (copied / "stray.txt").unlink()
    save(build_model(cfg, seed=0), cfg, copied)
    assert list(read_config(copied).encoders) == ["a"]
    (copied / SEAL).unlink()  # as earlier versions saved it
    save(build_model(cfg, seed=0), cfg, copied)


def test_loading_reads_the_folder_alone(
    original: tuple[MLLM, MLLMConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the encoders are not built from their origin a second time."""
    from ommatidia.models.vision.timm import TimmEncoder

    asked: list[bool] = []
    trunk = TimmEncoder.trunk

    def watched(self: TimmEncoder, *, pretrained: bool) -> torch.nn.Module:
        asked.append(pretrained)
        return trunk(self, pretrained=pretrained)

    monkeypatch.setattr(TimmEncoder, "trunk", watched)
    load(original[2])
    assert asked
    assert not any(asked)


def rewrite(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file) | {name: t for name, t in change.items() if t is not None}
    save_file({name: t for name, t in tensors.items() if change.get(name, t) is not None}, file)


def test_wrong_tensors_are_named(copied: Path) -> None:
    stored = load_file(copied / "model.safetensors")
    name = next(n for n in stored if n.startswith("projector.") and stored[n].ndim == 2)
    for change, message in (
        ({name: None}, rf"1 tensors are missing, the first is '{name}'"),
        ({name: torch.zeros(3, 3)}, rf"{name} has shape \(3, 3\), but the config says"),
        ({name: stored[name], name + "x": torch.zeros(1)}, rf"unknown tensor '{name}x'; did you mean '{name}'"),
    ):
        rewrite(copied, change)  # type: ignore[arg-type]
        seal(copied, "model")
        with pytest.raises(RunError, match=message):
            load(copied)


def test_a_missing_tied_matrix_is_missed(copied: Path) -> None:
    stored = load_file(copied / "model.safetensors")
    rewrite(copied, {next(n for n in stored if n.endswith("embed_tokens.weight")): None})
    seal(copied, "model")
    with pytest.raises(RunError, match=r"tensors are missing, the first is .*embed_tokens"):
        load(copied)


@pytest.mark.parametrize("left", [0, 4, 200, -1])
def test_a_truncated_file_is_refused(copied: Path, left: int) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(RunError, match=r"model\.safetensors: \d+ bytes, \d+ were saved"):
        load(copied)
    seal(copied, "model")
    with pytest.raises(RunError, match=r"model\.safetensors: unreadable or truncated"):
        load(copied)


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model\.safetensors"):
        load(copied)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no config.json; expected a folder saved by ommatidia"),
        ("{", "not valid JSON, line 1"),
        ("[]", "not 'ommatidia'"),
        ('{"model_type": "llama"}', "a checkpoint of type 'llama', not 'ommatidia'"),
        ('{"model_type": "ommatidia", "format": 99}', "written in format 99; this version reads format 1"),
        ('{"model_type": "ommatidia", "format": 1}', "config.json: chat: Field required"),
    ],
)
def test_a_foreign_folder_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError) as error:
        load(tmp_path)
    assert message in str(error.value)


def test_a_place_that_cannot_be_written_is_named(original: tuple[MLLM, MLLMConfig, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        save(original[0], original[1], tmp_path / "file" / "model")


def test_the_package_loads_by_path(original: tuple[MLLM, MLLMConfig, Path]) -> None:
    model, processor = ommatidia.load(original[2])
    assert isinstance(model, MLLM)
    assert isinstance(processor, Processor)
