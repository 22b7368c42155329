"""Resolution: records whose images are too small, too large or too narrow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ommatidia.core.errors import DataError
from ommatidia.data.curation.operation import Operation, Place, Step, Verdict
from ommatidia.data.curation.record import Record


class Resolution(Operation):
    """Only records whose images have such sides, by their headers. MM1's documents: 100 to 10,000 px, ratio to 2."""

    kind: Literal["resolution"] = "resolution"
    least: Annotated[int, Field(ge=1)] | None = None
    """Pixels of the shorter side."""
    most: Annotated[int, Field(ge=1)] | None = None
    """Pixels of the longer side."""
    ratio: Annotated[float, Field(ge=1)] | None = None
    """Longer side over shorter side."""
    unreadable: Literal["refuse", "drop"] = "refuse"
    """What to do about an image that is missing or broken: end with its name, or drop its record and count it."""

    @property
    def looks(self) -> bool:
        return True

    def start(self, place: Place) -> Step:
        return _Looking(self)

    def fault(self, record: Record) -> str:
        """What is wrong with its images; empty: nothing. Raises DataError for one that cannot be read."""
        for picture in record.pictures():
            try:
                short, long = sorted(picture.size())
            except DataError as error:
                if self.unreadable == "drop":
                    return "an image is missing or broken"
                raise error.at(source=record.file, sample=record.id) from None
            if self.least is not None and short < self.least:
                return f"an image with a side below {self.least} px"
            if self.most is not None and long > self.most:
                return f"an image with a side above {self.most} px"
            if self.ratio is not None and long > self.ratio * short:
                return f"an image longer than {self.ratio:g} times its width"
        return ""


class _Looking(Step):
    def __init__(self, operation: Resolution) -> None:
        self._operation = operation

    def decide(self, record: Record) -> Verdict:
        fault = self._operation.fault(record)
        return Verdict(None, fault) if fault else Verdict(record)
