"""What expert models found in an image, as words (MoAI, 2403.07508): captions, objects, written words, distances.

A record holds, by the name of the expert, a text (``caption``) or a list of findings:

    {"boxes": [{"label": "car", "box": [12, 8, 40, 20], "score": 0.9}], "ocr": [{"text": "STOP", "box": [...]}],
     "depth": [{"label": "car", "depth": 3.2}], "caption": "A red car."}

``box`` is left, top, right, bottom. An empty list says that the expert found nothing, and makes no words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, DataError

Expert = Literal["caption", "boxes", "ocr", "depth"]
Box = tuple[float, float, float, float]
T = TypeVar("T")

_NAMED_BY: dict[str, str] = {"boxes": "label", "ocr": "text", "depth": "label"}
_SENTENCES = {"boxes": "Objects in the picture: {}.", "ocr": "Written in the picture: {}.", "depth": "Distances: {}."}
_LINES = {"boxes": "Objects: {}", "ocr": "Words: {}", "depth": "Distances: {}"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing an expert found."""

    name: str
    box: Box | None
    """Left, top, right, bottom as fractions of the image."""
    score: float | None
    depth: float | None


class Wording(Config):
    """Which experts speak, and how. The order of the rules: score, order, number, words, length.

    - ``sentences``: one sentence an expert, joined by spaces: boxes before names, written words in quotes.
    - ``grounded``: one line an expert, of ``<ref>name</ref><box>(left,top),(right,bottom)</box>``; written words too.
    """

    experts: Annotated[tuple[Expert, ...], Field(min_length=1)]
    """In the order of the text."""
    template: Literal["sentences", "grounded"] = "sentences"
    given: Literal["pixels", "fractions"] = "pixels"
    """What the numbers of a box in the records are."""
    written: Literal["fractions", "thousandths"] = "fractions"
    """What they are in the text: fractions of the image with two decimals, or whole numbers from 0 to 1000."""
    order: Literal["file", "score", "reading"] = "file"
    """Of an expert's findings: as the records have them; the highest score first; or by the top of their boxes, then by
    the left. Findings that are equal in this stay as the records have them."""
    at_most: Annotated[int, Field(ge=1)] | None = None
    """Findings an expert, the first ones in this order."""
    min_score: dict[Expert, float] = Field(default_factory=dict)
    """Findings below it are left out. MoAI: boxes 0.5, ocr 0.85."""
    characters: Annotated[int, Field(ge=1)] | None = None
    """Of an expert's words: findings are left out from the end until the rest fits; a caption ends behind a word."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.experts)) < len(self.experts):
            raise ConfigError(f"experts: {', '.join(self.experts)} names one of them twice")
        if strangers := set(self.min_score) - (set(self.experts) - {"caption"}):
            raise ConfigError(f"min_score: {', '.join(sorted(strangers))} has no findings with scores in this text")
        return self

    def text(self, record: Mapping[str, Any], size: Callable[[], tuple[int, int]]) -> str:
        """The words for one record; empty when nothing was found. ``size`` is asked for (height, width) in pixels where
        boxes are given in pixels. Raises DataError."""
        spoken = [self._expert(expert, record, size) for expert in self.experts]
        return (" " if self.template == "sentences" else "\n").join(words for words in spoken if words)

    def _expert(self, expert: Expert, record: Mapping[str, Any], size: Callable[[], tuple[int, int]]) -> str:
        found = record.get(expert)
        if found is None:
            raise DataError(f"no field {expert!r}; an expert that found nothing has an empty list or text there")
        if expert == "caption":
            if not isinstance(found, str):
                raise DataError(f"'caption' is {type(found).__name__}; expected a text")
            return _shortened(" ".join(found.split()), self.characters)
        if not isinstance(found, list):
            raise DataError(f"{expert!r} is {type(found).__name__}; expected a list of findings")
        findings = [_finding(expert, one, f"{expert}[{n}]") for n, one in enumerate(found)]
        if self.given == "pixels" and any(one.box for one in findings):
            findings = [_scaled(one, *size()) for one in findings]
        for number, one in enumerate(findings):
            if one.box and not (0 <= one.box[0] <= one.box[2] <= 1 and 0 <= one.box[1] <= one.box[3] <= 1):
                raise DataError(
                    f"{expert}[{number}]: box {found[number]['box']} in {self.given} is no region of the picture"
                    + (f" of {size()[1]} x {size()[0]} pixels" if self.given == "pixels" else "")
                )
        words = [self._words(expert, one, f"{expert}[{n}]") for n, one in self._chosen(expert, findings)]
        return self._joined(expert, words)

    def _chosen(self, expert: Expert, findings: list[Finding]) -> list[tuple[int, Finding]]:
        """The findings that are spoken of, in order, with their numbers in the record."""
        chosen = list(enumerate(findings))
        if expert in self.min_score:
            chosen = [(n, f) for n, f in chosen if _need(f.score, f"{expert}[{n}]", "score") >= self.min_score[expert]]
        if self.order == "score":
            chosen.sort(key=lambda one: -_need(one[1].score, f"{expert}[{one[0]}]", "score"))
        elif self.order == "reading":
            boxes = {n: _need(f.box, f"{expert}[{n}]", "box") for n, f in chosen}
            chosen.sort(key=lambda one: (boxes[one[0]][1], boxes[one[0]][0]))
        return chosen[: self.at_most]

    def _words(self, expert: Expert, finding: Finding, place: str) -> str:
        if expert == "depth":
            distance = f"{_need(finding.depth, place, 'depth'):.2f}"
            return (
                f"<ref>{finding.name}</ref> {distance}" if self.template == "grounded" else f"{finding.name} {distance}"
            )
        if self.template == "sentences" and expert == "ocr":
            return f'"{finding.name}"'
        left, top, right, bottom = map(self._number, _need(finding.box, place, "box"))
        if self.template == "grounded":
            return f"<ref>{finding.name}</ref><box>({left},{top}),({right},{bottom})</box>"
        return f"[{left}, {top}, {right}, {bottom}] {finding.name}"

    def _number(self, fraction: float) -> str:
        return f"{fraction:.2f}" if self.written == "fractions" else str(round(fraction * 1000))

    def _joined(self, expert: Expert, words: list[str]) -> str:
        frame, between = (_SENTENCES, ", ") if self.template == "sentences" else (_LINES, " ")
        while words:
            text = frame[expert].format(between.join(words))
            if self.characters is None or len(text) <= self.characters:
                return text
            words = words[:-1]
        return ""


def _need(value: T | None, place: str, what: str) -> T:
    if value is None:
        raise DataError(f"{place} has no {what!r}, which this wording needs")
    return value


def _finding(expert: Expert, one: Any, place: str) -> Finding:
    if not isinstance(one, Mapping):
        raise DataError(f"{place} is {type(one).__name__}; expected an object")
    name = one.get(_NAMED_BY[expert])
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{place} has {name!r} for {_NAMED_BY[expert]!r}; expected a text")
    box = one.get("box")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise DataError(f"{place}: box {box!r}; expected [left, top, right, bottom]")
    for key in ("score", "depth"):
        if one.get(key) is not None and not _is_number(one[key]):
            raise DataError(f"{place}: {key} {one[key]!r}; expected a number")
    left, top, right, bottom = box or (0, 0, 0, 0)
    return Finding(
        " ".join(name.split()), (left, top, right, bottom) if box else None, one.get("score"), one.get("depth")
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scaled(finding: Finding, height: int, width: int) -> Finding:
    if finding.box is None:
        return finding
    left, top, right, bottom = finding.box
    return Finding(
        finding.name, (left / width, top / height, right / width, bottom / height), finding.score, finding.depth
    )


def _shortened(text: str, characters: int | None) -> str:
    """The words that fit, whole."""
    if characters is None or len(text) <= characters:
        return text
    return text[: characters + 1].rpartition(" ")[0].rstrip()
