"""Plain text: a copy of a fast tokenizer in which no text can become a control token.

What a person or a model wrote is data. The marks of the chat format and every special token get another name in the
copy, one that no text holds, so that neither the search for added tokens nor the vocabulary itself finds them. All ids
stay, and so do the ids of every text that holds no mark.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tokenizers import Tokenizer

_HIDDEN = "\ufdd0{}\ufdd1"
"""Noncharacters of Unicode, which are never part of a text that is interchanged."""


def hide_marks(backend: Tokenizer, marks: Collection[str]) -> Tokenizer:
    """A copy of ``backend`` for which ``marks`` are ordinary characters; ``backend`` stays as it is."""
    data = json.loads(backend.to_str())
    names = {mark: _HIDDEN.format(number) for number, mark in enumerate(sorted(marks))}
    for token in data.get("added_tokens") or ():
        if token["content"] in names:
            token |= {"content": names[token["content"]], "special": True}
    _rename(data["model"], names)
    # Added tokens that templates insert by name; plain text never goes through a template.
    data |= {"post_processor": None, "truncation": None, "padding": None}
    plain = Tokenizer.from_str(json.dumps(data))
    plain.encode_special_tokens = True
    return plain


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Give entries of a vocabulary other names, and leave out the merges that would spell them."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): place for piece, place in vocabulary.items()}
    else:  # Unigram: pieces with their scores, in the order of their ids
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        model["merges"] = [pair for pair in model["merges"] if names.keys().isdisjoint(_of_merge(pair))]


def _of_merge(pair: str | list[str]) -> tuple[str, str, str]:
    """Both pieces and what they become."""
    left, right = pair.split(" ") if isinstance(pair, str) else pair
    return left, right, left + right
