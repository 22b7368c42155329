"""Import: a published checkpoint becomes an Ommatidia folder, tensor by tensor. No base encoder is fetched or built.

The model stands on the meta device, where tensors have shapes but no memory; published tensors stream past it into the
new folder, in the type they are stored in. Every published tensor is accounted for.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ommatidia.core.config import overridden
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language.hf import HFLanguage
from ommatidia.models.pretrained import copy_saved, drafted, is_ommatidia, read_config, write_around
from ommatidia.models.published.cambrian import Cambrian
from ommatidia.models.published.checkpoint import Checkpoint
from ommatidia.models.published.eagle import Eagle
from ommatidia.models.published.family import Family, Reading
from ommatidia.models.published.llava import Llava, LlavaTransformers
from ommatidia.models.published.names import Account, Rule, account
from ommatidia.models.shards import Shards, ShardWriter

_HEAD = "language.decoder.lm_head.weight"
FAMILIES: tuple[Family, ...] = (Eagle(), Cambrian(), LlavaTransformers(), Llava())

_NEAREST = {
    **dict.fromkeys(("llava_onevision", "llava_next_video", "llava_qwen", "video_llava"), "llava_next"),
    **dict.fromkeys(("vipllava", "llava_llava", "got_ocr2", "paligemma", "gemma3"), "llava with SigLIP or CLIP"),
    **dict.fromkeys(("mini_gemini", "mgm", "llava_hr", "internvl", "internvl_chat"), "llava"),
}
"""Model type of a family that is not read -> the family most like it that is."""

_TOKENIZER_FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    folder: Path
    family: str
    config: MLLMConfig
    account: Account
    dtype: str


def family_of(config: Mapping[str, Any]) -> Family:
    """Whose checkpoint a config is. Raises ConfigError for nobody's."""
    for family in FAMILIES:
        if family.owns(config):
            return family
    kind, classes = config.get("model_type"), config.get("architectures")
    known = ", ".join(family.name for family in FAMILIES)
    near = _NEAREST.get(str(kind))
    said = f"the nearest that is read is {near}; " if near else ""
    raise ConfigError(
        f"a checkpoint of unknown family: model_type {kind!r}, architectures {classes!r}; known: {known}. What can be "
        f"done: {said}its vision encoder alone is read as an encoder of kind hf with weights {{kind: folder, path, "
        "prefix}, and its language model, saved by itself, as language {kind: hf, path}"
    )


def import_checkpoint(
    path: Path,
    out: Path,
    *,
    changes: Sequence[tuple[str, Any]] = (),
    encoders: Mapping[str, Any] | None = None,
    pickles: bool = False,
) -> Imported:
    """Write the published checkpoint ``path`` as the Ommatidia folder ``out``.

    Args:
        changes: dotted paths into the MLLMConfig and their values, for what no published config states, such as
            ``encoders.eva02_det.global_blocks``.
        encoders: EncoderConfigs, as plain data by name, for encoders whose weights the checkpoint does not hold.
        pickles: read a folder that has pickles only (``torch.load`` with ``weights_only``).

    Raises ConfigError: no checkpoint, an unknown family, a setting without meaning here. Raises RunError: tensors that
    are missing, unknown, truncated or of another shape. ``out`` is written whole or not at all.
    """
    if (path / "config.json").is_file() and is_ommatidia(path):
        return _copied(path, out)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Checkpoint.open(path, pickles=pickles, scratch=Path(scratch))
        family = family_of(checkpoint.config)
        reading = family.read(checkpoint)
        config, dtype = _config(reading, checkpoint, changes, encoders or {}), checkpoint.dtype()
        with drafted(out, inputs=[path]) as draft:
            _language(config, checkpoint, draft / "language")
            accounted = _weights(config, reading, checkpoint, draft)
            notes = {"imported from": family.name, "published config": json.dumps(checkpoint.config)}
            write_around(config, draft, notes=notes, elsewhere=reading.elsewhere, dtype=dtype)
    return Imported(out, family.name, config, accounted, dtype)


def _copied(path: Path, out: Path) -> Imported:
    """A folder of our own: checked and copied as it is."""
    config, shards = read_config(path), Shards(path)
    with drafted(out, inputs=[path]) as draft:
        copy_saved(path, draft)
    return Imported(out, "ommatidia", config, Account({name: name for name in shards}), "as stored")


def _config(
    reading: Reading, checkpoint: Checkpoint, changes: Sequence[tuple[str, Any]], encoders: Mapping[str, Any]
) -> MLLMConfig:
    for name, title in reading.strangers.items():
        if name not in encoders:
            raise ConfigError(f"encoders.{name}: {title!r} is not known here; give its config (--encoders)")
    given = {name: encoders.get(name, data) for name, data in reading.model["encoders"].items()}
    if strangers := set(encoders) - set(given):
        raise ConfigError(f"encoders: {sorted(strangers)} are none of this checkpoint's: {', '.join(given)}")
    language = HFLanguage(path=str(checkpoint.folder), config=reading.language)
    config = MLLMConfig.parse({**reading.model, "encoders": given, "language": language.to_dict()})
    return overridden(config, changes)


def _language(config: MLLMConfig, checkpoint: Checkpoint, folder: Path) -> None:
    """The language model's config and tokenizer files, copied as they are."""
    folder.mkdir()
    assert isinstance(config.language, HFLanguage)
    config.language.transformers_config().save_pretrained(folder)
    found = [name for name in _TOKENIZER_FILES if (checkpoint.folder / name).is_file()]
    if not any(name.startswith("tokenizer") for name in found):
        raise RunError(f"{checkpoint.folder}: no tokenizer files; expected tokenizer.model or tokenizer.json")
    for name in found:
        shutil.copyfile(checkpoint.folder / name, folder / name)


def _weights(config: MLLMConfig, reading: Reading, checkpoint: Checkpoint, draft: Path) -> Account:
    with torch.device("meta"):
        state = build_model(config, seed=0, pretrained=False).state_dict()
    outside = tuple(f"encoders.{name}.trunk." for name in reading.elsewhere)
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith(outside)}
    if config.language.shape().tied:  # one matrix under two names, stored once
        expected.pop(_HEAD)
    what = str(checkpoint.folder)
    rules = reading.rules
    if _HEAD not in expected:
        rules = [Rule(r".*lm_head\.weight", None, "tied: the embeddings once more"), *rules]
    accounted = account(checkpoint.shards, rules, expected, what=what)
    for theirs, ours in accounted.used.items():
        shape = checkpoint.shards.shape(theirs)
        if _added(theirs, reading):
            shape = (expected[ours][0], *shape[1:])
        if shape != expected[ours]:
            raise RunError(f"{what}: {theirs!r} has the shape {list(shape)}, the config says {list(expected[ours])}")
    writer = ShardWriter(draft)
    for theirs, tensor in checkpoint.shards.tensors():
        if theirs in accounted.used:
            writer.add(accounted.used[theirs], tensor[: reading.rows] if _added(theirs, reading) else tensor)
    writer.close()
    return accounted


def _added(name: str, reading: Reading) -> bool:
    """Whether a tensor may hold a row that an export of ours has added for the image mark."""
    return reading.rows is not None and name.endswith(("embed_tokens.weight", "lm_head.weight"))
