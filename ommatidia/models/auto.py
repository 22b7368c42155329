"""Ommatidia folders through the auto classes of transformers: ``AutoModel.from_pretrained(folder)``.

``import ommatidia`` calls ``announce``; nothing of transformers is imported before somebody else does.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_MAPPINGS = "transformers.models.auto.modeling_auto"


def announce() -> None:
    """Have the auto classes know our folders: at once where they are loaded, otherwise as soon as they will be."""
    if _MAPPINGS in sys.modules:
        _register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting(importlib.abc.MetaPathFinder):
    """Registers right after the auto classes have been imported by whoever wants them, and is gone then."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MAPPINGS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(importlib.abc.Loader):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        _register()


def _register() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig
    from transformers.models.auto.modeling_auto import AutoModel, AutoModelForImageTextToText

    from ommatidia.models.auto_classes import OmmatidiaConfig, OmmatidiaModel

    AutoConfig.register("ommatidia", OmmatidiaConfig, exist_ok=True)
    AutoModel.register(OmmatidiaConfig, OmmatidiaModel, exist_ok=True)
    AutoModelForImageTextToText.register(OmmatidiaConfig, OmmatidiaModel, exist_ok=True)
