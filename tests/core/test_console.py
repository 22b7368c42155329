"""Console: words to stderr, results to stdout, one JSON document in JSON mode, silence when asked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console as RichConsole

from ommatidia.core.console import Console, console, use

Capture = pytest.CaptureFixture[str]


def speak(talk: Console) -> None:
    """Everything a command may say."""
    talk.log("news [bold]")
    talk.warn("careful")
    talk.say("a result [1, 2]")
    talk.table("log table", ("a wide column", "b"), [["x", 1]])
    talk.table("result table", ("a wide column", "b"), [["[x]", 1]], out=True)
    with talk.progress("work", 2) as bar:
        bar.advance(note="half")
        bar.advance()
    talk.result({"answer": 42, "words": "é"})


@pytest.fixture
def heard(capsys: Capture) -> Callable[[Console], tuple[str, str]]:
    def hear(talk: Console) -> tuple[str, str]:
        speak(talk)
        said = capsys.readouterr()
        return said.out, said.err

    return hear


def test_words_go_to_stderr_and_results_to_stdout(heard: Callable[[Console], tuple[str, str]]) -> None:
    out, err = heard(Console())
    assert "a result [1, 2]" in out
    assert "result table" in out
    assert "[x]" in out
    assert "42" not in out
    assert "news [bold]" in err
    assert "log table" in err
    assert "warning: careful" in err
    assert "result" not in err


def test_json_mode_prints_one_document_and_nothing_else_on_stdout(heard: Callable[[Console], tuple[str, str]]) -> None:
    out, err = heard(Console(json_only=True))
    assert json.loads(out) == {"answer": 42, "words": "é"}
    assert "é" in out
    assert "news" not in err
    assert "table" not in err
    assert "careful" in err  # a warning is never lost


def test_quiet_keeps_results_and_warnings(heard: Callable[[Console], tuple[str, str]]) -> None:
    out, err = heard(Console(quiet=True))
    assert "a result" in out
    assert "result table" in out
    assert err.strip() == "warning: careful"


def test_other_ranks_are_silent(heard: Callable[[Console], tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert heard(Console()) == ("", "")
    assert heard(Console(json_only=True)) == ("", "")


def test_errors_are_always_heard(capsys: Capture) -> None:
    Console(quiet=True, json_only=True).error("broken [x]")
    assert capsys.readouterr().err == "error: broken [x]\n"


def test_columns_of_numbers_align_right() -> None:
    text = io.StringIO()
    talk = Console(out=RichConsole(file=text, width=40, highlight=False))
    talk.table("", ("name", "count"), [["a", "5"], ["b", "1,234"]], out=True)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert lines[1].endswith("    5")
    assert lines[2].endswith("1,234")
    assert lines[1].startswith("a ")


def test_bars_nest_on_a_terminal() -> None:
    text = io.StringIO()
    talk = Console(err=RichConsole(file=text, force_terminal=True, width=80))
    with talk.progress("outer", 2) as outer:
        with talk.progress("inner", 3) as inner:
            inner.advance(3)
        outer.advance(2, note="done [now]")
    assert talk._bars is None
    assert "outer" in text.getvalue()


def test_a_console_is_used_inside_its_block_only() -> None:
    other = Console(quiet=True)
    before = console()
    with use(other) as used:
        assert console() is other
        assert used is other
    assert console() is before


def test_results_keep_their_order_and_unknown_values_become_text(capsys: Capture) -> None:
    Console(json_only=True).result({"b": 1, "a": ThreadPoolExecutor})
    data = json.loads(capsys.readouterr().out)
    assert list(data) == ["b", "a"]
    assert "ThreadPoolExecutor" in data["a"]
