"""Config: families, bare names, error paths, override, files, and what an address depends on."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pytest
import yaml
from pydantic import Field, ValidationError, model_validator

from ommatidia.core.config import Config, digest, once, overridden, override, read_assignment
from ommatidia.core.errors import ConfigError

RECIPES: Mapping[str, Mapping[str, Any]] = {"soup": {"name": "soup", "salt": 2}, "stew": {"name": "stew", "salt": 5}}


class Shape(Config, family=True):
    """A family."""

    colour: str = "red"


class Disc(Shape):
    """A member."""

    kind: Literal["disc"] = "disc"
    radius: int = Field(1, ge=1)


class Rectangle(Shape):
    """A member with two fields of its own."""

    kind: Literal["rectangle"] = "rectangle"
    width: int = 2
    height: int = 3


class Square(Rectangle):
    """No kind of its own: not a member."""


class Dish(Config):
    """Has a catalog, and is no family."""

    name: str
    salt: int = 0

    @classmethod
    def named(cls, name: str) -> Mapping[str, Any]:
        if name not in RECIPES:
            raise ConfigError(f"no dish {name!r}")
        return RECIPES[name]


class Scene(Config):
    """Everything a config may hold."""

    unhashed: ClassVar[frozenset[str]] = frozenset({"note"})

    shapes: dict[str, Shape] = Field(default_factory=dict)
    row: tuple[Shape, ...] = ()
    first: Shape = Disc()
    dish: Dish = Dish(name="plain")
    size: tuple[int, int] = (4, 5)
    rate: float = 1e-3
    where: Path = Path("here")
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Scene:
        if self.rate > 1:
            raise ConfigError(f"rate: {self.rate} is more than 1")
        return self


def says(data: Any, cls: type[Config] = Scene) -> str:
    with pytest.raises(ConfigError) as error:
        cls.parse(data)
    return str(error.value)


def scene() -> Scene:
    return Scene.parse(
        {
            "shapes": {"sun": {"kind": "disc", "radius": 3}, "house": "rectangle"},
            "row": ["disc", {"kind": "rectangle", "width": 7}],
            "first": {"kind": "rectangle"},
            "dish": "stew",
            "note": "für später",
        }
    )


def test_a_family_is_dispatched_by_kind() -> None:
    value = scene()
    assert value.shapes == {"sun": Disc(radius=3), "house": Rectangle()}
    assert value.row == (Disc(), Rectangle(width=7))
    assert value.first == Rectangle()
    assert type(value.first) is Rectangle
    assert Shape.parse({"kind": "disc", "colour": "blue"}) == Disc(colour="blue")
    assert Shape.kinds() == {"disc": Disc, "rectangle": Rectangle}


def test_a_bare_name_is_a_kind_or_a_catalog_entry() -> None:
    assert Shape.parse("disc") == Disc()
    assert scene().dish == Dish(name="stew", salt=5)
    assert Dish.parse("soup").salt == 2
    assert "no dish 'stwe'" in says({"dish": "stwe"})
    assert Disc.parse("disc") == Disc()
    assert "kind: " in says("rectangle", Disc)


def test_a_kind_is_taken_once() -> None:
    with pytest.raises(ConfigError, match="'disc' is already taken by Disc"):

        class Other(Shape):
            kind: Literal["disc"] = "disc"

    assert Shape.kinds()["disc"] is Disc


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"row": ["disc", {"kind": "rectangel"}]}, "row.1: unknown Shape kind 'rectangel'; did you mean 'rectangle'?"),
        (
            {"shapes": {"sun": {"kind": "disc", "radus": 2}}},
            "shapes.sun: unknown field 'radus'; did you mean 'radius'?",
        ),
        ({"shapes": {"sun": {"kind": "disc", "radius": 0}}}, "shapes.sun.radius: "),
        ({"shapes": {"sun": {"radius": 2}}}, "shapes.sun: 'kind' is missing; one of disc, rectangle"),
        ({"first": 3}, "first: expected a Shape: a mapping with 'kind' or a name, got int"),
        ({"first": "cube"}, "first: unknown Shape kind 'cube'. Valid: disc, rectangle"),
        ({"dish": {"salt": 1}}, "dish.name: Field required"),
        ({"sise": [1, 2]}, "unknown field 'sise'; did you mean 'size'?"),
        ({"size": [1, "a"]}, "size.1: "),
        ({"rate": 2.0}, "rate: 2.0 is more than 1"),
        ({"rate": float("nan")}, "rate: "),
    ],
)
def test_an_error_says_where_and_what(data: dict[str, Any], message: str) -> None:
    assert message in says(data)


def test_all_errors_of_a_config_come_together_and_quote_what_was_given() -> None:
    message = says({"size": ["x", "y"], "rate": "fast"})
    assert all(part in message for part in ("size.0", "size.1", "rate", "'x'", "'y'", "'fast'"))
    assert "\n" not in message


def test_what_fails_inside_a_list_is_not_called_missing_from_it_too() -> None:
    class Heap(Config):
        shapes: tuple[Disc, ...] = Field(min_length=1)

    with pytest.raises(ConfigError, match=r"shapes.0.radius: ") as told:
        Heap.parse({"shapes": [{"kind": "disc", "radius": 0}]})
    assert "at least 1 item" not in str(told.value)
    with pytest.raises(ConfigError, match=r"shapes: .*at least 1 item"):
        Heap.parse({"shapes": []})


def test_the_constructor_raises_the_same_error() -> None:
    with pytest.raises(ConfigError, match=r"radius: .*got 0"):
        Disc(radius=0)
    with pytest.raises(ConfigError, match="did you mean 'radius'"):
        Disc(radios=1)


def test_a_value_is_frozen() -> None:
    value = Disc()
    with pytest.raises(ValidationError):
        value.radius = 2  # type: ignore[misc]
    assert value.radius == 1


@pytest.mark.parametrize(
    ("path", "value", "got"),
    [
        ("rate", 0.5, lambda s: s.rate),
        ("row.1.width", 9, lambda s: s.row[1].width),
        ("row.-1.width", 9, lambda s: s.row[1].width),
        ("shapes.sun.radius", 8, lambda s: s.shapes["sun"].radius),
        ("dish.salt", 7, lambda s: s.dish.salt),
        ("size.0", 6, lambda s: s.size[0]),
    ],
)
def test_override_changes_one_place(path: str, value: Any, got: Any) -> None:
    before = scene()
    kept = before.to_dict()
    after = override(before, path, value)
    assert got(after) == value
    assert before.to_dict() == kept
    assert override(after, path, got(before)) == before


def test_override_takes_new_names_into_a_mapping_and_switches_members() -> None:
    after = override(scene(), "shapes.moon", "disc")
    assert list(after.shapes) == ["sun", "house", "moon"]
    assert override(scene(), "first", "disc").first == Disc()
    assert override(scene(), "first", {"kind": "disc", "radius": 4}).first == Disc(radius=4)
    assert override(scene(), "first", Disc(radius=4)).first == Disc(radius=4)


def test_another_kind_takes_over_the_fields_that_it_has_too() -> None:
    before = Scene.parse({"first": {"kind": "disc", "radius": 4, "colour": "blue"}})
    after = override(before, "first.kind", "rectangle")
    assert after.first == Rectangle(colour="blue")
    assert override(after, "first.kind", "disc").first == Disc(colour="blue")
    with pytest.raises(ConfigError, match="first: unknown Shape kind 'rectangl'; did you mean 'rectangle'"):
        override(before, "first.kind", "rectangl")
    with pytest.raises(ConfigError, match="kind: unknown field 'kind'"):
        override(before, "kind", "rectangle")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("rat", "rat: unknown field 'rat'; did you mean 'rate'?"),
        ("shapes.son.radius", "unknown field 'son'; did you mean 'sun'?"),
        ("shapes.sun.radus", "unknown field 'radus'; did you mean 'radius'?"),
        ("row.2", "'2' is no position in a list of 2"),
        ("row.-3", "'-3' is no position in a list of 2"),
        ("row.first", "'first' is no position in a list of 2"),
        ("rate.unit", "rate is a plain value and has no field 'unit'"),
    ],
)
def test_override_refuses_a_path_that_is_not_there(path: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(scene(), path, 1)
    assert message in str(error.value)


def test_override_validates_the_new_value() -> None:
    with pytest.raises(ConfigError, match=r"shapes\.sun\.radius: .*got 0"):
        override(scene(), "shapes.sun.radius", 0)


class Length(Config):
    """Exactly one of the two."""

    steps: int | None = None
    epochs: int | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of steps and epochs")
        return self


class Run(Config):
    stages: tuple[Length, ...] = (Length(epochs=1),)
    lengths: dict[str, Length] = Field(default_factory=dict)


@pytest.mark.parametrize("order", [1, -1])
def test_changes_that_fit_only_together_may_come_one_after_another(order: int) -> None:
    changes = [("stages.0.steps", 40), ("stages.0.epochs", None)][::order]
    assert overridden(Run(), changes) == Run(stages=(Length(steps=40),))
    for change in changes:
        with pytest.raises(ConfigError, match=r"stages\.0.*exactly one"):
            overridden(Run(), [change])
    with pytest.raises(ConfigError, match=r"lengths\.late\.steps: unknown field"):
        overridden(Run(), [("lengths.late", {}), ("lengths.late.steps", 3)])  # nothing says yet what `late` may hold


def test_plain_data_yaml_and_json_come_back_equal(tmp_path: Path) -> None:
    value = scene()
    assert Scene.parse(value.to_dict()) == value
    assert Scene.parse(json.loads(value.to_json())) == value
    assert Scene.parse(yaml.safe_load(value.to_yaml())) == value
    assert "für später" in value.to_json()
    for name, text in (("a.yaml", value.to_yaml()), ("a.json", value.to_json())):
        (tmp_path / name).write_text(text, encoding="utf-8")
        read = Scene.read(tmp_path / name)
        assert read == value
        assert read.digest() == value.digest()


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        Scene.read(tmp_path / "none.yaml")
    (tmp_path / "torn.yaml").write_text("a: [1, 2")
    with pytest.raises(ConfigError, match=r"torn\.yaml: not valid YAML or JSON"):
        Scene.read(tmp_path / "torn.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: not valid YAML or JSON"):
        Scene.read(tmp_path / "binary.yaml")
    (tmp_path / "wrong.yaml").write_text("rate: fast")
    with pytest.raises(ConfigError, match=r"wrong\.yaml: rate: .*got 'fast'"):
        Scene.read(tmp_path / "wrong.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match=r"list\.yaml: "):
        Scene.read(tmp_path / "list.yaml")


def test_the_digest_depends_on_values_and_on_order_of_mappings() -> None:
    value = scene()
    turned = Scene.parse(value.to_dict() | {"shapes": dict(reversed(value.to_dict()["shapes"].items()))})
    assert turned != value  # the order of encoders is the order of channels
    assert turned.digest() != value.digest()
    assert override(value, "row.1.width", 8).digest() != value.digest()
    assert override(value, "first", "disc").digest() != override(value, "first", {"kind": "disc", "radius": 2}).digest()


def test_a_value_is_a_key_and_one_that_differs_is_another() -> None:
    value, again = scene(), Scene.parse(scene().to_dict())
    other = override(value, "note", "other")  # an unhashed field: the same address, another value
    assert hash(value) == hash(again)
    assert {value: 1}[again] == 1
    assert {value, again, other} == {value, other}
    assert value.digest() == other.digest()
    assert value != Disc()


def test_unhashed_fields_and_the_way_a_value_was_written_do_not_count() -> None:
    assert override(scene(), "note", "other").digest() == scene().digest()
    short = Scene.parse({"first": "disc", "dish": "soup"})
    long = Scene.parse({"first": {"kind": "disc", "radius": 1, "colour": "red"}, "dish": {"name": "soup", "salt": 2}})
    assert short.digest() == long.digest()
    assert copy.deepcopy(short).digest() == short.digest()


def test_a_digest_is_the_same_in_every_process() -> None:
    data = ["text", {"é": [1, 2.5, None, True]}]
    code = f"from ommatidia.core.config import digest; print(digest({data!r}))"
    done = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True)
        for seed in ("1", "2")
    ]
    assert {one.stdout.strip() for one in done} == {digest(data)}
    assert digest([1]) == "080a9ed428559ef602668b4c00f114f1a11c3f6b02a435f0bdc154578e4d7f22"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a.b=3", "a.b", 3),
        ("rate=1.0e-3", "rate", 1e-3),
        ("rate=1e-3", "rate", 1e-3),
        ("rates=[2E4, -1.5e+2, 3]", "rates", [20000.0, -150.0, 3]),
        ("word=e3", "word", "e3"),
        ("word=1e", "word", "1e"),
        ("on=true", "on", True),
        ("none=null", "none", None),
        ("empty=", "empty", None),
        ("sizes=[1, 2]", "sizes", [1, 2]),
        ("map={a: b}", "map", {"a": "b"}),
        ("text=a=b", "text", "a=b"),
        (" name = words ", "name", "words"),
    ],
)
def test_an_assignment_reads_its_value_as_yaml(text: str, path: str, value: Any) -> None:
    assert read_assignment(text) == (path, value)


@pytest.mark.parametrize("text", ["steps", "=3", " =3", "a=[1", ""])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_assignment(text)
    assert repr(text) in str(error.value)


class Measured(Config):
    """Counts how often it works something out."""

    side: int = 2

    @once
    def area(self) -> list[int]:
        return [self.side**2]


class Doubled(Measured):
    @once
    def area(self) -> list[int]:
        return [2 * area for area in super().area()]


def test_what_is_kept_once_belongs_to_one_value() -> None:
    value = Doubled(side=3)
    assert value.area() == [18]
    assert value.area() is value.area()
    assert value.model_copy(update={"side": 4}).area() == [32]
    assert value.model_copy(update={"side": 4}, deep=True).area() == [32]
    assert copy.deepcopy(value).area() == [18]
    assert value == Doubled(side=3)
    assert value.to_dict() == {"side": 3}
    assert value.digest() == Doubled(side=3).digest() != value.model_copy(update={"side": 4}).digest()
