"""MMMU: the option or the open answer that a reply gives, by the official rules but never by chance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict, overload

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.cambrian import final_answer, numbers_agree
from ommatidia.eval.scoring.choice import choice_letter, lettered
from ommatidia.eval.scoring.score import Score, grouped, mean
from ommatidia.eval.scoring.scorer import ScorerConfig, meta_of, need, references_of

Variant = Literal["official", "lmms_eval", "cambrian"]
Options = Sequence[str] | Mapping[str, str]

DOMAINS: dict[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy"),
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power"),
        *("Materials", "Mechanical_Engineering"),
    ),
}
_DOMAIN = {subject: domain for domain, subjects in DOMAINS.items() for subject in subjects}

_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
# A number begins where its digits begin: tried from every digit on, a long row of them would take quadratic time.
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:(?<!\d)\d+\.\d+|\.\d+|(?<!\d)\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)
_LONG = 5
"""Words above which a reply may name an option by its text."""


class MmmuRecord(TypedDict):
    """One answered question of MMMU."""

    id: str
    """As published: split_Subject_number."""
    answer: str
    target: str | Sequence[str]
    """A letter, or the accepted open answers."""
    options: Options | None
    """None for an open question."""


@overload
def mmmu_parse(answer: str, options: Options, *, variant: Variant = ...) -> str: ...
@overload
def mmmu_parse(answer: str, options: None, *, variant: Variant = ...) -> list[str | float]: ...
def mmmu_parse(answer: str, options: Options | None, *, variant: Variant = "official") -> str | list[str | float]:
    """With options the letter, or "" where the official script draws one at random; without, every candidate answer.

    A letter is looked for as ``(X)``, then standing free, then, in replies of more than five words, by the option's
    text; of several the last counts. ``lmms_eval`` takes a letter before a space as free, and then one before a period.
    Open candidates are the shortest tails after words such as "is" and "so" (or the whole reply) and the numbers in
    them, numbers rounded to two decimals, single characters with a space before or after. ``cambrian``: its letter, or
    the one text behind "answer is".
    """
    if variant == "cambrian":
        found: list[str | float] = [final_answer(answer).rstrip(".")]
        return found if options is None else choice_letter(answer, options, variant="cambrian")
    return _open(answer) if options is None else _letter(answer, lettered(options), variant)


def _letter(answer: str, options: Mapping[str, str], variant: Variant) -> str:
    for mark in ",.!?;:'":
        answer = answer.strip(mark)
    text = f" {answer} "
    forms = ["({})", " {} "] if variant == "official" else ["({})", "{} ", "{}."]
    for form in forms:
        if found := [letter for letter in options if form.format(letter) in text]:
            # Of several that do not stand free, lmms-eval takes the first option.
            last = form if form == "({})" else " {} "
            return max(found, key=lambda letter: text.rfind(last.format(letter)))
    if len(text.split()) > _LONG:
        text = text.lower()
        if said := [letter for letter, option in options.items() if option.lower() in text]:
            return max(said, key=lambda letter: text.rfind(options[letter].lower()))
    return ""


def _open(answer: str) -> list[str | float]:
    whole = answer.strip().strip(".").lower()
    tails, lines = [], whole.split("\n")
    for place, line in enumerate(lines):
        cues = (*_CUES, "=") if place == len(lines) - 1 else _CUES
        after = [line.rpartition(cue)[2].strip() for cue in cues if cue in line]
        # The official loop starts over after an empty tail, so that a later one may still be taken.
        tail = _shortest(after)
        if tail and tail not in _TRIVIAL:
            tails.append(tail)
    texts = tails or [whole]
    texts = texts + ([number for tail in tails or [whole] for form in _NUMBERS for number in form.findall(tail)])
    return list(dict.fromkeys(candidate for text in texts for candidate in _normalized(text)))


def _shortest(tails: Sequence[str]) -> str:
    best = ""
    for tail in tails:
        if not best or len(tail) < len(best):
            best = tail
    return best


def _normalized(text: str) -> list[str | float]:
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def mmmu_match(
    parsed: str | Sequence[str | float], target: str | Sequence[str], *, variant: Variant = "official"
) -> bool:
    """Whether what ``mmmu_parse`` gave is right: the letter, or a candidate that holds an accepted open answer.

    ``cambrian`` wants an open answer whole or within 5 % of the reply's number; of several accepted ones it knows none.
    """
    targets = [target] if isinstance(target, str) else list(target)
    if isinstance(parsed, str):
        return parsed in targets
    if variant == "cambrian":
        said, wanted = str(parsed[0]), targets[0]
        return len(targets) == 1 and (said == wanted.lower() or numbers_agree(said, wanted, of=said))
    accepted = [norm for one in targets for norm in _normalized(str(one))]
    return any(
        any(isinstance(norm, str) and norm in candidate for norm in accepted)
        if isinstance(candidate, str)
        else candidate in accepted
        for candidate in parsed
    )


def subject_of(name: str) -> str:
    """The subject in an id such as validation_Art_Theory_3. Raises DataError when there is none."""
    found = re.fullmatch(r"[^_]+_(.+)_\d+", name)
    if found is None:
        raise DataError(f"the id {name!r} names no subject; expected split_Subject_number")
    return found[1]


def mmmu_scores(records: Iterable[MmmuRecord | Mapping[str, Any]], *, variant: Variant = "official") -> dict[str, Any]:
    """``accuracy`` over all questions alike, ``unparsed`` (the share of multiple-choice replies without a letter; they
    are wrong, where the official script guesses), ``subjects`` and ``domains`` by name.

    Raises DataError for an id without subject or no record.
    """
    scores = []
    for record in records:
        need(record, "id", "answer", "target", "options")
        parsed = mmmu_parse(str(record["answer"]).strip(), record["options"], variant=variant)
        subject = subject_of(str(record["id"]))
        tags = {"task": subject, "domain": _DOMAIN.get(subject, "")}
        status: Literal["parsed", "unparsed"] = "parsed" if parsed else "unparsed"
        scores.append(
            Score(str(record["id"]), float(mmmu_match(parsed, record["target"], variant=variant)), "", status, tags)
        )
    if not scores:
        raise DataError("no answer to score")
    return {
        "accuracy": mean(scores),
        "unparsed": sum(s.status == "unparsed" for s in scores) / len(scores),
        "subjects": {name: mean(inside) for name, inside in sorted(grouped(scores, "task").items())},
        "domains": {name: mean(inside) for name, inside in sorted(grouped(scores, "domain").items())},
    }


class MmmuScorer(ScorerConfig):
    """MMMU's letter or open answer; ``meta["options"]`` is None for an open question. Accuracy by domain beside it."""

    kind: Literal["mmmu"] = "mmmu"
    variant: Variant = "official"

    def score(self, sample: Sample, answer: str) -> float:
        parsed = mmmu_parse(answer, sample.meta.get("options"), variant=self.variant)
        return float(mmmu_match(parsed, references_of(sample), variant=self.variant))

    def parsed(self, sample: Sample, answer: str) -> str | None:
        parsed = mmmu_parse(answer, sample.meta.get("options"), variant=self.variant)
        return str(parsed) if parsed else None

    def tags(self, sample: Sample, answer: str) -> Mapping[str, str]:
        return {"domain": _DOMAIN.get(str(meta_of(sample, "task")), "other")}

    def figures(self, scores: Sequence[Score]) -> dict[str, float]:
        return {f"domain:{name}": mean(inside) for name, inside in sorted(grouped(scores, "domain").items())}
