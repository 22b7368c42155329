"""Text from data stays text in Markdown: no mark, no HTML, no link that a reader makes by itself."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ommatidia.core.markdown import as_text

PIECES = (
    "a@b.co", "@name", "@org/team", "www.x.org", "_www.x.org", "(www.x", "WWW.X", "https://x.org", "HTTP://x", "ftp://x",
    "mailto:a@b.co", "xmpp:a@b", "<a@b.co>", "<script>", "</td>", "<!-- x -->", "&lt;", "&#64;", "[a](b)", "![a](b)",
    "[a]: b", "`", "``", "\\", "|", "*", "_", "~~", "$", "# ", "- ", "1. ", "1) ", "> ", "---", "===", "    ", "\n",
    "\n\n", "\t", "é", "@", ".", ":",
)  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.text(st.characters(exclude_characters="\0"), max_size=6))).map(
    "".join
)
LINK = re.compile(r"(?i)www\.|(?:https?|ftp|mailto|xmpp):|[a-z0-9._+-]@[a-z0-9_-]")
"""What GitHub's readers make links of, wherever it stands in the source; its specification, section 6.9."""
COMMENT = "<!-- -->"


def shown(line: str) -> str:
    """The words of a line; fails for anything else in it."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(line)
    words = ""
    assert [token.type for token in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"])
    for one in (one for token in tokens for one in token.children or []):
        assert one.type in ("text", "text_special") or (one.type, one.content) == ("html_inline", COMMENT)
        words += one.content if one.type != "html_inline" else ""
    return words


@given(TEXT)
@example("a@b.co")
@example("_www.x.org https://x.org")
def test_any_text_is_shown_as_it_is_and_links_nothing(text: str) -> None:
    line = as_text(text)
    assert shown(line) == " ".join(text.split())
    assert LINK.search(line) is None


@given(TEXT)
def test_any_text_is_one_cell(text: str) -> None:
    document = f"| a | b |\n|---|---|\n| x{as_text(text)} | y |"
    tokens = MarkdownIt("commonmark").enable("table").parse(document)
    assert [token.type for token in tokens].count("td_open") == 2


@pytest.mark.parametrize(
    "address", ["http://x.org", "https://x.org/a", "www.x.org", "ftp://x.org", "HTTP://X.ORG", "a@b.c"]
)
def test_an_address_is_no_link_by_itself(address: str) -> None:
    line = as_text(f"see {address} now")
    assert address not in line
    assert shown(line) == f"see {address} now"
