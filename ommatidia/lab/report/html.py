"""The report as one self-contained HTML page: style, script, images and figures are all inside it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ommatidia.lab.report import numbers, views
from ommatidia.lab.report.figures import cost, curves, greedy
from ommatidia.lab.report.greedy_words import gains_note, look_lines
from ommatidia.lab.report.model import Report
from ommatidia.lab.report.ranking import notices, ranked
from ommatidia.lab.report.sections import asked_sections

FOLDER = Path(__file__).parent


def render_html(report: Report) -> str:
    """The page as text: equal reports give equal pages. Every value is escaped.

    Raises RunError when an example's image cannot be read.
    """
    designs = ranked(report.designs)
    script = (FOLDER / "report.js.j2").read_text(encoding="utf-8")
    page = _environment().get_template("report.html.j2")
    return page.render(
        report=report,
        manifest=report.manifest,
        designs=designs,
        notices=notices(report),
        facts=views.facts(report),
        rankings=views.rankings(report, designs),
        heat=views.heat_map(report, designs),
        greedy_picture=greedy.greedy_path(report.rounds),
        trades=views.trades(designs),
        panels=curves.loss_panels(designs),
        coloured=[(f"c{i}", d.name) for i, d in enumerate(curves.coloured(designs))],
        gains=views.gain_table(report),
        cards=views.cards(report, designs),
        asked=asked_sections(report),
        style=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # The browser itself is told to run this one script and load nothing, whatever an answer contains.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def breakable(name: str) -> Markup:
    """A long name that a narrow heading may break after an underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def _environment() -> Environment:
    loader = FileSystemLoader(FOLDER)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": numbers.percent,
        "signed": numbers.signed,
        "bracket": numbers.bracket,
        "scaled": numbers.scaled,
        "duration": numbers.duration,
        "p_value": numbers.p_value,
        "breakable": breakable,
        "group_title": views.group_title,
    }
    environment.globals |= {"plural": numbers.plural, "marker": cost.key_marker}
    environment.globals |= {"look_lines": look_lines, "gains_note": gains_note}
    return environment
