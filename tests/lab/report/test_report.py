"""The rendered report: complete, self-contained, deterministic, safe, and honest about what is missing."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_report import made_up_report, picture

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.lab.report import DesignRow, ExampleCard, Interval, Manifest, Reply, Report, write_report
from ommatidia.lab.report.html import render_html
from ommatidia.lab.report.markdown import render_markdown
from ommatidia.lab.report.ranking import gaps, notices, ranked
from ommatidia.lab.report.table_csv import render_csv
from ommatidia.lab.report.write import claim_results

VOID = {"meta", "br", "hr", "img", "col", "wbr", "link", "input"}
HOSTILE = '<script>alert(1)</script> & "quoted" | `tick`\n\n# heading [a](javascript:b) {{ 7 * 7 }}'


class Page(HTMLParser):
    """Checks that tags nest, and keeps tags, visible text and every address."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action", "data")]
        assert not any(k.startswith("on") for k, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


@pytest.fixture(scope="module")
def report() -> Report:
    return made_up_report()


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render_html(report)


def bare(**changes: object) -> Report:
    manifest = Manifest(recipe="r", command="omma search r", date="2026-11-21", version="0.1.0")
    return dataclasses.replace(Report("Title", (), (), (), manifest), **changes)


def test_page_is_well_formed_self_contained_and_small(html: str) -> None:
    page = Page(html)
    assert {"table", "svg", "img", "script", "style"} <= set(page.tags)
    assert page.tags.count("script") == 1
    assert "link" not in page.tags
    assert all(a.startswith(("data:image/", "#")) for a in page.addresses), page.addresses
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert len(html.encode()) < 3_000_000


def test_page_shows_every_part(html: str, report: Report) -> None:
    text = Page(html).text
    for design in report.designs:
        assert design.name in text
        assert design.command in text
        assert design.key in text
    for sentence in (*report.headline, report.stop_reason, *(r.decision for r in report.rounds)):
        assert sentence in text
    for card in report.examples:
        assert card.question in text
    for name in ("easy_vqa", "OCR and charts", "cannot tell apart", "one seed", "text only", report.manifest.cpu):
        assert name in text
    assert html.count("<img ") == len(report.examples)


def test_every_ranked_design_has_its_numbers(html: str, report: Report) -> None:
    for design in report.designs:
        if design.failed is None and design.average:
            shown = (
                f"{100 * design.average.mean:.1f} % [{100 * design.average.low:.1f}, {100 * design.average.high:.1f}]"
            )
            assert f'aria-label="{shown}"' in html


def test_failed_design_is_shown_with_its_error_and_not_ranked(report: Report, html: str) -> None:
    failed = ranked(report.designs)[-1]
    assert failed.failed is not None
    assert failed.failed in Page(html).text
    assert any(failed.name in notice for notice in notices(report))
    assert failed.failed.split(";")[0] in render_markdown(report)
    assert gaps(failed, report) == ()


def test_one_seed_marks_stand_at_exactly_the_rows_with_one_seed(report: Report, html: str) -> None:
    single = sum(len(d.seeds) == 1 and d.failed is None for d in report.designs)
    assert html.count('<span class="pill">one seed</span>') == single > 0
    assert render_markdown(report).count(", one seed") == single


def test_designs_of_one_seed_are_not_called_findings(report: Report, html: str) -> None:
    assert "Trained with several seeds" in html
    once = dataclasses.replace(report, designs=tuple(dataclasses.replace(d, seeds=(0,)) for d in report.designs))
    assert "Trained with several seeds" not in render_html(once)
    assert "One seed each: a lead to follow" in render_html(once)


def test_equal_reports_give_equal_bytes(report: Report, tmp_path: Path) -> None:
    first, second = write_report(report, tmp_path / "a"), write_report(made_up_report(), tmp_path / "b")
    names = {"report.html", "report.md", "designs.csv", "report.json"}
    assert {p.name for p in first.parent.iterdir()} == names
    for name in names:
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_order_of_the_rows_given_does_not_matter(report: Report, html: str) -> None:
    turned = dataclasses.replace(report, designs=report.designs[::-1])
    assert render_csv(turned) == render_csv(report)
    assert [d.key for d in ranked(turned.designs)] == [d.key for d in ranked(report.designs)]


def test_hostile_text_is_only_text(report: Report) -> None:
    row = dataclasses.replace(report.designs[0], name=HOSTILE, command=HOSTILE, checkpoint=HOSTILE)
    broken = DesignRow("k" * 64, HOSTILE + "2", failed=HOSTILE)
    card = ExampleCard(
        HOSTILE, HOSTILE, HOSTILE, picture(1), {HOSTILE: Reply(HOSTILE, True), "b": Reply("\ud800", False)}
    )
    bad = dataclasses.replace(
        report, title=HOSTILE, headline=(HOSTILE,), warnings=(HOSTILE,), designs=(row, broken), examples=(card,)
    )
    html = render_html(bad)
    assert Page(html).tags.count("script") == 1
    assert "<script>alert" not in html
    assert "{{ 7 * 7 }}" in html
    markdown = render_markdown(bad)
    prose = re.sub(r"(?<![\\`])(`+)(?!`).+?(?<!`)\1(?!`)", "", markdown)  # what stands in code cannot act
    assert "<script>" not in prose
    assert "\n# heading" not in markdown
    assert "[a](" not in prose


def test_csv_reads_back_exactly(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(report))))
    designs = ranked(report.designs)
    assert [r["key"] for r in rows] == [d.key for d in designs]
    for row, design in zip(rows, designs):
        if design.average is None:
            assert row["average"] == row["average:low"] == ""
            continue
        assert float(row["average"]) == design.average.mean
        assert float(row["train_flops"]) == design.train_flops
        for b in report.benchmarks:
            score = design.scores[b.name]
            shown = (float(row[b.name]), float(row[f"{b.name}:low"]), float(row[f"{b.name}:high"]))
            assert shown == (score.mean, score.low, score.high)
            assert row[f"{b.name}:blind"] == (str(design.blind[b.name]) if b.name in design.blind else "")


def test_markdown_tables_are_rectangular_and_carry_rounded_numbers(report: Report) -> None:
    text = render_markdown(report)
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    for design in report.designs:
        if design.average:
            assert f"{100 * design.average.mean:.1f} [{100 * design.average.low:.1f}, " in text


def test_json_holds_the_whole_value_and_no_nan(report: Report, tmp_path: Path) -> None:
    from ommatidia.lab.report import Curve

    row = dataclasses.replace(report.designs[1], curves={0: (Curve("s", (0, 1), (1.0, float("nan"))),)})
    changed = dataclasses.replace(report, designs=(row,))
    page = write_report(changed, tmp_path)
    value = json.loads((tmp_path / "report.json").read_text())
    assert value["designs"][0]["curves"]["0"][0]["losses"] == [1.0, None]
    assert value["designs"][0]["average"]["mean"] == row.average.mean
    assert len(value["examples"]) == len(report.examples)
    assert "nan" not in Page(page.read_text()).text


def test_incomplete_rows_say_what_is_missing(report: Report) -> None:
    whole = report.designs[1]
    assert gaps(whole, report) == ()
    row = dataclasses.replace(whole, average=Interval(0.5), blind={}, train_flops=None)
    assert gaps(row, report) == ("interval", "no-image baseline", "cost")
    changed = dataclasses.replace(report, designs=(row,))
    text = Page(render_html(changed)).text
    assert "incomplete: lacks interval, no-image baseline, cost" in text
    assert "This report is incomplete: 1 of 1 rows lack something." in text
    assert "incomplete: lacks interval" in render_markdown(changed)


def test_mixed_commits_are_warned_about(report: Report) -> None:
    mixed = dataclasses.replace(report, manifest=dataclasses.replace(report.manifest, commits=("aaa", "bbb")))
    assert "mixes 2 commits (aaa, bbb)" in Page(render_html(mixed)).text
    assert "mixes 2 commits" not in " ".join(notices(report))


def test_mixed_processors_and_versions_are_warned_about(report: Report) -> None:
    facts = {"processors": ("A (torch: AVX2)", "B"), "packages": ("numpy 2.4.6", "torch 2.14.0", "torch 2.15.0")}
    mixed = dataclasses.replace(report, manifest=dataclasses.replace(report.manifest, **facts))
    said = " ".join(notices(mixed))
    assert "mixes 2 processors (A (torch: AVX2); B)" in said
    assert "mixes versions of libraries (torch 2.14.0, torch 2.15.0)" in said
    assert "mixes" not in " ".join(notices(report))
    for page in (Page(render_html(mixed)).text, render_markdown(mixed)):
        assert "numpy 2.4.6" in page


def test_an_empty_report_and_an_unscored_row_still_render() -> None:
    for empty in (bare(), bare(designs=(DesignRow("k", "only name"),))):
        text = Page(render_html(empty)).text
        assert "No verdict yet" in text
        assert "incomplete" in text
        assert render_markdown(empty).startswith("# Title\n")
        assert render_csv(empty).count("\n") == 1 + len(empty.designs)


def test_many_large_pictures_and_long_curves_stay_below_three_megabytes(report: Report) -> None:
    import random

    from PIL import Image

    noise = Image.frombytes("RGB", (900, 700), random.Random(0).randbytes(900 * 700 * 3))
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG")
    cards = tuple(dataclasses.replace(report.examples[0], image=buffer.getvalue()) for _ in range(8))
    assert len(render_html(dataclasses.replace(report, examples=cards)).encode()) < 3_000_000


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="a file is there; name a new or empty folder"):
        write_report(bare(), tmp_path / "file")
    card = ExampleCard("b", "q", "r", b"not an image", {})
    with pytest.raises(RunError, match="no readable image"):
        write_report(bare(examples=(card,)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("numbers", [(float("nan"),), (0.5, 0.4), (0.5, 0.6, 0.4), (0.5, 0.4, float("inf"))])
def test_an_interval_refuses_what_is_no_interval(numbers: tuple[float, ...]) -> None:
    with pytest.raises(RunError, match="Interval"):
        Interval(*numbers)


def test_a_folder_of_results_keeps_what_people_added(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "out")
    (tmp_path / "out" / "notes.md").write_text("mine", encoding="utf-8")
    (tmp_path / "out" / "plots").mkdir()
    (tmp_path / "out" / "plots" / "a.png").write_bytes(b"mine too")
    page = write_report(report, tmp_path / "out")
    assert page.is_file()
    assert (tmp_path / "out" / "notes.md").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "out" / "plots" / "a.png").read_bytes() == b"mine too"


@pytest.mark.parametrize("beside", [None, '{"title": "a report of somebody else"}', "no JSON", '{"designs": 3}'])
def test_a_folder_of_somebody_else_is_refused(report: Report, tmp_path: Path, beside: str | None) -> None:
    (tmp_path / "notes.md").write_text("mine", encoding="utf-8")
    if beside is not None:
        (tmp_path / "report.json").write_text(beside, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=r"holds 'notes\.md', which we did not write"):
        claim_results(tmp_path)
    with pytest.raises(ConfigError, match=r"holds 'notes\.md', which we did not write"):
        write_report(report, tmp_path, replace=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
