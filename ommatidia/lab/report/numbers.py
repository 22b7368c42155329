"""Numbers as people read them: percent, counts, FLOPs, durations and p values. A missing number is an en dash."""

from __future__ import annotations

import math

from ommatidia.lab.report.model import Interval

DASH = "–"
MINUS = "−"


def percent(fraction: float | None, *, digits: int = 1) -> str:
    """0.7123 -> "71.2" (the unit stands in the heading)."""
    return DASH if fraction is None else f"{100 * fraction:.{digits}f}".replace("-", MINUS)


def signed(fraction: float | None) -> str:
    """0.031 -> "+3.1"; a value that rounds to zero has no sign."""
    if fraction is None:
        return DASH
    text = f"{100 * fraction:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def bracket(interval: Interval | None, *, sign: bool = False) -> str:
    """The bounds, "[69.0, 73.1]"; empty when there are none."""
    if interval is None or (bounds := interval.bounds) is None:
        return ""
    show = signed if sign else percent
    return f"[{show(bounds[0])}, {show(bounds[1])}]"


def scaled(value: float | None, unit: str = "") -> str:
    """Three significant digits with a decimal prefix: 1.35e6 -> "1.35 M", 3.4e15 FLOP -> "3.40 PFLOP"."""
    if value is None:
        return DASH
    if value == 0:
        return f"0 {unit}".strip()
    prefixes = ["", "k" if unit == "" else "K", "M", "G", "T", "P", "E", "Z"]
    if unit == "":
        prefixes[3] = "B"  # parameters are counted in billions
    place = min(max(math.floor(math.log10(abs(value)) / 3), 0), len(prefixes) - 1)
    number = f"{value / 1000**place:.3g}"
    if float(number) >= 1000 and place < len(prefixes) - 1:  # 999 999 rounds up into the next prefix
        place += 1
        number = f"{value / 1000**place:.3g}"
    text = f"{float(number):.{max(0, 2 - math.floor(math.log10(abs(float(number)))))}f}" if place else f"{value:.3g}"
    return f"{text} {prefixes[place]}{unit}".strip()


def duration(seconds: float | None) -> str:
    """ "42 s", "3 min 12 s", "5 h 07 min"."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def p_value(p: float | None) -> str:
    """ "p = 0.004", "p < 0.001"; empty when there is none."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p >= 0.1 else f"p = {p:.3f}"


def plural(count: int, noun: str) -> str:
    """ "1 seed", "2 seeds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
