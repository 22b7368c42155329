"""Language models: any causal model of transformers, or a small one from scratch; their tokenizers and chat formats."""

from ommatidia.models.language import gguf, hf, scratch
from ommatidia.models.language.chat import CHAT_FORMATS, ChatFormat, Segment
from ommatidia.models.language.known import LANGUAGES
from ommatidia.models.language.language import LanguageConfig, LanguageModel, LanguageShape
from ommatidia.models.language.tokenizer import Tokenizer

__all__ = [
    "CHAT_FORMATS",
    "LANGUAGES",
    "ChatFormat",
    "LanguageConfig",
    "LanguageModel",
    "LanguageShape",
    "Segment",
    "Tokenizer",
    "gguf",
    "hf",
    "scratch",
]
