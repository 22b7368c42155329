"""The Python reference is made of docstrings: every public name and every public method of a base class has one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import ommatidia

BASES = {
    "core.source": ("SourceConfig",),
    "eval": ("Benchmark", "BenchmarkConfig", "ScorerConfig"),
    "lab.search": ("Space", "Strategy"),
    "models.fusion": ("Fusion", "FusionConfig"),
    "models.injection": ("InjectionConfig",),
    "models.projector": ("ProjectorConfig",),
    "models.vision": ("EncoderConfig", "VisionEncoder"),
}


def public() -> dict[str, Any]:
    """What the package exports, and the base classes of parts that people write."""
    named = {name: getattr(ommatidia, name) for name in ommatidia.__all__}
    for module, names in BASES.items():
        named |= {name: getattr(import_module(f"ommatidia.{module}"), name) for name in names}
    return named


def methods(cls: type) -> Iterator[str]:
    """Public functions and properties that a class of ours defines or inherits from one of ours."""
    for base in cls.__mro__:
        for name, value in vars(base).items() if base.__module__.startswith("ommatidia.") else ():
            value = getattr(value, "__func__", getattr(value, "fget", getattr(value, "func", value)))
            if inspect.isfunction(value) and not name.startswith("_"):
                yield name


def documented(cls: type, name: str) -> bool:
    """Whether the method, or one of ours that it overrides, says what it does."""
    found = [
        vars(base)[name] for base in cls.__mro__ if base.__module__.startswith("ommatidia.") and name in vars(base)
    ]
    return any((getattr(value, "__doc__", None) or "").strip() for value in found)


def test_every_public_name_has_a_docstring() -> None:
    missing = [name for name, value in public().items() if not (value.__doc__ or "").strip()]
    for name, value in public().items():
        if inspect.isclass(value):
            missing += [f"{name}.{one}" for one in methods(value) if not documented(value, one)]
    assert not missing, "without a docstring:\n" + "\n".join(sorted(set(missing)))


def test_a_method_without_a_docstring_is_seen() -> None:
    class Bare:
        __module__ = "ommatidia.made_up"

        def silent(self) -> None: ...

        @property
        def said(self) -> int:
            """A number."""
            return 1

    assert list(methods(Bare)) == ["silent", "said"]
    assert not documented(Bare, "silent")
    assert documented(Bare, "said")
