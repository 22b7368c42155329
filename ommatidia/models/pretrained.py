"""One self-describing folder a model: config, safetensors, the language model's own config and tokenizer, a card.

Loading reads the folder and nothing else: no base encoder is fetched or built twice, no pickle, no remote code.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import ommatidia
from ommatidia.core.errors import ConfigError, DiskError, RunError, unknown
from ommatidia.models.language.hf import HFLanguage
from ommatidia.models.mllm import MLLM, MLLMConfig
from ommatidia.models.processor import Processor

FORMAT = 1
_CONFIG, _WEIGHTS, _LANGUAGE, _CARD = "config.json", "model.safetensors", "language", "README.md"


def save(model: MLLM, config: MLLMConfig, folder: str | Path, *, notes: Mapping[str, Any] | None = None) -> Path:
    """Write the folder atomically; an older one in its place is replaced only when the new one is complete.

    Raises DiskError when the disk is full or the place not writable.
    """
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Not mkdtemp: its folders are for their owner's eyes alone, and a saved model is there to be shared.
        draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            _write(model, config, draft, dict(notes or {}))
            if folder.exists():
                shutil.rmtree(folder)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise DiskError(f"{folder}: cannot save the model: {getattr(error, 'strerror', None) or error}") from None
    return folder


def _write(model: MLLM, config: MLLMConfig, folder: Path, notes: dict[str, Any]) -> None:
    language = folder / _LANGUAGE
    language.mkdir()
    model.language.save_config(language)
    Processor(config).tokenizer.save(language)
    document = {
        "format": FORMAT,
        "model_type": "ommatidia",
        "ommatidia_version": ommatidia.__version__,
        "model": config.to_dict(),
        "notes": notes,
    }
    (folder / _CONFIG).write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    save_file(_unshared(model.state_dict()), folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _CARD).write_text(_card(model, config, notes), encoding="utf-8")


def _unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each storage once: tied matrices keep their first name, and loading ties them again."""
    seen: set[tuple[int, int]] = set()
    out = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.numel())
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        out[name] = tensor.detach().contiguous()
    return out


def load(folder: str | Path, *, device: str = "cpu") -> tuple[MLLM, Processor]:
    """Model and processor of a saved folder, ready to evaluate. Raises ConfigError or RunError."""
    folder = Path(folder)
    config = read_config(folder)
    model = config.build(seed=0, pretrained=False)
    expected = dict(model.state_dict())
    try:
        with safe_open(folder / _WEIGHTS, framework="pt") as file:
            present = set(file.keys())
            if strangers := present - set(expected):
                raise RunError(f"{folder / _WEIGHTS}: {unknown('tensor', min(strangers), expected)}")
            loaded = {_place(expected[name]) for name in present}
            missing = [name for name, tensor in expected.items() if _place(tensor) not in loaded]
            if missing:
                raise RunError(f"{folder / _WEIGHTS}: {len(missing)} tensors are missing, the first is {missing[0]!r}")
            for name in present:
                _copy(expected[name], file.get_tensor(name), f"{folder / _WEIGHTS}: {name}")
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder / _WEIGHTS}: unreadable or truncated: {error}") from None
    return model.to(device).eval(), Processor(config)


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()


@torch.no_grad()
def _copy(into: Tensor, tensor: Tensor, what: str) -> None:
    if into.shape != tensor.shape:
        raise RunError(f"{what} has shape {tuple(tensor.shape)}, but the config says {tuple(into.shape)}")
    into.copy_(tensor)


def read_config(folder: str | Path) -> MLLMConfig:
    """The model's value from a saved folder, its language model pointing into the folder itself."""
    folder = Path(folder)
    try:
        document = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(
            f"{folder}: no {_CONFIG}; expected a folder saved by ommatidia (omma run writes one)"
        ) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{folder / _CONFIG}: not valid JSON, line {error.lineno}") from None
    kind = document.get("model_type") if isinstance(document, dict) else None
    if kind != "ommatidia":
        raise ConfigError(f"{folder}: a checkpoint of type {kind!r}, not 'ommatidia'")
    if document.get("format") != FORMAT:
        raise ConfigError(f"{folder}: written in format {document.get('format')}; this version reads format {FORMAT}")
    language = HFLanguage(path=str(folder / _LANGUAGE)).to_dict()
    try:
        return MLLMConfig.parse(dict(document.get("model") or {}) | {"language": language})
    except ConfigError as error:
        raise ConfigError(f"{folder / _CONFIG}: {error}") from None


def _card(model: MLLM, config: MLLMConfig, notes: Mapping[str, Any]) -> str:
    """The model card: what it sees with, how large its parts are, and whatever the run noted about itself."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}
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
        *(f"| {name} | {count:,} |" for name, count in parts.items()),
    ]
    lines += ["", f"Visual tokens a view: {config.tokens_per_view}. Fusion: {config.fusion.kind}.", ""]  # type: ignore[attr-defined]
    lines += [f"- {name}: {encoder.describe()}" for name, encoder in config.encoders.items()]
    lines += ["", *(f"- {key}: {value}" for key, value in notes.items()), ""]
    return "\n".join(lines)
