"""Wrong values in every leaf of four recipes: refused where they stand, or accepted on purpose and listed here."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ommatidia.core.config import Config, override
from ommatidia.core.errors import ConfigError
from ommatidia.lab.recipe import Recipe
from ommatidia.recipes import cambrian, eagle, quickstart

WRONG: dict[str, Any] = {
    "none": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "fraction": 1.5,
    "large": 1e12,
    "large integer": 10**12,
    "nan": math.nan,
    "empty": "",
    "text": "banana",
    "digits": "3",
    "path": "../x",
    "long": "x" * 5000,
    "list": [],
    "mapping": {},
}

# What is accepted on purpose, by the reason.
FREE_TEXT = """ChatFormat.after_end ChatFormat.after_image ChatFormat.answer_prefix ChatFormat.assistant_prefix
ChatFormat.end ChatFormat.name ChatFormat.start ChatFormat.system ChatFormat.system_prefix ChatFormat.system_suffix
ChatFormat.user_prefix ChatFormat.user_suffix HFLanguage.pad_token HFLanguage.path HFLanguage.revision
HubFileWeights.file HubFileWeights.id HubFileWeights.prefix HubFileWeights.revision HubWeights.id HubWeights.prefix
HubWeights.revision LlavaJSON.image_root LlavaJSON.package LlavaJSON.path LlavaJSON.task PackageWeights.distribution
PackageWeights.prefix PackageWeights.sha256
SourceBenchmark.prompt_suffix Weighted.category"""
"""Words of a chat format, names, places and identifiers of others: any text may be one."""
OF_PACKAGES = " PackageWeights.file PackageWeights.package"
"""Files and import names: no path out of a package, and no name with a dot or of digits."""
NAMES = " Stage.name Recipe.name Search.name SourceBenchmark.name"
WORDS = FREE_TEXT + OF_PACKAGES + NAMES
MAY_BE_EMPTY = """ChatFormat.assistant_prefix ChatFormat.end ChatFormat.name ChatFormat.user_prefix HFLanguage.pad_token
HFLanguage.path HFLanguage.revision HubFileWeights.file HubFileWeights.id HubFileWeights.revision HubWeights.revision
LlavaJSON.image_root LlavaJSON.package LlavaJSON.path LlavaJSON.task PackageWeights.distribution
PackageWeights.sha256 Weighted.category"""
"""Texts that have no form of their own; what does not exist shows when it is looked for."""
OPTIONAL = """ChannelConcat.grid ClipEncoder.interpolation ClipEncoder.mean ClipEncoder.std DrawnNumbers.asks
DrawnRelations.asks DrawnWords.asks EasyVQA.asks EasyVQA.per_picture EasyVQA.pictures Eva02DetEncoder.interpolation
Eva02DetEncoder.mean Eva02DetEncoder.std HFLanguage.config LlavaJSON.about Pix2StructEncoder.interpolation
Pix2StructEncoder.mean Pix2StructEncoder.std SamEncoder.interpolation SamEncoder.mean SamEncoder.std Stage.clip
Stage.save_every Stage.seed TimmEncoder.mean TimmEncoder.std"""
"""None has a meaning there: all, or the published value."""
SWITCHES = """ChannelConcat.norm ChatFormat.drop_user_text CraftEncoder.score DeepSVA.zero_init Engine.keep_best
HFLanguage.random Inline.row_end MLPProjector.norm"""
BLOCKS = """ClipEncoder.features Eva02DetEncoder.features HFEncoder.features Pix2StructEncoder.features
SamEncoder.features TimmEncoder.features"""
"""Which block of a trunk: counted from the front or the back."""
SHARES = """MixtureConfig.tolerance ScratchLanguage.dropout SourceBenchmark.tolerance Stage.final_rate Stage.warmup
Stage.weight_decay Weighted.weight"""
"""None of it is a share, too."""
FRACTIONS = "Engine.timeout MixtureConfig.temperature Stage.clip Stage.weight_decay Weighted.epochs Weighted.weight"
NOTHING = "Eva02DetEncoder.global_blocks Recipe.benchmarks Recipe.stages SamEncoder.global_blocks Search.analyses"
DEFAULTS = """HFEncoder.config HFLanguage.config MLLMConfig.encoders RoundRobin.variants SVA.sides Stage.encoders
Stage.engine"""
"""A mapping that changes nothing; a model without encoders is the blind one."""
ACCEPTED = {
    "none": OPTIONAL,
    "true": SWITCHES,
    "minus one": BLOCKS,
    "zero": f"{BLOCKS} {SHARES}",
    "fraction": FRACTIONS,
    "text": WORDS,
    "digits": FREE_TEXT + NAMES + " PackageWeights.file",
    "path": FREE_TEXT,
    "long": FREE_TEXT + OF_PACKAGES,
    "empty": MAY_BE_EMPTY,
    "list": NOTHING,
    "mapping": DEFAULTS,
    "large": "",
    "large integer": "",
    "nan": "",
}
ELSEWHERE = {
    ("ClipEncoder.input_size", "none"), ("DrawnNumbers.asks", "list"), ("DrawnRelations.asks", "list"),
    ("DrawnWords.asks", "list"), ("MixtureConfig.categories", "mapping"),
}  # fmt: skip
"""Refused for what another field says, and that field is named."""


@cache
def recipes() -> tuple[Config, ...]:
    return quickstart.design(), eagle.x5_7b(), cambrian.RECIPES["8b"](), quickstart.search()


def configs(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Config]]:
    """Every config inside a value, with its path."""
    if isinstance(value, Config):
        yield path, value
        for name in type(value).model_fields:
            yield from configs(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from configs(one, (*path, name))
    elif isinstance(value, tuple):
        for number, one in enumerate(value):
            yield from configs(one, (*path, str(number)))


def leaves() -> dict[str, tuple[Config, tuple[str, ...], Config]]:
    """Recipe, path and holder of every field, one of each class and field."""
    found: dict[str, tuple[Config, tuple[str, ...], Config]] = {}
    for recipe in recipes():
        for path, config in configs(recipe):
            for name in type(config).model_fields:
                found.setdefault(f"{type(config).__name__}.{name}", (recipe, (*path, name), config))
    return found


def is_it(given: Any, wrong: Any) -> bool:
    return type(given) is type(wrong) and given == wrong


def refusal(cls: type[Config], data: dict[str, Any]) -> str | None:
    try:
        cls.parse(data)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("label", WRONG)
def test_a_wrong_value_is_refused_where_it_stands(label):
    wrong, accepted = WRONG[label], set()
    for leaf, (_, path, config) in leaves().items():
        data, name = config.to_dict(), path[-1]
        if is_it(data[name], wrong):
            continue
        message = refusal(type(config), {**data, name: wrong})
        if message is None:
            accepted.add(leaf)
            continue
        assert (name in message) is ((leaf, label) not in ELSEWHERE), (leaf, message)
        assert "\n" not in message, leaf
        assert len(message) < 1100, leaf
    assert accepted == set(ACCEPTED[label].split())


def refusals(chosen: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Leaf, label and message of those that the whole recipe refuses, set by their dotted path."""
    for leaf, label in chosen:
        recipe, path, config = leaves_of_all[leaf]
        if is_it(config.to_dict()[path[-1]], WRONG[label]):
            continue
        try:
            override(recipe, ".".join(path), WRONG[label])
        except ConfigError as error:
            yield leaf, label, str(error)


leaves_of_all: dict[str, tuple[Config, tuple[str, ...], Config]] = {}


def pairs() -> list[tuple[str, str]]:
    leaves_of_all.update(leaves())
    return [(leaf, label) for leaf in leaves_of_all for label in WRONG]


def test_the_whole_recipe_says_the_path():
    chosen = random.Random(0).sample(pairs(), 60)
    for leaf, label, message in refusals(chosen):
        path = leaves_of_all[leaf][1]
        assert path[-1] in message or (leaf, label) in ELSEWHERE, (leaf, label, message)


@pytest.mark.slow
def test_every_leaf_of_the_whole_recipes():
    found = list(refusals(pairs()))
    assert len(found) > 3000


def mutated(text: str, seed: int) -> str:
    """A text with one to four slips of a hand: something left out, doubled, turned round or put in."""
    chance = random.Random(seed)
    pieces = [
        ":",
        "-",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!",
        "#",
        "true",
        "1e999",
        ".nan",
        "0x",
        "<<: 1\n",
    ]
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(text)), chance.randint(0, 12)
        part = text[at : at + length]
        text = text[:at] + chance.choice([part * 2, part[::-1], chance.choice(pieces), ""]) + text[at + length :]
    return text


def parse_mutations(seeds: range, folder: Path) -> int:
    said, path = [], folder / "recipe.yaml"
    plain = quickstart.design().to_yaml()
    for seed in seeds:
        path.write_text(mutated(plain, seed), encoding="utf-8")
        try:
            Recipe.read(path)
        except ConfigError as error:
            said.append(str(error))
    assert all(line.startswith(str(path)) and "\n" not in line for line in said)
    return len(said)


def test_mutations_of_a_file_are_parsed_or_refused(tmp_path):
    assert 0 < parse_mutations(range(60), tmp_path) <= 60


@pytest.mark.slow
def test_many_mutations_of_a_file(tmp_path):
    assert parse_mutations(range(60, 4560), tmp_path) > 0
