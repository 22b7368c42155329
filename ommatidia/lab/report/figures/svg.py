"""A drawing surface that writes SVG: marks carry class names (see report.css), text is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

CHARACTER = 0.56
"""Mean width of a character of a sans-serif face, in font sizes: enough to keep labels apart."""


def number(value: float) -> str:
    """A coordinate with at most one decimal, and no negative zero."""
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def text_width(text: str, *, size: float) -> float:
    """The estimated width of ``text`` in pixels."""
    return len(text) * size * CHARACTER


class Drawing:
    """One image, its size in pixels; ``label`` is what a screen reader says. Marks lie in the order of the calls."""

    def __init__(self, width: float, height: float, *, label: str) -> None:
        self.width, self.height, self.label = width, height, label
        self._marks: list[str] = []

    def line(self, start: tuple[float, float], end: tuple[float, float], *, style: str) -> None:
        """A straight line between two points."""
        (x1, y1), (x2, y2) = start, end
        self._marks.append(
            f'<line class="{escape(style)}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>'
        )

    def path(self, points: Iterable[tuple[float, float]], *, style: str, title: str = "") -> None:
        """A line through ``points``."""
        joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self._marks.append(self._titled("polyline", f'class="{escape(style)}" points="{joined}"', title))

    def dot(self, x: float, y: float, *, radius: float = 4, style: str, title: str = "") -> None:
        """A circle."""
        place = f'cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"'
        self._marks.append(self._titled("circle", f'class="{escape(style)}" {place}', title))

    def box(
        self, x: float, y: float, width: float, height: float, *, style: str = "", ink: tuple[str, str] | None = None,
        radius: float = 0,
    ) -> None:  # fmt: skip
        """A rectangle by its upper left corner; ``ink`` is its fill and edge where no style names them."""
        look = f'class="{escape(style)}"' if ink is None else f'fill="{escape(ink[0])}" stroke="{escape(ink[1])}"'
        place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        self._marks.append(f'<rect {look} {place} rx="{number(radius)}"/>')

    def polygon(self, points: Iterable[tuple[float, float]], *, style: str, title: str = "") -> None:
        """A closed shape."""
        joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self._marks.append(self._titled("polygon", f'class="{escape(style)}" points="{joined}"', title))

    def text(self, x: float, y: float, text: str, *, style: str = "label", anchor: str = "start") -> None:
        """Text on the baseline ``y``; ``anchor`` is start, middle or end."""
        place = f'x="{number(x)}" y="{number(y)}"'
        self._marks.append(f'<text class="{escape(style)}" {place} text-anchor="{anchor}">{escape(text)}</text>')

    def upright(self, x: float, y: float, text: str, *, style: str = "label") -> None:
        """Text turned to read upwards, centred on the point."""
        place = f'transform="translate({number(x)} {number(y)}) rotate(-90)"'
        self._marks.append(f'<text class="{escape(style)}" {place} text-anchor="middle">{escape(text)}</text>')

    def markup(self) -> Markup:
        """The finished element."""
        width, height = number(self.width), number(self.height)
        box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        return Markup(f'<svg {box} role="img" aria-label="{escape(self.label)}">{"".join(self._marks)}</svg>')

    def standalone(self, style: str) -> str:
        """The text of a file of its own, with its style sheet; one mark a line, so that changes can be read."""
        width, height = number(self.width), number(self.height)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        )
        lines = [
            f'{head} role="img" aria-label="{escape(self.label)}">',
            f"<style>{style}</style>",
            *self._marks,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _titled(element: str, attributes: str, title: str) -> str:
        return (
            f"<{element} {attributes}><title>{escape(title)}</title></{element}>"
            if title
            else f"<{element} {attributes}/>"
        )
