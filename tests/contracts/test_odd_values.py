"""Whatever a field of any registered part is given, it is made or refused. A new part needs no test."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.lab.show.listing import FAMILIES
from ommatidia.models.vision.encoder import EncoderConfig, shape_and_cost

NEEDED: dict[str, dict[str, Any]] = {
    "weights file": {"path": "w.pt"}, "weights folder": {"path": "w"},
    "weights hub_file": {"id": "a/b", "file": "w.pt"},
    "weights package": {"package": "p", "distribution": "p", "file": "w.pt", "sha256": "0" * 64},
    "languages hf": {"path": "llm"}, "languages gguf": {"file": "llm.gguf"},
    "sources hf_dataset": {"path": "d"}, "sources interleaved": {"path": "d.jsonl"},
    "sources pairs": {"path": "d.jsonl"}, "sources llava_json": {"path": "d.json"}, "sources tokenised": {"path": "d"},
    "sources webdataset": {"shards": "d.tar"},
    "operations cap": {"most": 3}, "operations decontaminate": {"benchmarks": ["pope"]},
    "operations quality": {"field": "score", "keep": {"a": 0.5}}, "operations ratio": {"shares": {"a": 1.0}},
    "benchmark-kinds cv_bench": {"part": "2D"},
}  # fmt: skip
"""What a kind that has no default and no ``tiny()`` is made from here."""
OPEN = {
    "sources expert_text", "benchmark-kinds source",
    *(f"strategies {kind}" for kind in ("grid", "listed", "round_robin", "singles")),
}  # fmt: skip
"""They hold whole other configs, which are members here themselves or are swept in tests/lab/test_config_sweep.py."""
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=8),
    st.sampled_from([10**12, "x" * 300]),
    st.lists(st.one_of(st.integers(-1, 9), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-1, 9), max_size=2),
)  # fmt: skip


def examples() -> Iterator[tuple[str, type[Config], dict[str, Any]]]:
    for family, base in FAMILIES.items():
        for kind, member in base.kinds().items():
            name = f"{family} {kind}"
            if name in OPEN:
                continue
            made = member.tiny() if hasattr(member, "tiny") else member.parse({"kind": kind, **NEEDED.get(name, {})})
            yield name, base, made.to_dict()


EXAMPLES = {name: (base, data) for name, base, data in examples()}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def changed(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(data)
    holder: Any = whole
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return whole


@pytest.mark.parametrize("family", sorted({name.split()[0] for name in EXAMPLES}))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_is_taken_or_refused(family: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in EXAMPLES if name.split()[0] == family]))
    base, example = EXAMPLES[name]
    path = data.draw(st.sampled_from(list(leaves(example))))
    try:
        again = base.parse(changed(example, path, data.draw(ODD)))
    except ConfigError:
        return
    assert base.parse(again.to_dict()) == again


SMALL = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([0.5, -1.5, 1e12, "", "3", "banana", "gelu"]),
    st.lists(st.integers(-1, 9), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(-1, 9), max_size=1),
)  # fmt: skip
"""No integer so large that a library would make so many layers."""


@pytest.mark.parametrize("kind", sorted(EncoderConfig.kinds()))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_an_encoder_of_odd_values_is_built_or_refused(kind: str, data: st.DataObject) -> None:
    example = EXAMPLES[f"encoder-kinds {kind}"][1]
    path = data.draw(st.sampled_from(list(leaves(example))))
    try:
        with warnings.catch_warnings(action="ignore"):
            measured = shape_and_cost(EncoderConfig.parse(changed(example, path, data.draw(SMALL))))
    except ConfigError:
        return
    assert measured.grid.tokens >= 1


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_hidden_layers", "3", "num_hidden_layers"), ("patch_size", "banana", "patch_size"),
        ("hidden_size", 1e12, "hidden_size"), ("num_attention_heads", 0, "CLIPVisionModel"),
    ],
)  # fmt: skip
def test_what_transformers_refuses_is_named(field: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match="CLIPVisionModel") as caught:
        shape_and_cost(EncoderConfig.parse(changed(EXAMPLES["encoder-kinds hf"][1], ("config", field), value)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
