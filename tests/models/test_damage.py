"""Damage to a saved model is named when it is loaded: every file in every way, never a traceback, never in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from model_toys import config, mixed_samples, parts_of
from safetensors.torch import load_file, save_file

from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.core.folders import SEAL, seal
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.pretrained import load, save

Damage = Callable[[Path], None]
FILES = (
    "config.json", SEAL, "model.safetensors", "language/config.json", "language/tokenizer.json",
    "language/tokenizer_config.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = config("a", "b")
    return save(parts_of(cfg, seed=5)[0], cfg, tmp_path_factory.mktemp("saved") / "model")


def flipped(place: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = min(int(place * len(data)), len(data) - 1)
        return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]

    return change


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "first byte gone": lambda data: data[1:],
    "a byte more": lambda data: data + b"\0",
    "twice": lambda data: data + data,
    "start flipped": flipped(0.0),
    "a tenth flipped": flipped(0.1),
    "middle flipped": flipped(0.5),
    "end flipped": flipped(1.0),
    "zeros": lambda data: bytes(len(data)),
    "a list": lambda data: b"[]",
    "an object": lambda data: b"{}",
    "null": lambda data: b"null",
    "no text": lambda data: b"\xff\xfe\xfd",
    "deep": lambda data: b"[" * 100_000,
    "a page": lambda data: b"<html>404</html>",
    "a pickle": lambda data: b"cos\nmkdir\n(Vx\ntR.",
}


def of_bytes(name: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def as_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


def of_json(name: str, change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return damage


def of_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def filled(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[next(n for n in tensors if n.endswith("weight"))].view(-1)[-1:].fill_(value)


TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "not a number": filled(float("nan")),
    "infinite": filled(float("inf")),
    "minus infinite": filled(float("-inf")),
    "one gone": lambda tensors: tensors.pop(sorted(tensors)[0]),
    "one more": lambda tensors: tensors.update(extra=torch.zeros(2)),
    "another shape": lambda tensors: tensors.update({(n := sorted(tensors)[0]): tensors[n].flatten()[:3].clone()}),
    "whole numbers": lambda tensors: tensors.update({(n := sorted(tensors)[0]): tensors[n].to(torch.int32)}),
    "renamed": lambda tensors: tensors.update({"other": tensors.pop(sorted(tensors)[0])}),
    "none": lambda tensors: tensors.clear(),
}
WRONG: tuple[object, ...] = (None, 7, "words", [], {})
DOCUMENT = ("format", "model_type", "model", "elsewhere")
LANGUAGE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def kinds() -> Iterator[tuple[str, Damage]]:
    for name in FILES:
        for what, change in BYTES.items():
            yield f"{name}: {what}", of_bytes(name, change)
        yield f"{name}: gone", lambda folder, name=name: (folder / name).unlink()
        yield f"{name}: a folder", lambda folder, name=name: as_folder(folder, name)
    others = [name for name in FILES if name != SEAL]
    for name, other in zip(others, others[1:] + others[:1], strict=True):
        yield f"{name}: in place of {other}", lambda f, a=name, b=other: shutil.copyfile(f / a, f / b) and None
    yield "language: gone", lambda folder: shutil.rmtree(folder / "language")
    for what, extra in (
        ("more weights", "model-00002-of-00002.safetensors"), ("an index", "model.safetensors.index.json"),
        ("a vocabulary", "language/vocab.json"), ("a template", "language/chat_template.jinja"),
        ("added tokens", "language/added_tokens.json"),
    ):  # fmt: skip
        yield f"extra: {what}", lambda folder, extra=extra: (folder / extra).write_text("{}") and None
    for what, change in TENSORS.items():
        yield f"tensors: {what}", of_tensors(change)


def resealed() -> Iterator[tuple[str, Damage]]:
    """Damage with checksums that were written after it: what remains is seen by what it says."""
    for what, change in TENSORS.items():
        yield f"tensors: {what}", of_tensors(change)
    for name, keys in (("config.json", DOCUMENT[:3]), ("language/config.json", LANGUAGE)):
        for key in keys:
            yield f"{name}: without {key}", of_json(name, lambda d, key=key: d.pop(key))
    for name, keys in (("config.json", DOCUMENT), ("language/config.json", LANGUAGE)):
        for key in keys:
            for wrong in WRONG:
                if key == "elsewhere" and wrong == []:
                    continue
                yield f"{name}: {key} is {wrong!r}", of_json(name, lambda d, k=key, v=wrong: d.update({k: v}))
    for name in ("language/tokenizer.json", "language/config.json", "config.json", "model.safetensors"):
        for what in ("emptied", "cut in half", "a list", "null", "no text", "deep", "zeros", "a pickle", "an object"):
            yield f"{name}: {what}", of_bytes(name, BYTES[what])
        yield f"{name}: gone", lambda folder, name=name: (folder / name).unlink()


LISTED = dict(kinds())
RESEALED = dict(resealed())


def test_there_are_enough_of_them() -> None:
    assert len(LISTED) >= 127
    assert len(LISTED) + len(RESEALED) >= 200


@pytest.mark.parametrize("name", LISTED)
def test_damage_is_named(original: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(original, tmp_path / "model")
    LISTED[name](folder)
    with pytest.raises((ConfigError, RunError)) as caught:
        load(folder)
    said = str(caught.value)
    assert str(folder) in said
    assert len(said) < 800


@pytest.mark.parametrize("name", RESEALED)
def test_damage_with_new_checksums_is_an_error_of_ours(original: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(original, tmp_path / "model")
    RESEALED[name](folder)
    (folder / SEAL).unlink()
    seal(folder, "model")
    with pytest.raises((ConfigError, RunError, DataError)):
        load(folder)


def test_what_people_may_change(original: Path, tmp_path: Path) -> None:
    said = generate(*load(original), mixed_samples(), Decoding(max_new_tokens=3))
    folder = shutil.copytree(original, tmp_path / "model")
    (folder / "README.md").write_text("About this model")
    (folder / "notes.txt").write_text("mine")
    (folder / "pictures").mkdir()
    assert generate(*load(folder), mixed_samples(), Decoding(max_new_tokens=3)) == said


def test_a_folder_of_before_is_read_with_a_note(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(original, tmp_path / "model")
    (folder / SEAL).unlink()
    of_json("config.json", lambda document: document.pop("checksums"))(folder)
    load(folder)
    assert "saved without checksums" in " ".join(capsys.readouterr().err.split())


def test_checks_of_the_weights_may_be_spared(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "model")
    of_tensors(lambda tensors: tensors[sorted(tensors)[0]].add_(1.0))(folder)
    with pytest.raises(RunError, match=r"model\.safetensors: .* is damaged or was changed"):
        load(folder)
    load(folder, checked=False)
