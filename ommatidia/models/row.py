"""Row: one sample while it is being written down, token by token, with everything that goes with a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ommatidia.core.errors import DataError
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Picture, View
from ommatidia.models.injection import Attends
from ommatidia.models.language import Segment
from ommatidia.models.vision.tiling import Mark


@dataclass(slots=True)
class Row:
    """One sample while it is being written down."""

    attends: Attends
    """Which images a position behind several may look at, where layers inside the decoder look at all."""
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)
    sees: list[tuple[int, int]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    tags: list[list[int]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    spans: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Of every image: its tokens [first, end), how many views and how many places stand before it."""
    window: tuple[int, int] = (0, 0)

    def _write(self, ids: Sequence[int], *, supervised: bool, asked: bool, sees: tuple[int, int]) -> None:
        self.ids += ids
        self.labels += ids if supervised else [IGNORE_LABEL] * len(ids)
        self.asked += [asked] * len(ids)
        self.sees += [sees] * len(ids)

    def speak(self, ids: Sequence[int], segment: Segment) -> None:
        self._write(ids, supervised=segment.supervised, asked=segment.asked, sees=self.window)

    def begin_picture(self, picture: Picture, views: Sequence[View]) -> int:
        """Its views stand behind those that were there; how many these are."""
        first = len(self.views)
        self.views += [replace(view, picture=len(self.pictures)) for view in views]
        self.tags += [[] for _ in views]
        self.pictures.append(picture)
        self.spans.append((len(self.ids), len(self.ids), first, len(self.places)))
        return first

    def _behind(self, first: int) -> tuple[int, int]:
        """What text behind the image that starts with this view sees."""
        return first if self.attends == "last" else 0, len(self.views)

    def mark(self, ids: Sequence[int], mark: Mark, first: int) -> None:
        """A mark looks at the view it announces, at the image it stands for, or at what the text before it sees."""
        sees = self._behind(first) if mark.whole else self.window
        if mark.view is not None:
            sees = (first + mark.view, first + mark.view + 1)
        self._write(ids, supervised=False, asked=False, sees=sees)

    def place(self, numbers: Sequence[int]) -> None:
        self.places += numbers
        self._write([IMAGE_TOKEN_ID] * len(numbers), supervised=False, asked=False, sees=self.window)

    def end_picture(self, first: int) -> None:
        begin, _, views, places = self.spans[-1]
        self.spans[-1] = begin, len(self.ids), views, places
        self.window = self._behind(first)

    def cut(self, longest: int) -> None:
        """Leave out what stands behind so many tokens. Raises DataError when visual tokens would be."""
        if lost := self.ids[longest:].count(IMAGE_TOKEN_ID):
            raise DataError(
                f"{len(self.ids)} tokens are to be cut to {longest}, but {lost} visual tokens stand behind that; "
                "make longest larger, or images smaller"
            )
        self._end(longest)

    def _end(self, tokens: int) -> None:
        for column in (self.ids, self.labels, self.asked, self.sees):
            del column[tokens:]

    def cut_document(self, longest: int) -> None:
        """Leave out what stands behind so many tokens, and from the first image on that would not be whole.

        Raises DataError when no text is left.
        """
        if len(self.ids) <= longest:
            return
        for number, (begin, end, views, places) in enumerate(self.spans):
            if begin >= longest or end > longest:
                longest = min(longest, begin)
                del self.pictures[number:], self.spans[number:]
                del self.views[views:], self.tags[views:], self.places[places:]
                break
        self._end(longest)
        if all(label == IGNORE_LABEL for label in self.labels):
            raise DataError(f"no text is left of a document cut to {longest} tokens; make longest larger")
