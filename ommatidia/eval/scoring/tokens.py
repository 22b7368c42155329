"""Captions as tokens: our own reading of the Penn Treebank rules that the COCO metrics tokenise with."""

from __future__ import annotations

import re

_DROPPED = frozenset({"'", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"', "\u201c", "\u201d", "\u2018"})
# The metrics drop brackets by their capital names, but tokens are lower-cased before: so brackets count as words.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_AS_ASCII = str.maketrans({"\u2019": "'", "\u2013": "--", "\u2014": "--", "\u2026": "..."})
"""Marks that the PTB tokenizer writes in ASCII."""
_SPLIT = re.compile(r"^(?:(can)(not)|(gon|wan)(na)|(got)(ta)|(gim|lem)(me))$")
_TOKEN = re.compile(
    r"""
    (?:[a-z]\.){2,}                                # u.s.
    | \b(?:mr|mrs|ms|dr|st|jr|sr|vs|etc|ave)\.      # mr.
    | \d+(?:[,.:/]\d+)+(?:-[a-z]+)*                 # 1,000  3.5  10:30  1/2
    | n't\b | '(?:s|re|ve|ll|d|m)\b                 # a clitic that stands alone
    | '(?:n'|\d0s\b)                                # 'n'  '90s
    | [^\W_]+(?:[-_&/@.][^\W_]+|'[^\W_]{3,})*(?:'(?:s|re|ve|ll|d|m|t)\b)?
    | \.\.\. | -- | [!?]+ | [^\w\s] | _+
    """,
    re.VERBOSE,
)


def ptb_like(text: str) -> list[str]:
    """Lower-cased tokens without punctuation, near what Stanford's PTB tokenizer gives the COCO metrics.

    Clitics stand apart (dog 's, do n't, can not), words keep their hyphens, numbers their points and commas. Captions
    of everyday words come out the same; rare symbols and abbreviations may not, so a score on these tokens is named
    after them.
    """
    found = []
    for token in _TOKEN.findall(text.lower().translate(_AS_ASCII)):
        for part in _clitics(token):
            if split := _SPLIT.match(part):
                found += [piece for piece in split.groups() if piece]
            else:
                found.append(part)
    return [_BRACKETS.get(token, token) for token in found if token not in _DROPPED]


def _clitics(token: str) -> list[str]:
    """``don't`` as do and n't, ``dog's`` as dog and 's."""
    if token.endswith("n't") and len(token) > 3:
        return [token[:-3], "n't"]
    cut = re.fullmatch(r"(.+)('(?:s|re|ve|ll|d|m))", token)
    return [cut[1], cut[2]] if cut else [token]
