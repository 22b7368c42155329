"""Tokenizer: text to ids one segment at a time, so that labels are built while rendering."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer as BackendTokenizer

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.json_text import half_character
from ommatidia.models.language.plain_text import hide_marks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokenizer:
    """A thin, explicit face over a transformers tokenizer. No special token is ever added behind the caller's back.

    Encoding changes no state, so that any number of threads may share one: text of people and text of templates go
    through two backends, made once, instead of one that is switched for each call.
    """

    def __init__(
        self, inner: PreTrainedTokenizerBase, *, pad_id: int | None = None, marks: Collection[str] = ()
    ) -> None:
        """``marks``: control tokens beside those that the tokenizer itself calls special; see ``guarding``.

        Raises ConfigError for a tokenizer without a padding token or one that splits words at random.
        """
        self.inner: Any = inner
        """For decoding and saving. Encoding through it is not safe between threads."""
        chosen = pad_id if pad_id is not None else inner.pad_token_id
        if chosen is None:
            chosen = inner.unk_token_id if inner.unk_token_id is not None else inner.eos_token_id
        if chosen is None:
            raise ConfigError("the tokenizer has neither a padding, an unknown nor an end token; name one")
        self.pad_id = int(chosen)
        self._marks = frozenset(marks)
        named = self._marks | set(inner.all_special_tokens)  # some are called special by their role alone
        control = {i: t.content for i, t in inner.added_tokens_decoder.items() if t.special or t.content in named}
        self._control = frozenset(control) - {inner.unk_token_id}
        backend = getattr(inner, "backend_tokenizer", None)
        _refuse_random(inner, backend)
        self._template = self._plain = None
        if backend is not None:
            self._template = BackendTokenizer.from_str(backend.to_str())
            self._template.encode_special_tokens = False
            self._template.no_truncation()
            self._template.no_padding()
            self._plain = hide_marks(backend, control.values())

    def guarding(self, texts: Iterable[str]) -> Tokenizer:
        """The same tokenizer for which every added token that stands in ``texts`` is a control token too.

        Some tokenizers call the marks of their own chat format ordinary added tokens.
        """
        written = [text for text in texts if text]
        added = [token.content for token in self.inner.added_tokens_decoder.values() if not token.special]
        marks = {mark for mark in added if mark.strip() and any(mark in text for text in written)}
        return self if marks <= self._marks else Tokenizer(self.inner, pad_id=self.pad_id, marks=self._marks | marks)

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

        Template text does; what a user or a model wrote cannot forge one. Raises DataError for plain text that a
        tokenizer without a fast backend turns into a control token all the same, and for half a character.
        """
        if (fault := half_character(text)) is not None:
            raise DataError(fault, kind="text")
        if not text:
            return []
        backend = self._template if special else self._plain
        if backend is not None:
            ids = backend.encode(text, add_special_tokens=False).ids
        else:
            ids = self.inner.encode(text, add_special_tokens=False, split_special_tokens=not special)
        if not special and not self._control.isdisjoint(ids):
            forged = self.inner.convert_ids_to_tokens(next(i for i in ids if i in self._control))
            raise DataError(f"the text {text[:40]!r} holds the control token {forged!r}; expected plain text")
        return ids

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


def _refuse_random(inner: Any, backend: Any) -> None:
    """Raises ConfigError for a tokenizer that would give other ids each time, whatever the seed."""
    dropout = None if backend is None else getattr(backend.model, "dropout", None)
    sampling = (getattr(inner, "sp_model_kwargs", None) or {}).get("enable_sampling")
    if dropout or sampling:
        what = f"dropout {dropout}" if dropout else "enable_sampling"
        raise ConfigError(f"the tokenizer splits words at random ({what}); set that off in the tokenizer's files")
