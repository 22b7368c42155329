"""CIDEr-D of captions (Vedantam et al. 2015), computed as the COCO caption metrics compute it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Literal, Self

from pydantic import PrivateAttr

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.score import Score, mean
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of
from ommatidia.eval.scoring.tokens import ptb_like

Tokens = Literal["ptb_like", "spaces"]

_LONGEST = 4
_SIGMA = 6.0
_SCALE = 10.0
_TOKENISE: dict[Tokens, Callable[[str], list[str]]] = {"ptb_like": ptb_like, "spaces": str.split}

Ngram = tuple[str, ...]


class Frequencies:
    """In how many images' references each n-gram occurs; a caption's value depends on all of them."""

    def __init__(self, references: Iterable[Sequence[str]], *, tokens: Tokens = "ptb_like") -> None:
        self._tokenise = _TOKENISE[tokens]
        self._seen: Counter[Ngram] = Counter()
        pictures = 0
        for captions in references:
            pictures += 1
            self._seen.update({ngram for caption in captions for ngram in self._ngrams(caption)})
        self._log_pictures = math.log(pictures) if pictures else 0.0

    def value(self, candidate: str, references: Sequence[str]) -> float:
        """CIDEr-D of one caption before the factor ten, from 0 to 1.

        The mean over n = 1 to 4 and over the references of the clipped cosine of tf-idf vectors, times
        exp(-d^2 / 72) for a difference of d bigrams. Raises DataError when there is no reference.
        """
        if not references:
            raise DataError("CIDEr needs reference captions")
        given = self._vectors(candidate)
        return sum(_similarity(given, self._vectors(reference)) for reference in references) / len(references)

    def _ngrams(self, caption: str) -> Counter[Ngram]:
        words = self._tokenise(caption)
        return Counter(
            tuple(words[start : start + n]) for n in range(1, _LONGEST + 1) for start in range(len(words) - n + 1)
        )

    def _vectors(self, caption: str) -> tuple[list[dict[Ngram, float]], list[float], int]:
        vectors: list[dict[Ngram, float]] = [{} for _ in range(_LONGEST)]
        ngrams = self._ngrams(caption)
        for ngram, count in ngrams.items():
            idf = self._log_pictures - math.log(max(1, self._seen[ngram]))
            vectors[len(ngram) - 1][ngram] = count * idf
        norms = [math.sqrt(sum(value * value for value in vector.values())) for vector in vectors]
        return vectors, norms, sum(count for ngram, count in ngrams.items() if len(ngram) == 2)


def _similarity(
    given: tuple[list[dict[Ngram, float]], list[float], int], wanted: tuple[list[dict[Ngram, float]], list[float], int]
) -> float:
    penalty = math.exp(-((given[2] - wanted[2]) ** 2) / (2 * _SIGMA**2))
    total = 0.0
    for said, said_norm, meant, meant_norm in zip(given[0], given[1], wanted[0], wanted[1]):
        if said_norm and meant_norm:
            clipped = sum(min(value, meant[ngram]) * meant[ngram] for ngram, value in said.items() if ngram in meant)
            total += clipped / (said_norm * meant_norm)
    return penalty * total / _LONGEST


def cider_each(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, tokens: Tokens = "ptb_like"
) -> list[float]:
    """CIDEr-D of each caption, on the scale of ``cider``.

    Raises DataError when candidates and references differ in number, there are none, or an image has no reference.
    """
    if len(candidates) != len(references) or not candidates:
        raise DataError(f"{len(candidates)} captions and references of {len(references)} pictures")
    frequencies = Frequencies(references, tokens=tokens)
    return [_SCALE * frequencies.value(candidate, own) for candidate, own in zip(candidates, references)]


def cider(
    candidates: Sequence[str] | Mapping[Hashable, str],
    references: Sequence[Sequence[str]] | Mapping[Hashable, Sequence[str]],
    *,
    tokens: Tokens = "ptb_like",
) -> float:
    """CIDEr-D of a set of captions: the mean over images, on the scale where papers print 100 times the value.

    Both in one order, or both by image. ``spaces`` takes text that is tokenised already and then equals
    pycocoevalcap; ``ptb_like`` is our own tokenisation, so that no Java is needed, and a value on it says so. One
    image alone scores 0 and small sets cannot be compared with large ones: rarity is counted within the set.

    Raises DataError as ``cider_each``, or when the images are not the same.
    """
    if isinstance(candidates, Mapping) and isinstance(references, Mapping):
        if set(candidates) != set(references):
            raise DataError("captions and references are not of the same pictures")
        candidates, references = list(candidates.values()), [references[picture] for picture in candidates]
    if isinstance(candidates, Mapping) or isinstance(references, Mapping):
        raise DataError("captions and references must both be sequences, or both mappings by picture")
    each = cider_each(candidates, references, tokens=tokens)
    return sum(each) / len(each)


class CiderScorer(ScorerConfig):
    """CIDEr-D against the reference captions; the headline is a tenth of it, so that it lies between 0 and 1.

    ``over`` must be given the benchmark's samples first: rare words count more.
    """

    kind: Literal["cider"] = "cider"
    version = 3
    tokens: Tokens = "ptb_like"
    _frequencies: Frequencies | None = PrivateAttr(default=None)

    def over(self, samples: Iterable[Sample]) -> Self:
        bound = self.model_copy()
        bound._frequencies = Frequencies((references_of(sample) for sample in samples), tokens=self.tokens)
        return bound

    def score(self, sample: Sample, answer: str) -> float:
        if self._frequencies is None:
            raise DataError("CIDEr counts words over a whole benchmark; bind the scorer to its samples with over()")
        return min(1.0, self._frequencies.value(answer, references_of(sample)))

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        return {f"cider_{self.tokens}": _SCALE * mean(scores)}
