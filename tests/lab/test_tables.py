"""What ``ls``, ``show`` and ``plan`` print: read off the registries, and sums that add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lab_toys import recipe, round_robin
from scipy.stats import norm, t

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.lab.recipe import Recipe, find, read
from ommatidia.lab.search import Search
from ommatidia.lab.show import designs, listing
from ommatidia.lab.show.describe import describe, describe_plan

if TYPE_CHECKING:
    from conftest import Searched


@pytest.mark.parametrize("name", listing.FAMILIES)
def test_a_family_lists_every_kind_with_a_word_about_it(name: str) -> None:
    ((title, columns, rows),) = listing.listing(name)
    assert (title, tuple(columns[:3])) == (name, ("kind", "what", "fields"))
    kinds = set(listing.FAMILIES[name].kinds())
    assert {row[0] for row in rows} == kinds
    ours = [row for row in rows if listing.FAMILIES[name].kinds()[row[0]].__module__.startswith("ommatidia.")]
    assert all(row[1] for row in ours)


def test_tilings_are_listed_with_their_tokens() -> None:
    ((_, columns, rows),) = listing.listing("tilings")
    assert columns[3:] == tuple(
        f"tokens of {size}" for size in ("336x336", "640x480", "1024x768", "1920x1080", "500x2000")
    )
    tokens = {row[0]: row[3:] for row in rows}
    assert tokens["whole"] == [576] * 5
    assert tokens["unpad"] == [600, 450, 450, 350, 168]
    assert tokens["any_resolution"] == [1176, 2340, 2340, 1948, 1944]


def test_every_table_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: card for name, card in listing.CATALOG.items() if name in ("patches", "vit_tiny_untrained")}
    assert len(few) == 2
    monkeypatch.setattr(listing, "CATALOG", few)
    tables = {title: (columns, rows) for title, columns, rows in listing.listing(None)}
    others = {"encoders", "encoder-sources", "chats", "recipes", "benchmarks", "manifests"}
    assert others | set(listing.FAMILIES) == set(tables)
    for columns, rows in tables.values():
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert [row[0] for row in tables["encoders"][1]] == list(few)
    computes, comes_from = (
        [dict(zip(columns, row)) for row in rows] for _, columns, rows in listing.listing("encoders")
    )
    assert [row["name"] for row in computes] == [row["name"] for row in comes_from] == list(few)
    assert (computes[0]["tokens"], computes[0]["width"], computes[0]["stride"]) == ("196", "192", "16")
    assert (computes[1]["other sizes"], computes[1]["features"]) == ("multiple", "all")
    assert comes_from[1]["source"] == few["patches"].source
    assert "ommatidia.recipes.quickstart:search" in [row[0] for row in tables["recipes"][1]]
    page = listing.markdown()
    assert all(f"## {title}" in page for title in tables)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown family 'encoder'; did you mean 'encoders'\?"):
        listing.listing("encoder")


def test_a_tiled_recipe_is_shown_with_its_pictures() -> None:
    tiling = {"kind": "dynamic", "tile": 16, "max_tiles": 2, "tags": "one_d"}
    one = recipe("coarse")
    tiled = recipe("coarse", model={**one.model.to_dict(), "tiling": tiling})
    (_, _, parts), (title, columns, rows), *_ = describe(tiled)
    assert (title, columns) == ("pictures", ("width x height", "views", "visual tokens", "marks"))
    assert rows[1] == ["640x480", 1, 4, "'<tile_global_thumbnail>'"]
    assert rows[4] == ["500x2000", 3, 12, "'<tile_1>' '<tile_2>' '<tile_global_thumbnail>'"]
    assert [table[0] for table in describe(one)] == ["parts", "memory", "stages", "notes"]
    # Its images are square: one view, and the words of one tag more.
    plain = next(row for row in describe(one)[0][2] if row[0] == "language")[1]
    said = next(row for row in parts if row[0] == "language")[1]
    assert said.endswith("(4 visual)")
    assert int(said.split()[0]) > int(plain.split()[0])


def test_a_recipe_is_shown_part_by_part() -> None:
    (_, columns, parts), (_, _, memory), (_, _, stages), _ = describe(recipe("coarse", "fine"))
    assert columns[0] == "part"
    table = {row[0]: row[1:] for row in parts}
    assert list(table) == [
        "encoders.coarse", "encoders.fine", "fusion", "projector", "injection", "language", "total"
    ]  # fmt: skip
    assert table["encoders.coarse"][0] == str(Grid(2, 2, 16))
    assert table["encoders.fine"][0] == str(Grid(4, 4, 8))
    assert table["fusion"][0] == str(Grid(2, 2, 16 + 4 * 8))
    assert table["projector"][0] == str(Grid(2, 2, 32))
    assert "(4 visual)" in table["language"][0]
    counts = [int(row[2].replace(",", "")) for row in parts]
    assert sum(counts[:-1]) == counts[-1]
    # 16 bytes a trained and 4 a frozen parameter in fp32; an expert stage is that of the larger expert.
    language, aligned, tuned = ({"trained": int(r[1].replace(",", "")), "GB": r[3]} for r in memory[1:])
    everything, spoken = counts[-1], counts[-2]
    assert language["trained"] == spoken
    assert tuned == {"trained": everything, "GB": f"{16 * everything / 1e9:.3f}"}
    assert 0 < aligned["trained"] < everything - spoken
    assert [(row[0], row[1], row[4]) for row in stages] == [
        ("language", "language", 3), ("pre-align", "expert", 3), ("tune", "mixture", 3)
    ]  # fmt: skip


def test_a_search_is_shown_by_the_designs_it_starts_with() -> None:
    (title, _, designs), _, (last, _, power) = describe(round_robin())
    assert (title, last) == ("designs", "power")
    assert power[0][0] == "detectable difference"
    assert [row[0] for row in designs] == ["blind", "coarse", "fine"]
    assert [row[1] for row in designs] == [0, 4, 4]
    with pytest.raises(ConfigError, match="cannot be shown"):
        describe(recipe("coarse").model)


def test_a_plan_says_what_is_done_and_what_it_costs(searched: Searched) -> None:
    tables, summary, refused = describe_plan(searched.search, searched.store)
    _, columns, rows = tables[0]
    states = {row[columns.index("what")]: row[-1] for row in rows}
    assert states["language: language model (seed 0)"] == "done"
    assert summary["nodes"] == len(rows)
    assert refused == []
    # Two groups of one benchmark of twelve questions each about six images; answers of 0.3 on one image leave
    # differences of 0.184: t of ten degrees of freedom, a quarter answered unlike.
    deviation = (0.25 / 24 * (1 + 0.184)) ** 0.5
    points = float(summary["detectable difference"].split()[0])
    assert points == pytest.approx(100 * (t.ppf(0.975, 10) + norm.ppf(0.8)) * deviation, abs=0.06)
    assert (
        "(24 questions about 12 images; answers differ in 25% and correlate by 0.3" in summary["detectable difference"]
    )
    assert summary["with seeds"].endswith("points between two designs of 2 seeds, where a seed moves 1 or 2 points")
    seen = next(r for r in searched.search.strategy.first() if r.label() == "coarse")
    _, one, _ = describe_plan(seen, searched.store)
    assert one["estimated seconds to do"] == 0
    assert (one["designs"], one["trials"]) == (1, 1)
    assert one["with seeds"] == "not known: one seed a design cannot tell what training again changes"
    with pytest.raises(ConfigError, match="cannot be planned"):
        describe_plan(recipe("coarse").model, searched.store)


def test_an_impossible_design_is_refused_by_name_in_the_plan(searched: Searched) -> None:
    space: dict[str, Any] = {
        "recipe": recipe("coarse", "fine").to_dict(),
        "axes": {"model.fusion.grid": [[2, 2], [3, 3]]},
    }
    search = Search.parse({"name": "grid", "strategy": {"kind": "grid", "space": space}})
    _, summary, refused = describe_plan(search, searched.store)
    assert summary["designs"] == 1
    assert [line.partition(":")[0] for line in refused] == ["grid=[3, 3]"]


def test_recipes_are_found_by_name() -> None:
    assert isinstance(read("ommatidia.recipes.quickstart:design", Recipe, {"seed": 3}), Recipe)
    assert read("ommatidia.recipes.quickstart:design", Recipe, {"seed": 3}).seed == 3
    for reference, message in (
        ("quickstart", "expected a YAML file, module:function or file.py:function"),
        ("../tiny.yamll", "expected a YAML file, module:function or file.py:function"),
        ("ommatidia.recipes.quickstart", "say which, as ommatidia.recipes.quickstart:NAME"),
        ("ommatidia.recipes.quikstart:search", "did you mean 'ommatidia.recipes.quickstart'"),
        ("ommatidia.recipes.quickstart:serch", "did you mean 'search'"),
        ("no.such.module:search", "no.such.module: no module of this name is installed"),
    ):
        with pytest.raises(ConfigError) as error:
            find(reference)
        assert message in str(error.value)


def test_arguments_of_a_recipe_are_checked(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"unknown argument 'sed'; did you mean 'seed'\?"):
        read("ommatidia.recipes.quickstart:design", Recipe, {"sed": 3})
    with pytest.raises(ConfigError, match="gives a Search; expected a Recipe"):
        read("ommatidia.recipes.quickstart:search", Recipe)
    (tmp_path / "tiny.yaml").write_text(recipe("coarse").to_yaml())
    assert read(str(tmp_path / "tiny.yaml"), Recipe) == recipe("coarse")
    with pytest.raises(ConfigError, match="a file takes no arguments"):
        read(str(tmp_path / "tiny.yaml"), Recipe, {"seed": 1})


def test_numbers_of_designs_are_kept_for_every_search_and_counted_for_others() -> None:
    assert designs.searches().keys() == designs._kept().keys()
    for reference in ("ommatidia.recipes.quickstart:search", "ommatidia.recipes.fusions:search"):  # the studies: there
        assert designs._kept()[reference] == designs.count(find(reference)), "python -m ommatidia.lab.show.designs"
    assert designs.designs("own", find("ommatidia.recipes.own_data:llava")) == "?"
    assert designs.designs("one", find("ommatidia.recipes.nvlm:x")) == "1"
    assert designs.designs("new", find("ommatidia.recipes.nvlm_studies:designs")) == "3"
