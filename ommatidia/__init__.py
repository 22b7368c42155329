"""Ommatidia: a laboratory for multimodal language models that see through a mixture of vision encoders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ommatidia.core.version import VERSION

if TYPE_CHECKING:
    from ommatidia.core.outside_parts import import_parts
    from ommatidia.core.types import ImagePart, Message, Sample
    from ommatidia.lab.recipe import Recipe
    from ommatidia.lab.search.search import Search
    from ommatidia.models.auto_classes import register_auto_classes
    from ommatidia.models.build import build_model
    from ommatidia.models.config import MLLMConfig
    from ommatidia.models.generate import Decoding, generate
    from ommatidia.models.model import MLLM
    from ommatidia.models.pretrained import load, save
    from ommatidia.models.processor import Processor
    from ommatidia.train.stage import Stage

__version__ = VERSION

_HOME = {
    "Decoding": "models.generate",
    "ImagePart": "core.types",
    "MLLM": "models.model",
    "MLLMConfig": "models.config",
    "Message": "core.types",
    "Processor": "models.processor",
    "Recipe": "lab.recipe",
    "Sample": "core.types",
    "Search": "lab.search.search",
    "Stage": "train.stage",
    "build_model": "models.build",
    "generate": "models.generate",
    "import_parts": "core.outside_parts",
    "load": "models.pretrained",
    "register_auto_classes": "models.auto_classes",
    "save": "models.pretrained",
}

__all__ = [
    "MLLM",
    "Decoding",
    "ImagePart",
    "MLLMConfig",
    "Message",
    "Processor",
    "Recipe",
    "Sample",
    "Search",
    "Stage",
    "build_model",
    "generate",
    "import_parts",
    "load",
    "register_auto_classes",
    "save",
]


def __getattr__(name: str) -> Any:
    """Public names are fetched when they are first used, so that importing the package does not import torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'ommatidia' has no attribute {name!r}")
    return getattr(import_module(f"ommatidia.{_HOME[name]}"), name)
