"""One self-describing folder a model: config, safetensors, the language model's own config and tokenizer, a card.

Loading reads the folder and nothing else: no base encoder is fetched or built twice, no pickle, no remote code.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DiskError, RunError
from ommatidia.core.folders import SEAL, check_seal, read_seal, replaced_folder
from ommatidia.core.markdown import as_text
from ommatidia.core.outside_parts import outside_modules, require_parts
from ommatidia.core.version import VERSION
from ommatidia.models.adapters import plain_state, quantize
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.models.language.hf import HFLanguage
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.models.shards import Shards, ShardWriter, copy_into, unshared

FORMAT = 1
_CONFIG, _LANGUAGE, _CARD = "config.json", "language", "README.md"


def save(model: MLLM, config: MLLMConfig, folder: str | Path, *, notes: Mapping[str, Any] | None = None) -> Path:
    """Write the folder atomically; an older one in its place is replaced only when the new one is complete.

    Raises DiskError when the disk is full or the place not writable.
    """
    folder = Path(folder)
    with drafted(folder) as draft:
        language = draft / _LANGUAGE
        language.mkdir()
        model.language.save_config(language)
        Processor(config).tokenizer.save(language)
        writer = ShardWriter(draft)
        for name, tensor in unshared(plain_state(model)).items():
            writer.add(name, tensor)
        writer.close()
        write_around(config, draft, notes=dict(notes or {}))
    return folder


@contextlib.contextmanager
def drafted(folder: Path, kind: str = "model", *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its place, with checksums, when the block ends well; else it is gone.

    Raises ConfigError where ``folder`` holds anything but a saved model, DiskError as ``replaced_folder`` does.
    """
    try:
        with replaced_folder(folder, kind, inputs=inputs, older=written_before(folder)) as draft:
            yield draft
    except SafetensorError as error:
        raise DiskError(f"{folder}: cannot save the model: {error}") from None


def written_before(folder: Path) -> tuple[str, ...]:
    """Globs of the files that saved models of earlier versions, which have no checksums, are made of."""
    before = ("config.json", "README.md", "model*.safetensors", "model.safetensors.index.json", "language/*")
    return before if is_ommatidia(folder) else ()


def copy_saved(folder: Path, draft: Path) -> None:
    """Copy the files of a saved model, and no others, once they are known to be sound. Raises RunError."""
    sealed = read_seal(folder)
    if sealed is None:
        shutil.copytree(folder, draft, dirs_exist_ok=True)
        return
    check_seal(folder, sealed)
    for name in (*sealed.files, SEAL, _CARD):
        if name != _CARD or (folder / name).is_file():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, draft / name)


def write_around(
    config: MLLMConfig,
    folder: Path,
    *,
    notes: Mapping[str, Any],
    elsewhere: Iterable[str] = (),
    dtype: str = "float32",
) -> None:
    """What stands around the weights: the config and the card. ``elsewhere`` names the encoders whose trunks are not in
    the folder but come from where their own config says; ``dtype`` is the type the weights are stored in."""
    document = {
        "format": FORMAT,
        "model_type": "ommatidia",
        "architectures": ["OmmatidiaModel"],
        "ommatidia_version": VERSION,
        "dtype": dtype,
        "checksums": SEAL,
        "elsewhere": sorted(elsewhere),
        "imports": list(outside_modules(config)),
        "model": config.to_dict(),
        "notes": dict(notes),
    }
    (folder / _CONFIG).write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    (folder / _CARD).write_text(_card(config, notes), encoding="utf-8")


def load(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    checked: bool = True,
) -> tuple[MLLM, Processor]:
    """Model and processor of a saved folder, ready to evaluate in ``dtype``.

    Every file is compared with the checksums that were saved with it; ``checked=False`` spares that for the weights
    (about three seconds for two gigabytes). Raises ConfigError or RunError.
    """
    folder = Path(folder)
    config, document = _read(folder, dtype)
    if checked:
        _check_files(folder, document, files="*.safetensors")
    outside = frozenset(document.get("elsewhere", ()))
    model = build_model(config, seed=0, pretrained=False, fetched=outside).to(getattr(torch, dtype))
    trunks = tuple(f"encoders.{name}.trunk." for name in outside)
    expected = {name: tensor for name, tensor in plain_state(model).items() if not name.startswith(trunks)}
    copy_into(expected, Shards(folder))
    quantize(model.parts(), config.adapted())
    return model.to(device).eval(), Processor(config)


def read_config(folder: str | Path) -> MLLMConfig:
    """The model's value from a saved folder, its language model pointing into the folder itself."""
    return _read(Path(folder), "float32")[0]


def _read(folder: Path, dtype: Literal["float32", "bfloat16", "float16"]) -> tuple[MLLMConfig, dict[str, Any]]:
    """The model's value and the whole document of a saved folder. Raises ConfigError."""
    try:
        document = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(
            f"{folder}: no {_CONFIG}; expected a folder saved by ommatidia (omma run writes one)"
        ) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{folder / _CONFIG}: not valid JSON, line {error.lineno}") from None
    except (UnicodeDecodeError, RecursionError):
        raise ConfigError(f"{folder / _CONFIG}: not valid JSON; it is no text, or nested too deeply") from None
    kind = document.get("model_type") if isinstance(document, dict) else None
    if kind != "ommatidia":
        raise ConfigError(f"{folder}: a checkpoint of type {kind!r}, not 'ommatidia'")
    if document.get("format") != FORMAT:
        raise ConfigError(f"{folder}: written in format {document.get('format')}; this version reads format {FORMAT}")
    for name, kind in (("model", dict), ("elsewhere", list)):
        if not isinstance(document.get(name, kind()), kind):
            raise ConfigError(f"{folder / _CONFIG}: {name}: expected a {kind.__name__}")
    _check_files(folder, document, files="*[!s]")
    require_parts(document.get("imports", ()), str(folder))
    language = HFLanguage(path=str(folder / _LANGUAGE), dtype=dtype).to_dict()
    try:
        config = MLLMConfig.parse(dict(document.get("model") or {}) | {"language": language})
        if strangers := set(document.get("elsewhere", ())) - set(config.encoders):
            raise ConfigError(f"elsewhere: {sorted(map(str, strangers))} are no encoders of this model")
        return config, document
    except ConfigError as error:
        raise ConfigError(f"{folder / _CONFIG}: {error}") from None


def _check_files(folder: Path, document: Mapping[str, Any], *, files: str) -> None:
    """Raises RunError for a file of a saved folder that is not as it was saved; see ``check_seal``."""
    sealed = read_seal(folder)
    if sealed is None and document.get("checksums"):
        raise RunError(f"{folder / SEAL}: missing; it was saved with this model")
    if sealed is None:
        console().log(f"{folder}: saved without checksums, so damage to its files may go unseen")
        return
    check_seal(folder, sealed, files=files, unlisted=("*.safetensors", "model.safetensors.index.json", "language/*"))


def check_saved(folder: Path) -> None:
    """Raises ConfigError or RunError unless a folder is a saved model whose files are all as they were saved."""
    _, document = _read(folder, "float32")
    _check_files(folder, document, files="*.safetensors")


def is_ommatidia(folder: Path) -> bool:
    """Whether a folder's config.json says that it was saved by us."""
    try:
        return json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get("model_type") == "ommatidia"
    except (OSError, ValueError, AttributeError):
        return False


def _card(config: MLLMConfig, notes: Mapping[str, Any]) -> str:
    """The model card: what it sees with, how large its parts are, and whatever the run noted about itself."""
    parts = {name: c.parameters for name, c in cost_by_part(config, text_tokens=0, views=1, head_tokens=0).items()}
    lines = [
        "# An Ommatidia model",
        "",
        "```python",
        "import ommatidia",
        'model, processor = ommatidia.load("this/folder")',
    ]
    lines += [
        "```",
        "",
        "| part | parameters |",
        "|---|---|",
        *(f"| {as_text(name)} | {count:,} |" for name, count in parts.items()),
    ]
    lines += ["", f"Visual tokens a view: {config.tokens_per_view}. Fusion: {config.fusion.kind_name()}.", ""]
    lines += [f"- {as_text(f'{name}: {encoder.describe()}')}" for name, encoder in config.encoders.items()]
    lines += [f"- adapters on {part}: LoRA of rank {adapter.rank}" for part, adapter in config.adapted().items()]
    lines += ["", *(f"- {as_text(f'{key}: {value}')}" for key, value in notes.items()), ""]
    return "\n".join(lines)
