"""What the writer is asked, and how its replies are read. A prompt's version is part of every record it made."""

from __future__ import annotations

import json
import re

from ommatidia.data.data_engine.search import terms

SUBFIELDS = ("subfields-1", 'Name {count} subfields of the field "{field}". Write one a line and nothing else.')
TOPICS = (
    "topics-1",
    'Name {count} topics of the subfield "{subfield}" of "{field}" that encyclopedias show pictures of. '
    "Write one a line and nothing else.",
)
QUESTION = (
    "question-1",
    'A picture stands in the section "{section}" of an encyclopedia\'s page "{title}". Its caption: {caption}\n'
    "The section says:\n{text}\n\n"
    "Write one question that needs the picture and the knowledge in this section, and its answer in one to three "
    "sentences. The reader sees the picture but neither the caption nor the section: do not mention them. "
    "Reply with two lines, the first beginning with Question: and the second with Answer: and nothing else.",
)
"""The writer never sees the image (as in Cambrian-1): its caption must carry what is asked."""

_ITEM = re.compile(r"^\s*(?:[-*\u2022]|\(?\d+[.):])?\s*(.*?)\s*[.;,]?\s*$")
_PAIR = re.compile(
    r"\A\W*question\W*?:[\s*]*(?P<question>\S.*?)\s*^\W*answer\W*?:[\s*]*(?P<answer>\S.*?)\s*\Z", re.I | re.M | re.S
)
_TEXT = re.compile(
    r"\b(?:captions?|passages?|sections?|articles?|according to|the (?:text|context|page|description))\b", re.I
)
_REFUSAL = re.compile(
    r"\b(?:as an ai|i (?:cannot|can't|am unable|do not have)|i'm (?:sorry|unable)|cannot see)\b", re.I
)
_LONGEST_ITEM = 10


def read_list(reply: str, *, most: int) -> list[str]:
    """Items of a list, one a line, without bullets, numbers and doubles; what is too long for a name is no item."""
    items: dict[str, str] = {}
    for line in reply.splitlines():
        item = _ITEM.sub(r"\1", line).strip("\"'* ")
        if item and not item.endswith(":") and len(item.split()) <= _LONGEST_ITEM:
            items.setdefault(item.lower(), item)
    return list(items.values())[:most]


def read_pair(reply: str) -> tuple[str, str] | None:
    """Question and answer of a reply, as two marked lines or as a JSON object; None: it is neither."""
    text = re.sub(r"\A\s*```\w*\s*|\s*```\s*\Z", "", reply)
    try:
        data = json.loads(text)
        pair = data["question"].strip(), data["answer"].strip()
        return pair if all(pair) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        match = _PAIR.search(text)
    return (match["question"], match["answer"]) if match else None


def fault(question: str, answer: str, *, beside: str, consistent: bool) -> str:
    """Why a pair is not used; empty: it is.

    ``beside`` is title and caption: with ``consistent`` the pair must share a word with them, or nothing says that it
    is about this image (the commonest complaint about Cambrian-1's generated data).
    """
    if _REFUSAL.search(answer) or _REFUSAL.search(question):
        return "the writer refused"
    if _TEXT.search(question) or _TEXT.search(answer):
        return "speaks of the text that the reader does not see"
    if consistent and not set(terms(beside)) & set(terms(f"{question} {answer}")):
        return "shares no word with title and caption"
    return ""
