"""How the toolkits read the letter of an option out of an answer: the rules of several, which disagree on free text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import punctuation
from typing import Literal

from ommatidia.eval.scoring.cambrian import final_answer

Rule = Literal[
    "lmms_eval", "mmbench", "mmbench_static", "cambrian", "cambrian_scienceqa", "cambrian_mmvp", "first", "ai2d",
    "scienceqa", "mmvp", "cv_bench",
]  # fmt: skip

_SUBJECTS = ("answer", "correct answer", "best answer", "correct option", "best option", "choice", "correct choice")
_ANSWER_PHRASES = (
    *(f"{the}{subject} is" for subject in _SUBJECTS for the in ("the ", "")),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    # Korean, Chinese and Japanese.
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
_DECORATIONS = ("{}.", "{},", "{}:", "{})", "{}).", "({})", "({}).", ":{}", ":{},", ":{}.", ":{})", ":{}).")
_LETTERS = "ABCDE"


def lmms_eval(answer: str, options: Mapping[str, str]) -> str:
    """lmms-eval's shared extractor (RealWorldQA and MMBench without a judge): capitals only, many candidates.

    The best kind wins, and within it the last place: alone at the start, alone at the end, the first occurrence after
    "answer is" and the like, (X), ``X.``, ``X:``, ``X)``, X before a space, and if there is none of these X anywhere.
    """
    text = answer.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    if not text.strip():
        return ""
    bare, text = text.strip(), f" {text} "
    found: list[tuple[int, int, str]] = []
    for letter in options:
        for priority, form in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
            if (place := text.rfind(form.format(letter))) >= 0:
                found.append((priority, place, letter))
        for phrase in _ANSWER_PHRASES:
            start = text.lower().find(phrase)
            if start >= 0 and (place := text.find(letter, start + len(phrase))) >= 0:
                found.append((7, place, letter))
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((10, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((9, len(text) - 1, letter))
    found = found or [(0, text.rfind(letter), letter) for letter in options if letter in text]
    return max(found, key=lambda candidate: candidate[:2])[2] if found else ""


def mmbench(answer: str, options: Mapping[str, str]) -> str:
    """MMBench's rule before any judge: one letter among the words, else the one option whose text occurs.

    Letters are A to E whatever the options. "A" among more than three words may be the article and counts only with a
    decoration such as ``A.`` or ``(A)``.
    """
    words = set(answer.split())
    several = len(answer.split()) > 3
    for form in ("{}", *_DECORATIONS):
        found = [letter for letter in _LETTERS if form.format(letter) in words]
        if len(found) == 1 and not (form == "{}" and several and "A" in words):
            return found[0]
    text = answer.lower()
    said = [letter for letter, option in options.items() if option.lower() in text]
    return said[0] if len(said) == 1 else ""


def mmbench_static(answer: str, options: Mapping[str, str]) -> str:
    """lmms-eval on MMBench without a judge: MMBench's rule, and where it finds nothing the shared extractor."""
    return mmbench(answer, options) or lmms_eval(answer, options)


def cambrian(answer: str, options: Mapping[str, str]) -> str:
    """Cambrian-1: the first character after the last "answer is" or "answer:"; any word supplies its first letter."""
    return _bare(answer)[:1].upper()


def cambrian_scienceqa(answer: str, options: Mapping[str, str]) -> str:
    """Cambrian-1 on ScienceQA: what stands before the first period, or one option's text but for punctuation."""
    text = final_answer(answer).rstrip(".")
    plain = _without_punctuation(text)
    said = (letter for letter, option in options.items() if _without_punctuation(option) == plain)
    letter = text.partition(".")[0].upper()
    return next(said, letter if len(letter) == 1 else "")


def cambrian_mmvp(answer: str, options: Mapping[str, str]) -> str:
    """Cambrian-1 on MMVP: the whole answer is a letter or one option's text."""
    text = _bare(answer)
    said = (letter for letter, option in options.items() if option.lower() == text)
    return text.upper() if len(text) == 1 else next(said, "")


def _bare(answer: str) -> str:
    return final_answer(answer).rstrip(".:,").lstrip("(").rstrip(")")


def _without_punctuation(text: str) -> str:
    return text.translate(str.maketrans("", "", punctuation)).lower().strip()


def first(answer: str, options: Mapping[str, str]) -> str:
    """SEED-Bench: the first character."""
    return answer.strip()[:1].upper()


def ai2d(answer: str, options: Mapping[str, str]) -> str:
    """AI2D: a leading capital with a period, else the whole answer without case and punctuation."""
    if start := re.match(r"\s*([A-Z])\.", answer):
        return start[1]
    plain = answer.translate(str.maketrans("", "", punctuation)).upper()
    return plain if len(plain) == 1 else ""


def scienceqa(answer: str, options: Mapping[str, str]) -> str:
    """ScienceQA as LLaVA scores it: a bare letter, or a leading capital with a period."""
    text = answer.strip()
    return text.upper() if len(text) == 1 else text[0] if text[1:2] == "." and text[0].isupper() else ""


_MMVP = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^\s*\(?([AB])\)?\.?\s*$",
        r"^\s*\(?([AB])\)?[.\s]",
        r"answer\s+is\s+\(?([AB])",
        r"option\s+\(?([AB])",
        r"([AB])\)?(?:\s|$)",
        r"^([AB])",
    )
)


def mmvp(answer: str, options: Mapping[str, str]) -> str:
    """MMVP in lmms-eval: alone, at the start, after "answer is" or "option", any word's final a or b, the first."""
    text = answer.strip()
    found = (pattern.search(text) for pattern in _MMVP)
    return next((match[1].upper() for match in found if match), "")


def cv_bench(answer: str, options: Mapping[str, str]) -> str:
    """CV-Bench in lmms-eval: the first letter after brackets, so "The answer is A" reads T."""
    match = re.match(r"[(\s]*([A-Za-z])", answer)
    return match[1].upper() if match else ""


RULES: dict[Rule, Callable[[str, Mapping[str, str]], str]] = {
    "lmms_eval": lmms_eval,
    "mmbench": mmbench,
    "mmbench_static": mmbench_static,
    "cambrian": cambrian,
    "cambrian_scienceqa": cambrian_scienceqa,
    "cambrian_mmvp": cambrian_mmvp,
    "first": first,
    "ai2d": ai2d,
    "scienceqa": scienceqa,
    "mmvp": mmvp,
    "cv_bench": cv_bench,
}
"""Answer and lettered options to a letter (not always of an option), or "" for none."""
