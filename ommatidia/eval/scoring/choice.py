"""The option that a multiple-choice answer picks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Literal

from ommatidia.core.errors import ConfigError, DataError, unknown
from ommatidia.core.types import Sample
from ommatidia.eval.scoring.exact import normalize_short
from ommatidia.eval.scoring.letters import RULES, Rule
from ommatidia.eval.scoring.scorer import ScorerConfig, references_of

Variant = Literal["careful"] | Rule

_EDGES = " \t\n.,;:!?'\"*"
# Capital letters that are also English words: alone inside a sentence they say nothing.
_WORDS = frozenset("AI")


def lettered(options: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Options by capital letter; a plain sequence is lettered from A on."""
    if isinstance(options, Mapping):
        return {letter.strip().upper(): text for letter, text in options.items()}
    return dict(zip(ascii_uppercase, options, strict=False))


def choice_letter(answer: str, options: Sequence[str] | Mapping[str, str], *, variant: Variant = "careful") -> str:
    """The letter of the option that ``answer`` picks, or "" when that cannot be told: it never guesses.

    Other variants are the rules of published toolkits, see ``letters``; what they read that is no option's letter is
    "" too. ``careful``: the text after the last "answer is" or "answer:" is read first, then the whole. In either, the
    first rule that gives one letter decides: a bare letter in any case and decoration; the whole text of one option; a
    letter at the start followed by one of ``. ) :``; one letter in parentheses; one capital followed by ``. ) :``; one
    capital standing free (A and I, being words, only at the end or before "or", "and", a comma); the one option whose
    text occurs as whole words.
    """
    by_letter = lettered(options)
    if variant != "careful":
        if variant not in RULES:
            raise ConfigError(unknown("variant", variant, ["careful", *RULES]))
        letter = RULES[variant](answer, by_letter)
        return letter if letter in by_letter else ""
    tail = re.split(r"answer\s+is\b:?|answer\s*:", answer, flags=re.IGNORECASE)[-1]
    for text in (tail, answer) if tail != answer else (answer,):
        if letter := _read(text.strip(), by_letter):
            return letter
    return ""


def _read(text: str, options: Mapping[str, str]) -> str:
    letters = re.escape("".join(options))
    if not letters:
        return ""
    if bare := re.fullmatch(rf"\(?\s*([{letters}])\s*\)?", text.strip(_EDGES), re.IGNORECASE):
        return bare[1].upper()
    plain = normalize_short(text)
    if same := [letter for letter, option in options.items() if plain and normalize_short(option) == plain]:
        return same[0] if len(same) == 1 else ""
    if start := re.match(rf"\(?([{letters}])[.):](?!\w)", text, re.IGNORECASE):
        return start[1].upper()
    for pattern in (rf"\(([{letters}])\)", rf"(?<!\w)([{letters}])[.):](?!\w)"):
        if (found := set(re.findall(pattern, text))) and len(found) == 1:
            return str(found.pop())
    free = _free(text.rstrip(_EDGES), letters)
    if len(free) == 1:
        return free.pop()
    said = {letter for letter, option in options.items() if _says(plain, normalize_short(option))}
    return said.pop() if len(said) == 1 and not free else ""


def _free(text: str, letters: str) -> set[str]:
    """Capitals standing alone that are meant as letters."""
    alone = rf"(?<![\w'.-])([{letters}])(?![\w'-])(\s*(?:$|[,/&]|or\b|and\b))?"
    return {m[1] for m in re.finditer(alone, text) if m[1] not in _WORDS or m[2] is not None}


def _says(text: str, option: str) -> bool:
    return bool(option) and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text) is not None


class ChoiceScorer(ScorerConfig):
    """1 when the answer picks the right option. ``meta["options"]`` lists them; the reference is a letter or a text."""

    kind: Literal["choice"] = "choice"
    version = 2
    variant: Variant = "careful"

    def score(self, sample: Sample, answer: str) -> float:
        options, target = options_of(sample), target_letter(sample)
        return float(choice_letter(answer, options, variant=self.variant) == target)

    def parsed(self, sample: Sample, answer: str) -> str | None:
        return choice_letter(answer, options_of(sample), variant=self.variant) or None


def target_letter(sample: Sample) -> str:
    """The right option's letter; the reference is a letter or an option's text. Raises DataError when it is neither."""
    options, reference = options_of(sample), references_of(sample)[0]
    letter = reference.strip(_EDGES + "()").upper()
    target = letter if letter in lettered(options) else choice_letter(reference, options)
    if not target:
        raise DataError(f"the reference {reference!r} is none of the options {list(options)}", sample=sample.id)
    return target


def options_of(sample: Sample) -> Sequence[str] | Mapping[str, str]:
    """``meta["options"]``. Raises DataError when it does not list 1 to 26 options."""
    options = sample.meta.get("options")
    if not isinstance(options, Sequence | Mapping) or isinstance(options, str) or not 0 < len(options) <= 26:
        raise DataError('meta["options"] must list one to 26 options', sample=sample.id)
    return options
