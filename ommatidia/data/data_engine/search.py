"""Search by keywords: BM25 (Robertson and Zaragoza, 2009) over an index that is held in memory."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable

_SATURATION, _LENGTH = 1.2, 0.75
"""BM25's k1 and b."""

_COMMON = """
a about above after all also an and any are as at be been before between both but by can do does during each
few for from had has have he her his how i if in into is it its just like many more most much no nor not of on
one only or other our out over own per same she should so some such than that the their them then there these
they this those through to too under until up very was we were what when where which while who whom why will
with would you your
"""
STOP_WORDS = frozenset(_COMMON.split())


def terms(text: str) -> list[str]:
    """Lower-case words and numbers, the commonest left out."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS]


class Index:
    """Texts by number. About eight bytes for every distinct word of a text."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._documents: dict[str, array[int]] = {}
        self._counts: dict[str, array[int]] = {}
        self._lengths = array("L")
        for number, text in enumerate(texts):
            counts = Counter(terms(text))
            self._lengths.append(counts.total())
            for term, count in counts.items():
                self._documents.setdefault(term, array("L")).append(number)
                self._counts.setdefault(term, array("L")).append(count)
        self._mean = sum(self._lengths) / max(1, len(self._lengths))

    def find(self, query: str, *, most: int) -> list[int]:
        """The texts that answer best, best first; only such as share a word with the query. Ties go by number."""
        scores: Counter[int] = Counter()
        for term in dict.fromkeys(terms(query)):
            held = self._documents.get(term, ())
            rarity = math.log(1 + (len(self._lengths) - len(held) + 0.5) / (len(held) + 0.5))
            for number, count in zip(held, self._counts.get(term, ())):
                relative = 1 - _LENGTH + _LENGTH * self._lengths[number] / self._mean
                scores[number] += rarity * count * (_SATURATION + 1) / (count + _SATURATION * relative)  # type: ignore[assignment]
        return sorted(scores, key=lambda number: (-scores[number], number))[:most]
