"""Whatever text the data holds, a page, a table and a document hold it as text: no element, script, link or formula."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_report import made_up_report
from markdown_it import MarkdownIt

from ommatidia.lab.report.html import render_html
from ommatidia.lab.report.markdown import render_markdown
from ommatidia.lab.report.model import Report
from ommatidia.lab.report.table_csv import render_csv

PIECES = (
    "<script>alert(1)</script>", "</script><script>", "<img src=x onerror=alert(1)>", '" onmouseover="alert(1)',
    "' x='", "<!--", "-->", "]]>", "<svg onload=alert(1)>", "javascript:alert(1)", "{{ 7 * 7 }}", "{% raw %}",
    "&lt;b&gt;", "&#60;",
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")', "|", "`", "```", "\\", "\n", "\n\n",
    "# h",
    "- x", "1. x", "> q", "[a](http://x)", "![a](http://x)", "[a]: http://x", "<http://x>", "http://x.org", "www.x.org",
    "*b*", "_b_", "~~s~~", "$x$", "\ud83d", "\0", "\u2028", "=", "---", "é", " ", "    code", "__proto__",
)  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), min_size=1, max_size=5).map("".join)
OURS = frozenset({"outcome", "treatment", "kind"})
"""Fields of words that only we choose."""


def small() -> Report:
    """Five designs of the made-up report, one of every sort, and two of its examples."""
    whole = made_up_report()
    return dataclasses.replace(whole, designs=whole.designs[:5], examples=whole.examples[:2])


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text of it changed, those of keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(with_texts(one, change) for one in value)
    if isinstance(value, dict):
        return {with_texts(key, change): with_texts(one, change) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **{n: v if n in OURS else with_texts(v, change) for n, v in fields.items()})
    return value


class Elements(HTMLParser):
    """What a browser would make of a page: its elements with the names and the telling values of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, tuple[str, ...]]] = set()
        self.scripts, self.links, self.sources, self.comments = 0, set(), set(), 0
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, tuple(sorted({name for name, _ in attributes}))))
        self.scripts += tag == "script"
        for name, value in attributes:
            if name in ("href", "xlink:href", "action", "formaction"):
                self.links.add(str(value))
            if name in ("src", "srcset", "data"):
                self.sources.add(str(value)[:11])

    def handle_comment(self, data: str) -> None:
        self.comments += 1


@pytest.fixture(scope="module")
def plain() -> Elements:
    return Elements(render_html(small()))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(text=TEXT)
def test_a_page_gets_no_element_from_data(plain: Elements, text: str) -> None:
    page = Elements(render_html(with_texts(small(), lambda own: f"{own}{text}")))
    assert page.scripts == plain.scripts == 1
    assert (page.links, page.sources, page.comments) == (plain.links, plain.sources, plain.comments)
    assert {tag for tag, _ in page.found} == {tag for tag, _ in plain.found}
    assert not {name for _, names in page.found for name in names if name.startswith("on")}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(text=TEXT)
def test_no_cell_is_a_formula(text: str) -> None:
    changed = with_texts(small(), lambda own: f"{text}{own}")
    before, after = (list(csv.reader(io.StringIO(render_csv(one), newline=""))) for one in (small(), changed))
    assert [len(row) for row in after] == [len(row) for row in before]
    numbers = 0
    for old, new in zip(before[1:], after[1:], strict=True):
        for was, now in zip(old, new, strict=True):
            numbers += was == now != ""
            assert was == now or not now.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert numbers > 50
    assert not [name for name in after[0] if name.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def kinds(document: str) -> set[str]:
    """The kinds of marks that a Markdown reader with tables and strikethrough finds; empty comments are none."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(document)
    found = (one for token in tokens for one in (token, *(token.children or [])))
    return {one.type for one in found if (one.type, one.content) != ("html_inline", "<!-- -->")}


@cache
def plain_document() -> tuple[frozenset[str], int]:
    """The kinds of marks of the document without changes, and its number of sections."""
    document = render_markdown(small())
    return frozenset(kinds(document)), document.count("\n## ")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(text=TEXT)
def test_a_document_gets_no_mark_from_data(text: str) -> None:
    allowed, sections = plain_document()
    for change in (lambda own: f"{text}{own}", lambda own: f"{own}{text}", lambda own: text):
        document = render_markdown(with_texts(small(), change))
        assert kinds(document) - allowed <= {"softbreak", "text_special"}
        assert document.count("\n## ") == sections
