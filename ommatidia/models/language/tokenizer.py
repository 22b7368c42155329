"""Tokenizer: text to ids one segment at a time, so that labels are built while rendering."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.json_text import half_character

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokenizer:
    """A thin, explicit face over a transformers tokenizer. No special token is ever added behind the caller's back."""

    def __init__(self, inner: PreTrainedTokenizerBase, *, pad_id: int | None = None) -> None:
        self.inner: Any = inner
        chosen = pad_id if pad_id is not None else inner.pad_token_id
        if chosen is None:
            chosen = inner.unk_token_id if inner.unk_token_id is not None else inner.eos_token_id
        if chosen is None:
            raise ConfigError("the tokenizer has neither a padding, an unknown nor an end token; name one")
        self.pad_id = int(chosen)

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def bos_id(self) -> int | None:
        return self.inner.bos_token_id

    @property
    def eos_id(self) -> int | None:
        return self.inner.eos_token_id

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Ids of one segment. ``special`` says whether marks such as ``</s>`` in it mean the control token.

        Template text does; what a user or a model wrote must not be able to forge one. Raises DataError for a text that
        holds half a character.
        """
        if (fault := half_character(text)) is not None:
            raise DataError(fault, kind="text")
        return self.inner.encode(text, add_special_tokens=False, split_special_tokens=not special) if text else []

    def decode(self, ids: list[int]) -> str:
        """Text without control tokens."""
        return self.inner.decode(ids, skip_special_tokens=True)

    def piece(self, token_id: int) -> str:
        """One token as it looks, for people."""
        return self.inner.decode([token_id])

    def id_of(self, mark: str) -> int:
        """The id of a control token. Raises ConfigError when the mark is not one token."""
        ids = self.encode(mark, special=True)
        if len(ids) != 1:
            raise ConfigError(f"{mark!r} is {len(ids)} tokens in this tokenizer, not one; choose another chat format")
        return ids[0]

    def digest(self) -> str:
        """SHA-256 of the vocabulary and of every rule, as far as the tokenizer says them."""
        backend = getattr(self.inner, "backend_tokenizer", None)
        rules = sorted(self.inner.get_vocab().items()) if backend is None else backend.to_str()
        return digest([type(self.inner).__name__ if backend is None else "", rules])

    def save(self, folder: Path) -> None:
        self.inner.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
