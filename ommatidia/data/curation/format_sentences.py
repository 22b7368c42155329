"""Format sentences: what stands around a question and says what form the answer has, not what is asked.

One benchmark's question comes to training sets as it is, or with a sentence before or behind it: that of
``format_prompts``, of an evaluation toolkit, of a data set's own instructions. To compare questions, they are taken
away; what is left is compared without case, punctuation and white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BETWEEN = re.compile(r"\n+|(?<=[.?!:;])\s+")
_WORDS = re.compile(r"\w+")
_LONGEST = 40
"""Words of a format sentence."""

_FORM = (
    r"(?:words?|phrases?|numbers?|integers?|letters?|options?|choices?|sentences?|directly|briefly|concisely|shortly|"
    r"short|brief|concise|yes or no|yes no|true or false|json|html|format)"
)
_SENTENCES = re.compile(
    rf"(?:please |kindly |now |directly |you must |you should )*(?:"
    rf"(?:answer|respond|reply)\b.*\b{_FORM}\b.*"
    rf"|(?:give|provide|write|return|output)\b.*\b(?:short|brief|concise|direct|final|single|only|html code)\b.*"
    r"|(?:select|choose|pick)\b.*\b(?:answer|option|choice|letter)s?\b.*"
    r"|(?:keep|make) (?:your|the) (?:answer|response)s? (?:short|brief|concise)\b.*"
    r"|when the provided information is insufficient respond with\b.*"
    r"|first show your reasoning process and then give the final answer"
    r"|(?:you )?only need to (?:answer|respond|reply)\b.*"
    r"|(?:let s )?think step by step\b.*"
    r"|(?:hint|note|question|answer|short answer|assistant|the answer is)"
    r")"
)
"""Whole sentences, lower case and without punctuation."""


def plain(text: str) -> str:
    """A text to compare: lower case, words alone."""
    return " ".join(_WORDS.findall(text.lower()))


def bare_question(text: str, sentences: Iterable[str] = ()) -> str:
    """What a user's turn asks, as ``plain`` gives it: format sentences at both ends are left out.

    ``sentences`` are further ones. A turn that is nothing else is compared as a whole.
    """
    further = frozenset(plain(sentence) for sentence in sentences)
    said = [part for part in map(plain, _BETWEEN.split(text)) if part]
    whole = " ".join(said)
    while said and _says_form(said[-1], further):
        said.pop()
    while said and _says_form(said[0], further):
        said.pop(0)
    return " ".join(said) or whole


def _says_form(sentence: str, further: frozenset[str]) -> bool:
    if sentence in further:
        return True
    return sentence.count(" ") < _LONGEST and _SENTENCES.fullmatch(sentence) is not None
